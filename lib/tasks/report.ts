// `report`: the HTML page of a run from its folder. Gathers numbers and pictures; lib/report draws them. What needs the prepared folder (pictures, lesion
// counts, anchors, an evaluation of stored detections) is left out where that folder is gone, and it is said.
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { parse } from 'yaml'
import { writeFileAtomic } from '../atomic-write.js'
import { defaultConfig, loadConfig } from '../config/load.js'
import { phasesOf } from '../config/phases.js'
import { presets } from '../config/presets.js'
import type { Config } from '../config/schema.js'
import { openRecords } from '../data/prepared.js'
import { pngToJpeg } from '../data/raster.js'
import { evaluateDetections, type Metrics } from '../evaluate/evaluate.js'
import type { ImageTruth } from '../evaluate/types.js'
import { configDifferences } from '../experiments/compare-runs.js'
import type { ShownEvaluation } from '../report/evaluation-sections.js'
import type { Picture } from '../report/page.js'
import { type RunReport, runReportHtml } from '../report/run-report.js'
import { readPredictions } from '../train/predictions.js'
import { parseResults } from '../train/results.js'
import { findRunFolder, type RunRecord, readRunRecord } from '../train/run-folder.js'
import { evaluationRules, imageTruth, type Predictions } from '../train/validate.js'
import { anchorReport } from './anchors.js'
import { metricRows } from './evaluate.js'
import { runGallery } from './gallery.js'
import { phaseBorders } from './run-pictures.js'

export interface ReportOptions {
  /** Default: report.html in the run folder. */
  out?: string
  title?: string
  notice?: string
  /** Folder of PNG pictures to show, such as the output of `predict`. */
  pictures?: string
  /** Images shown at most, 8 by default: misses, highest false alarms and hits in turn; of each up to three pictures. With `pictures`: pictures, 16. */
  gallery?: number
  /** Size of the page in megabytes (10^6 bytes), 20 by default; pictures beyond it are left out, and it is said. */
  maxMb?: number
  /** Extra rows of the summary. */
  facts?: [string, string][]
  commands?: string[]
}

/** Bytes that a page needs without its pictures. */
const PAGE_BYTES = 1.5e6

/** The truth and the stored detections of a run; null where one is missing. */
interface Scored {
  truth: ImageTruth[]
  detections: Predictions
  /** Part that the detections belong to. */
  split: string
}

/** Writes the page and resolves to its path. */
export async function writeReport(run: string, options: ReportOptions = {}): Promise<string> {
  const folder = await findRunFolder(run)
  const record = await readRunRecord(folder)
  const config = parse(await readFile(join(folder, 'config.resolved.yaml'), 'utf8')) as Config
  const history = parseResults(await readFile(join(folder, 'results.csv'), 'utf8').catch(() => ''))
  const root =
    config.data.root !== null && existsSync(join(config.data.root, 'prepared.json')) ? config.data.root : null
  const scored = root === null ? null : await storedDetections(folder, root, config)
  const evaluation = await evaluationOf(folder, config, scored)
  const phases = phasesOf(config)
  const { threshold, shown } = galleryThreshold(evaluation, config)
  const at = { ...config, predict: { ...config.predict, scoreThreshold: threshold } }
  const all = await picturesOf(root, scored, at, options)
  const budget = (options.maxMb ?? 20) * 1e6 - PAGE_BYTES
  const pictures = withinBytes(all, budget)
  const html = await runReportHtml({
    title: options.title ?? `Run ${record.name}`,
    notice:
      options.notice ??
      'Research software, not a medical device. Numbers are of this run on its own data; see the remarks beside them.',
    warnings: await warningsOf(folder, record, root, evaluation),
    facts: [
      ['status', record.status],
      [
        'model',
        `RetinaNet, ${config.model.backbone}, P${config.model.levels.join(', P')}, semantics ${config.model.semantics}`,
      ],
      ['epochs', String(history.length)],
      ['wall time', `${Math.round(record.wallSeconds ?? 0)} s`],
      ...(options.facts ?? []),
    ],
    history,
    phaseBorders: phaseBorders(phases),
    metrics:
      evaluation === null
        ? []
        : metricRows(evaluation.metrics).map(({ name, value, interval }) => [
            name,
            value === null ? 'undefined' : value.toFixed(4),
            interval ? `95 % interval ${interval[0].toFixed(3)} to ${interval[1].toFixed(3)} (patients resampled)` : '',
          ]),
    evaluation,
    differences: await differencesOf(record, config),
    data: await dataOf(folder, record, root, config),
    pictures,
    shown: options.pictures === undefined ? shown : '',
    omitted:
      pictures.length === all.length
        ? null
        : `${all.length - pictures.length} of ${all.length} pictures are left out to keep the page below ${options.maxMb ?? 20} MB (--max-mb).`,
    anchors: root === null ? null : await anchorsOf(root, config),
    time: timeOf(record, history),
    environment: environmentOf(record),
    commands: options.commands ?? [`mammo-retinanet train --config ${basename(folder)}/config.resolved.yaml`],
  })
  const out = options.out ?? join(folder, 'report.html')
  await writeFileAtomic(out, html)
  return out
}

