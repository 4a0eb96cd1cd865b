// `compare`: reads what runs left behind, puts them beside each other and writes one page. Paired tests need stored detections of the
// same images and the prepared folder that they belong to; what is missing is said. Needs no addon.
import { existsSync, realpathSync } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, join, relative, resolve } from 'node:path'
import { parse } from 'yaml'
import { writeFileAtomic } from '../atomic-write.js'
import type { Config } from '../config/schema.js'
import { openRecords } from '../data/prepared.js'
import type { Part } from '../data/split.js'
import { UsageError } from '../errors.js'
import { type Comparison, compareDetections } from '../evaluate/compare.js'
import { pairedRecall, type RecallDifference } from '../evaluate/recall.js'
import type { Detection, ImageTruth } from '../evaluate/types.js'
import {
  type ComparedRun,
  comparisonWarnings,
  configDifferences,
  type Difference,
  environmentDifferences,
  FROC_SCORE,
  type GroupLine,
  groupHistories,
  groupLines,
  type MetricLine,
  metricLines,
} from '../experiments/compare-runs.js'
import { type ComparePage, comparePageHtml, type ReportTable } from '../report/compare-page.js'
import { readPredictions } from '../train/predictions.js'
import { parseResults } from '../train/results.js'
import { findRunFolder, readRunRecord } from '../train/run-folder.js'
import { evaluationRules, imageTruth } from '../train/validate.js'

export interface CompareRunsOptions {
  /** Configuration keys whose values make the groups of the plots. */
  by?: readonly string[]
  /** Column of results.csv of the table; default AP50, AP and the FROC score. */
  metric?: string
  /** Page to write; default compare.html in the current folder; null: none. */
  out?: string | null
  /** Resamples of patients for paired differences; 0: none. */
  bootstrap?: number
  /** Parts whose stored detections are paired, together; default: the part that each run scored while it was trained. */
  parts?: readonly Part[]
  /** Ascending sides, in pixels of the film, that part the lesions of the recall table. */
  sides?: readonly number[]
}

export interface PairedRuns {
  a: string
  b: string
  images: number
  comparison: Comparison
  /** Over all kept detections, at IoU 0.2 and 0.5. */
  recall: RecallDifference[]
}

/** IoUs of the recall table: roughly found, and found as AP50 counts. */
const RECALL_IOUS = [0.2, 0.5]

export interface CompareRunsResult {
  runs: string[]
  warnings: string[]
  differences: Difference[]
  /** Software, host, devices and variables that are not the same. */
  environment: Difference[]
  metrics: MetricLine[]
  /** Means over repeats; empty without `by`. */
  groups: GroupLine[]
  paired: PairedRuns[]
  /** Path of the page. */
  page: string | null
}

/** A run with the detections that it left and their ground truth; null where either is gone. */
export interface StoredRun extends ComparedRun {
  folder: string
  predictions: Map<string, Detection[]> | null
  truth: ImageTruth[] | null
}

/**
 * Compares runs with each other; the first is the one that the others are paired with. A folder of a sweep or of a cross-validation stands
 * for all its runs. Throws UsageError ARGUMENT for fewer than two runs or an unknown key.
 */
export async function compareRuns(
  targets: readonly string[],
  options: CompareRunsOptions = {},
): Promise<CompareRunsResult> {
  const folders = [...new Set((await Promise.all(targets.map(runFolders))).flat())]
  if (folders.length < 2) {
    throw new UsageError('ARGUMENT', `expected at least two runs, got ${folders.length}`, {
      fix: 'give run folders, or the folder of a sweep or of a cross-validation',
    })
  }
  const runs = await Promise.all(folders.map((folder, i) => readStoredRun(folder, nameIn(folders, i), options.parts)))
  const { by = [] } = options
  const warnings = comparisonWarnings(runs)
  const differences = configDifferences(runs)
  const environment = environmentDifferences(runs)
  const metrics = metricLines(
    runs,
    options.metric === undefined ? ['val/AP50', 'val/AP', FROC_SCORE] : [options.metric],
    by,
  )
  const groups = by.length === 0 ? [] : groupLines(metrics)
  const { paired, remark } = pairRuns(runs, options.bootstrap ?? 2000, options.sides ?? [])
  const result = { runs: folders, warnings, differences, environment, metrics, groups, paired }
  if (options.out === null) return { ...result, page: null }
  const page = resolve(options.out ?? 'compare.html')
  const command = `mammo-retinanet compare ${targets.join(' ')}${by.length > 0 ? ` --by ${by.join(',')}` : ''}`
  await writeFileAtomic(page, await comparePageHtml(pageOf(runs, result, remark, by, command)))
  return { ...result, page }
}

/** Run folders that a target means, without links to the same folder. */
async function runFolders(target: string): Promise<string[]> {
  const path = resolve(target)
  const below = async (folder: string): Promise<string[]> => {
    const names = (await readdir(folder).catch(() => [])).filter((name) => name !== 'latest').sort()
    return names.map((name) => join(folder, name)).filter((inner) => existsSync(join(inner, 'run.json')))
  }
  if (existsSync(join(path, 'sweep.json'))) {
    const trials = (await readdir(join(path, 'trials')).catch(() => [])).sort()
    return (
      await Promise.all(trials.map(async (trial) => (await below(join(path, 'trials', trial, 'train'))).slice(-1)))
    ).flat()
  }
  if (existsSync(join(path, 'cv.json'))) return below(path)
  const info = await stat(path).catch(() => undefined)
  return [realpathSync(await findRunFolder(info === undefined ? target : path))]
}