/** Stored detections with the truth of their images; null without them or when the prepared folder holds other images. */
async function storedDetections(folder: string, root: string, config: Config): Promise<Scored | null> {
  const path = join(folder, 'eval', 'predictions.coco.json')
  if (!existsSync(path)) return null
  const { detections, info } = await readPredictions(path, config.data.classes)
  const { records } = await openRecords(root)
  const byId = new Map(records.map((record) => [record.id, record]))
  if (![...detections.keys()].every((id) => byId.has(id))) return null
  const truth = [...detections.keys()].map((id) => imageTruth(byId.get(id)!, config.data.classes))
  return { truth, detections, split: info.split ?? 'unknown' }
}

/** The last evaluation of the run, or one of its stored detections; null without both. */
async function evaluationOf(folder: string, config: Config, scored: Scored | null): Promise<ShownEvaluation | null> {
  const path = join(folder, 'eval', 'metrics.json')
  if (existsSync(path)) {
    const stored = JSON.parse(await readFile(path, 'utf8')) as Partial<Metrics> & { split?: string }
    // Files of earlier versions lack AFROC and intervals of strata; they are scored again below.
    if (stored.afroc !== undefined) return { about: `Part ${stored.split ?? 'unknown'}`, metrics: stored as Metrics }
  }
  if (scored === null) return null
  const { bootstrap } = config.evaluate
  const metrics = evaluateDetections(scored.truth, scored.detections, {
    ...evaluationRules(config),
    bootstrap: bootstrap === 0 ? null : { draws: bootstrap, seed: config.run.seed },
  })
  return { about: `Part ${scored.split}, detections of the best epoch`, metrics }
}

async function warningsOf(
  folder: string,
  record: RunRecord,
  root: string | null,
  evaluation: ShownEvaluation | null,
): Promise<string[]> {
  const text = await readFile(join(folder, 'data', 'summary.json'), 'utf8').catch(() => '{}')
  const { warnings = [] } = JSON.parse(text) as { warnings?: string[] }
  const lesions = evaluation?.metrics.counts.lesions
  return [
    ...(record.status === 'finished' ? [] : [`the run is ${record.status}`]),
    ...warnings,
    ...(root === null ? ['the prepared folder is gone: no pictures, lesion counts or anchors'] : []),
    ...(evaluation === null ? ['there are no stored detections of this run that could be scored'] : []),
    ...(lesions !== undefined && lesions < 50 ? [`only ${lesions} lesions were scored: the intervals are wide`] : []),
  ]
}

/** What this run changes: against the preset on its command line, or the defaults of its semantics. */
async function differencesOf(record: RunRecord, config: Config): Promise<RunReport['differences']> {
  const words = record.argv ?? []
  const preset = words.find((word, i) => word in presets && words[i - 1] !== '--name')
  const base =
    preset === undefined
      ? defaultConfig(config.model.semantics)
      : (await loadConfig({ preset, hasWeights: true })).config
  const against = preset === undefined ? `defaults of semantics ${config.model.semantics}` : `preset ${preset}`
  return {
    caption: `Keys that differ from the ${against}`,
    head: ['key', against, 'this run'],
    rows: configDifferences([{ config: base }, { config }]).map(({ key, values }) => [key, ...values]),
  }
}