/** Folder name, or more of the path where names repeat. */
function nameIn(folders: readonly string[], i: number): string {
  const folder = folders[i]!
  const short = basename(folder)
  return folders.filter((other) => basename(other) === short).length === 1
    ? short
    : folder.split('/').slice(-3).join('/')
}

/**
 * Reads a finished or open run. With `parts` its detections are those of these parts together (`evaluate RUN --split PART` stores them), and null
 * when one is missing.
 */
export async function readStoredRun(folder: string, name: string, parts?: readonly Part[]): Promise<StoredRun> {
  const record = await readRunRecord(folder)
  const config = parse(await readFile(join(folder, 'config.resolved.yaml'), 'utf8')) as Config
  const history = parseResults(await readFile(join(folder, 'results.csv'), 'utf8').catch(() => ''))
  const { tool, addon, host, devices, env, numerics } = record
  const environment = { tool, addon, host, devices, env, numerics }
  const dataset = record.dataset as { splitHash?: string; fold?: number | null } | null
  const own = config.evaluate.split
  const paths = (parts ?? [own]).map((part) => join(folder, 'eval', part === own ? '' : part, 'predictions.coco.json'))
  const stored = paths.every((path) => existsSync(path))
    ? await Promise.all(paths.map((path) => readPredictions(path, config.data.classes)))
    : null
  const predictions = stored === null ? null : new Map(stored.flatMap(({ detections }) => [...detections]))
  const truth = predictions === null ? null : await truthFor(config, [...predictions.keys()])
  const masses = truth?.reduce((sum, image) => sum + image.boxes.filter((box) => !box.ignore).length, 0) ?? null
  return {
    ...{ folder, name, status: record.status, config, environment, history, predictions, truth, masses },
    ...{ splitHash: dataset?.splitHash ?? null, fold: dataset?.fold ?? null, images: predictions?.size ?? null },
  }
}

/** Ground truth of stored detections; null when the prepared folder is gone or holds other images. */
async function truthFor(config: Config, ids: readonly string[]): Promise<ImageTruth[] | null> {
  if (config.data.root === null) return null
  const set = await openRecords(config.data.root).catch(() => undefined)
  const records = new Map(set?.records.map((record) => [record.id, record]))
  if (!ids.every((id) => records.has(id))) return null
  return ids.map((id) => imageTruth(records.get(id)!, config.data.classes))
}

/** The first run against each other one that was scored on the same images. */
function pairRuns(
  runs: readonly StoredRun[],
  draws: number,
  sides: readonly number[],
): { paired: PairedRuns[]; remark: string } {
  const [first, ...others] = runs
  const paired: PairedRuns[] = []
  const left: string[] = []
  for (const other of others) {
    const { truth, predictions, config } = first!
    const same =
      predictions !== null &&
      other.predictions !== null &&
      predictions.size === other.predictions.size &&
      [...predictions.keys()].every((id) => other.predictions!.has(id))
    if (!same || truth === null || truth.length === 0) {
      left.push(other.name)
      continue
    }
    const rules = evaluationRules(config)
    const comparison = compareDetections(truth, predictions, other.predictions!, {
      ...{ classes: rules.classes.length, iou: rules.iou, scoreThreshold: rules.scoreThreshold, fppi: rules.fppi },
      ...{ maxDetections: rules.maxDetections, criterion: rules.criteria[0]!, credit: rules.credit },
      bootstrap: { draws, seed: config.run.seed },
    })
    const recall = pairedRecall(truth, predictions, other.predictions!, {
      ...{ ious: RECALL_IOUS, sides, maxDetections: rules.maxDetections, scoreThreshold: rules.scoreThreshold },
      bootstrap: { draws, seed: config.run.seed },
    })
    paired.push({ a: first!.name, b: other.name, images: truth.length, comparison, recall })
  }
  const how = `Each run against ${first!.name} on the same images: differences of AP and of lesions found with ${draws} paired resamples of patients, patients by McNemar's exact test. Not corrected for several comparisons.`
  const missing = ` Not paired, for lack of stored detections of the same images or of the prepared folder: ${left.join(', ')}.`
  return { paired, remark: (paired.length > 0 ? how : '') + (left.length > 0 ? missing : '') }
}

const three = (value: number | null) => (value === null ? 'undefined' : value.toFixed(3))
const signed = (value: number | null) => (value === null ? 'undefined' : `${value < 0 ? '' : '+'}${value.toFixed(3)}`)