interface SplitFile {
  method: string
  fold: number | null
  train: { id: string; patient: string }[]
  val: { id: string; patient: string }[]
  test: { id: string; patient: string }[]
}

async function dataOf(
  folder: string,
  record: RunRecord,
  root: string | null,
  config: Config,
): Promise<RunReport['data']> {
  const path = join(folder, 'data', 'split.json')
  if (!existsSync(path)) return { table: null, remark: 'The run folder holds no list of its images.' }
  const split = JSON.parse(await readFile(path, 'utf8')) as SplitFile
  const records = root === null ? [] : (await openRecords(root)).records
  const lesions = new Map(
    records.map((r) => [r.id, r.lesions.filter((l) => config.data.classes.includes(l.class) && !l.ignore).length]),
  )
  const parts = (['train', 'val', 'test'] as const).map((name) => ({ name, images: split[name] }))
  const patients = parts.map(({ images }) => new Set(images.map(({ patient }) => patient)))
  const shared = new Set(
    patients.flatMap((own, i) => [...own].filter((p) => patients.some((o, k) => k > i && o.has(p)))),
  )
  const dataset = (record.dataset ?? {}) as { adapter?: string; hash?: string; splitHash?: string }
  const count = (images: SplitFile['train'], of: (n: number) => number) =>
    records.length === 0 ? 'unknown' : images.reduce((sum, { id }) => sum + of(lesions.get(id) ?? 0), 0)
  const fold = split.fold === null ? '' : `, fold ${split.fold}`
  const hashes = `Split ${split.method}${fold}, hash ${(dataset.splitHash ?? 'unknown').slice(0, 12)}; dataset ${dataset.adapter ?? 'unknown'}, hash ${(dataset.hash ?? 'unknown').slice(0, 12)}.`
  return {
    table: {
      caption: 'Parts of the data',
      head: ['part', 'images', 'patients', 'lesions', 'images with a lesion'],
      rows: parts.map(({ name, images }, i) => [
        ...[name, images.length, patients[i]!.size],
        ...[count(images, (n) => n), count(images, (n) => Math.min(1, n))],
      ]),
    },
    remark: `${shared.size === 0 ? 'No patient is in two parts.' : `Patients in two parts: ${[...shared].join(', ')}.`} ${hashes}`,
  }
}

async function anchorsOf(root: string, config: Config): Promise<RunReport['anchors']> {
  const report = await anchorReport(root, { config }).catch(() => null)
  if (report === null || report.coverage.boxes.length === 0) return null
  const { coverage, sizes, missed, positiveIou } = report
  return {
    about: `${coverage.boxes.length} lesions at the scale of training, positive from IoU ${positiveIou}: ${missed.length} have no positive anchor; positives per lesion, median ${coverage.medianPositives}.`,
    sizes: {
      caption: 'Coverage by size',
      head: ['side in network pixels', 'lesions', 'with an anchor', 'recall', 'mean best IoU', 'least best IoU'],
      rows: sizes.map((s) => [
        ...[s.to === null ? `${s.from} and more` : `${s.from} to ${s.to}`, s.boxes, s.covered],
        ...[s.recall, s.meanBestIou, s.minimumBestIou].map((value) => value.toFixed(3)),
      ]),
    },
    levels: {
      caption: 'Levels',
      head: ['level', 'anchors per image', 'share', 'positive anchors', 'lesions only here'],
      rows: coverage.levels.map((l) => [
        ...[`P${l.level}`, Math.round(l.anchors), `${(100 * l.share).toFixed(1)} %`, l.positives, l.onlyHere],
      ]),
    },
  }
}