/** The metric table as texts, for the page and for the terminal. */
export function metricTable(lines: readonly MetricLine[]): ReportTable[] {
  const head = ['run', 'best', 'epoch', 'last', 'mean of last 10', 'epochs', 'split', 'images', 'masses']
  return [...new Set(lines.map((line) => line.metric))].map((metric) => ({
    caption: metric,
    head,
    rows: lines
      .filter((line) => line.metric === metric)
      .map((line) => [
        ...[line.run, three(line.best), line.bestEpoch ?? '', three(line.last), three(line.mean10), line.epochs],
        ...[line.split, line.images ?? 'unknown', line.masses ?? 'unknown'],
      ]),
  }))
}

/** Means over the repeats of each group as texts. */
export function groupTables(lines: readonly GroupLine[]): ReportTable[] {
  const shown = ({ mean, interval }: GroupLine['best']) =>
    interval === null ? three(mean) : `${three(mean)} [${three(interval[0])}, ${three(interval[1])}]`
  return [...new Set(lines.map((line) => line.metric))].map((metric) => ({
    caption: `${metric}: mean over the runs of a group, with Student's 95 % interval`,
    head: ['group', 'runs', 'best', 'last', 'mean of last 10'],
    rows: lines
      .filter((line) => line.metric === metric)
      .map(({ group, best, last, mean10 }) => [group, best.n, shown(best), shown(last), shown(mean10)]),
  }))
}

/** Paired differences as texts. */
export function pairedTables(paired: readonly PairedRuns[]): ReportTable[] {
  return paired.flatMap((pair) => [differenceTable(pair), recallTable(pair)])
}

function differenceTable({ a, b, images, comparison }: PairedRuns): ReportTable {
  return {
    caption: `${b} against ${a}, ${images} images`,
    head: ['number', a, b, 'difference', '95 % interval', 'p', `patients: only ${a}`, `only ${b}`, 'p (McNemar)'],
    rows: [
      { name: 'AP50', ...comparison.ap, patients: undefined },
      ...comparison.lesions.map((row, i) => ({ name: `sens@${row.fppi}`, ...row, patients: comparison.patients[i]! })),
    ].map(({ name, a: before, b: after, difference, interval, p, patients }) => [
      ...[name, three(before), three(after), signed(difference)],
      interval === null ? '' : `${signed(interval.low)} to ${signed(interval.high)}`,
      p === null ? '' : p.toFixed(3),
      ...(patients === undefined ? ['', '', ''] : [patients.onlyA, patients.onlyB, patients.p.toFixed(3)]),
    ]),
  }
}

function recallTable({ a, b, images, recall }: PairedRuns): ReportTable {
  const lesionsOf = ({ from, to }: RecallDifference) =>
    to === null ? (from === 0 ? 'all' : `side from ${from}`) : `side ${from} to ${to}`
  return {
    caption: `recall over all kept detections, ${b} against ${a}, ${images} images`,
    head: ['IoU', 'lesions, side in pixels', 'number', a, b, 'difference', '95 % interval'],
    rows: recall.map((row) => [
      ...[row.iou, lesionsOf(row), row.lesions, three(row.a), three(row.b), signed(row.difference)],
      row.interval === null ? '' : `${signed(row.interval.low)} to ${signed(row.interval.high)}`,
    ]),
  }
}

function pageOf(
  runs: readonly StoredRun[],
  result: Omit<CompareRunsResult, 'page'>,
  remark: string,
  by: readonly string[],
  command: string,
): ComparePage {
  const plot = (title: string, column: string, yTitle: string, yDomain?: [number, number]) => {
    const groups = groupHistories(runs, column, by).map(({ group, ...rest }) => ({ name: group, ...rest }))
    return { title, xTitle: 'epoch', yTitle, groups, ...(yDomain === undefined ? {} : { yDomain }) }
  }
  const grouped = by.length > 0 ? ' Thin: single runs. Thick: mean of the runs of a group.' : ''
  const plots = [
    { plot: plot('Training loss', 'train/loss', 'loss'), caption: `Mean training loss per epoch.${grouped}` },
    { plot: plot('Validation loss', 'val/loss', 'loss'), caption: `Validation loss per evaluated epoch.${grouped}` },
    {
      plot: plot('Average precision', 'val/AP50', 'AP at IoU 0.5', [0, 1]),
      caption: `AP at IoU 0.5 per evaluated epoch.${grouped}`,
    },
    {
      plot: plot('FROC score', FROC_SCORE, 'mean sensitivity', [0, 1]),
      caption: `Mean sensitivity over the stated false positives per image.${grouped}`,
    },
  ]
  const differing = (caption: string, differences: readonly Difference[]) => ({
    caption,
    head: ['key', ...runs.map((run) => run.name)],
    rows: differences.map(({ key, values }) => [key, ...values]),
  })
  return {
    title: `Comparison of ${runs.length} runs`,
    warnings: result.warnings,
    differences: differing('Keys that differ', result.differences),
    environment: differing('Software, host, devices and variables that differ', result.environment),
    metrics: [...groupTables(result.groups), ...metricTable(result.metrics)],
    paired: { tables: pairedTables(result.paired), remark },
    plots: plots.filter(({ plot: { groups } }) => groups.length > 0),
    commands: [command, ...runs.map((run) => `mammo-retinanet report ${relative(process.cwd(), run.folder)}`)],
  }
}