function timeOf(record: RunRecord, history: readonly Record<string, number>[]): [string, string][] {
  const mean = (column: string) => {
    const values = history.map((row) => row[column] ?? Number.NaN).filter(Number.isFinite)
    return values.length === 0 ? null : values.reduce((sum, v) => sum + v, 0) / values.length
  }
  const [epoch, waiting] = [mean('seconds'), mean('data_fraction')]
  const most = Math.max(0, ...history.map((row) => row['device_bytes'] ?? 0))
  return [
    ['started', record.startedAt ?? 'unknown'],
    ['ended', record.endedAt ?? 'not yet'],
    ['wall time', `${Math.round(record.wallSeconds ?? 0)} s`],
    ...(epoch === null ? [] : [['mean time of an epoch', `${epoch.toFixed(1)} s`] as [string, string]]),
    ...(waiting === null
      ? []
      : [['share of the time that waited for data', `${(100 * waiting).toFixed(1)} %`] as [string, string]]),
    ...(most === 0 ? [] : [['device memory', `${(most / 2 ** 30).toFixed(2)} GiB`] as [string, string]]),
    ...flatten('peak memory', record.peakMemory).map(([name, value]): [string, string] => {
      const bytes = Number(value)
      return [name, bytes > 2 ** 20 ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : value]
    }),
  ]
}

function environmentOf(record: RunRecord): [string, string][] {
  const { tool, addon, host, devices, env, seeds, numerics, init, parents } = record
  const parts = { tool, addon, host, device: devices, env, seeds, numerics, init, parents }
  return Object.entries(parts).flatMap(([name, value]) => flatten(name, value))
}

/** Rows of a tree: `host cpu`, `device 1 name`. */
function flatten(name: string, value: unknown): [string, string][] {
  if (value === null || value === undefined) return []
  if (typeof value !== 'object') return [[name, String(value)]]
  const entries = Object.entries(value)
  if (Array.isArray(value) && value.every((item) => typeof item !== 'object'))
    return value.length === 0 ? [] : [[name, value.join(', ')]]
  return entries.flatMap(([key, inner]) => flatten(`${name} ${Array.isArray(value) ? Number(key) + 1 : key}`, inner))
}

async function picturesOf(
  root: string | null,
  scored: Scored | null,
  config: Config,
  options: ReportOptions,
): Promise<Picture[]> {
  if (options.pictures !== undefined) return readPictures(options.pictures, options.gallery ?? 16)
  const count = options.gallery ?? 8
  if (root === null || scored === null || count === 0) return []
  return runGallery(root, scored.truth, scored.detections, config, count)
}

/** Threshold of the pictures: at most one false positive per image where that point is known, so that a picture can be read. */
function galleryThreshold(evaluation: ShownEvaluation | null, config: Config): { threshold: number; shown: string } {
  const point = evaluation?.metrics.operatingPoints.findLast(({ fppi }) => fppi !== null && fppi <= 1)
  if (point === undefined || point.threshold === null) {
    const threshold = config.predict.scoreThreshold
    return { threshold, shown: `Predictions above score ${threshold} (predict.scoreThreshold) are shown.` }
  }
  // Shown are scores strictly above; the point counts its own threshold in.
  const threshold = point.threshold * (1 - Number.EPSILON)
  const text = `Predictions from score ${point.threshold.toFixed(3)} are shown: at most ${point.fppi} false positives per image on these images.`
  return { threshold, shown: text }
}

/** The first pictures whose base64 text fits. */
function withinBytes(pictures: readonly Picture[], most: number): Picture[] {
  let sum = 0
  const end = pictures.findIndex(({ bytes }) => {
    sum += Math.ceil(bytes.length / 3) * 4
    return sum > most
  })
  return pictures.slice(0, end < 0 ? undefined : end)
}

/** PNG files of a folder as JPEG: a page with many pictures stays small. */
async function readPictures(folder: string, limit: number): Promise<Picture[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.png')).sort()
  return Promise.all(
    files.slice(0, limit).map(async (file) => ({
      bytes: await pngToJpeg(await readFile(join(folder, file))),
      type: 'image/jpeg' as const,
      caption: basename(file, '.png'),
      alt: `Mammogram ${basename(file, '.png')} with ground truth and predictions`,
    })),
  )
}
