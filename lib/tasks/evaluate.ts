// `evaluate`: scores a run, a checkpoint, an exported model or stored predictions on a part of the prepared data, with intervals by
// resampling patients, and writes the numbers. It puts rooms together; detections come from the engine, from onnxruntime or from a file.
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import { native } from '../binding/session.js'
import { defaultConfig, leaves, loadConfig, valueAt } from '../config/load.js'
import { phasesOf } from '../config/phases.js'
import type { Config } from '../config/schema.js'
import { partIds, readCrop } from '../data/prepared.js'
import type { Part } from '../data/split.js'
import { UsageError } from '../errors.js'
import { type Estimate, evaluateDetections, type Metrics, scoredDetections } from '../evaluate/evaluate.js'
import { frocEvents } from '../evaluate/froc.js'
import type { ImageTruth } from '../evaluate/types.js'
import { fuseCopies } from '../predict/combine.js'
import { loadDetector } from '../predict/predictor.js'
import type { CheckpointMetadata } from '../train/checkpoints.js'
import { type Dataset, emptyPart, openDataset, scoringSampler, trainingIds } from '../train/data.js'
import { engineThreads } from '../train/environment.js'
import { readPredictions, writePredictions } from '../train/predictions.js'
import { evaluationPost, evaluationRules, type Predictions, scorePart, truthOf } from '../train/validate.js'
import { findCheckpoint, openCheckpointSession } from './checkpoint.js'

export interface EvaluateTaskOptions {
  split?: Part
  /** FROC criterion: `centre` or `iou:T`. */
  hit?: string
  credit?: 'all' | 'best'
  /** Resamples of patients for the intervals; 0: none. */
  bootstrap?: number
  /** Name of a row of the table -> smallest accepted value; what falls below is listed in the result. */
  failUnder?: Record<string, number>
  /** Folder of the results; default `eval` in the run folder (`eval/<split>` for another split than the run's); nowhere otherwise. */
  out?: string
  /** Overrides of the checkpoint's configuration, as `--set`. */
  set?: Record<string, unknown>
  /** Rules and data for an ONNX model or stored predictions; default: the defaults with `set`. */
  config?: Config
  device?: string
  threads?: number
  /** Test-time views beside the plain image: `hflip`, and for checkpoints `scale:F`. Their detections are fused; the results go to `tta`. */
  tta?: readonly string[]
  /** Images of all views together. */
  onProgress?: (done: number, total: number) => void
}

/** A copy of each image that is predicted too. */
interface TestView {
  name: string
  mirrored: boolean
  scale: number
}

const PLAIN: TestView = { name: 'plain', mirrored: false, scale: 1 }

/** One line of the table. */
export interface MetricRow {
  name: string
  /** null: undefined, for lack of lesions. */
  value: number | null
  interval: [number, number] | null
}

export interface EvaluateResult {
  kind: 'checkpoint' | 'onnx' | 'predictions'
  /** File that was scored. */
  source: string
  split: Part
  images: number
  metrics: { ap50: number | null; ap: number | null; sensitivity: { fppi: number; value: number | null }[] }
  rows: MetricRow[]
  details: Metrics
  /** Mean seconds per image by stage; empty for stored predictions. */
  seconds: Record<string, number>
  /** Rows of `failUnder` that are below, or undefined. */
  failed: { name: string; value: number | null; least: number }[]
  /** What makes the numbers doubtful. */
  warnings: string[]
  /** Folder of the written files; null when none were asked for. */
  directory: string | null
}

export interface Scored {
  kind: EvaluateResult['kind']
  source: string
  config: Config
  predictions: Predictions
  /** By name of the view, where there are several: what `predictions` were fused from. */
  views: Map<string, Predictions>
  seconds: Record<string, number>
  warnings: string[]
  /** Default folder of the results. */
  home: string | null
}

/** Scores `target`. Rejects with UsageError for an unknown target or metric name, DataError for unusable data or files. */
export async function evaluate(target: string, options: EvaluateTaskOptions = {}): Promise<EvaluateResult> {
  const path = resolve(target)
  const info = await stat(path).catch(() => undefined)
  if (info === undefined) {
    throw new UsageError(
      'ARGUMENT',
      'expected a run, a checkpoint, an ONNX model or predictions, nothing exists there',
      { where: target, fix: 'check the path' },
    )
  }
  const opened = await openTarget(path, info.isDirectory(), options)
  const { config } = opened
  const split = config.evaluate.split
  const dataset = await openDataset(config)
  try {
    if (opened.metadata !== undefined) dataset.statistics = opened.metadata.provenance.normalise
    const ids = split === 'train' ? trainingIds(dataset, config) : partIds(dataset.set, split, config.data.fold)
    if (ids.length === 0) throw emptyPart(dataset, split)
    const scored = await opened.score(dataset, ids)
    const { bootstrap } = config.evaluate
    const truth = truthOf(dataset, config, ids)
    const details = evaluateDetections(truth, scored.predictions, {
      ...evaluationRules(config),
      bootstrap: bootstrap === 0 ? null : { draws: bootstrap, seed: config.run.seed },
    })
    const rows = metricRows(details)
    const failed = below(rows, options.failUnder ?? {})
    const warnings = [...dataset.warnings, ...scored.warnings]
    const parts = [...(opened.ownSplit === split ? [] : [split]), ...(scored.views.size > 0 ? ['tta'] : [])]
    const home = scored.home === null ? null : join(scored.home, ...parts)
    const directory = options.out === undefined ? home : resolve(options.out)
    const result: EvaluateResult = {
      ...{ kind: scored.kind, source: scored.source, split, images: ids.length, metrics: keyNumbers(details), rows },
      ...{ details, seconds: scored.seconds, failed, warnings, directory },
    }
    if (directory !== null) await writeResults(directory, result, truth, scored, config)
    return result
  } finally {
    await dataset.close()
  }
}

interface Target {
  config: Config
  metadata?: CheckpointMetadata
  /** Split that the run itself is scored on. */
  ownSplit: Part | null
  score(dataset: Dataset, ids: readonly string[]): Promise<Scored>
}

async function openTarget(path: string, isFolder: boolean, options: EvaluateTaskOptions): Promise<Target> {
  if (!isFolder && path.endsWith('.json')) {
    if (options.tta !== undefined) {
      throw new UsageError('ARGUMENT', 'stored predictions cannot be predicted again, got --tta', {
        where: path,
        fix: 'give the run or the model, or fuse several files with `sweep infer`',
      })
    }
    const config = await withOptions(options.config ?? defaultConfig(), options)
    return { config, ownSplit: null, score: (_, ids) => scoreStored(path, config, ids) }
  }
  if (!isFolder && path.endsWith('.onnx')) {
    const config = await withOptions(options.config ?? defaultConfig(), options)
    return { config, ownSplit: null, score: (dataset, ids) => scoreOnnx(path, config, dataset, ids, options) }
  }
  const { metadata, path: checkpoint } = await findCheckpoint(path)
  const config = await withOptions(metadata.config, options)
  return {
    config,
    metadata,
    ownSplit: metadata.config.evaluate.split === 'train' ? 'train' : 'val',
    score: (dataset, ids) => scoreCheckpoint({ path: checkpoint, metadata }, config, dataset, ids, options),
  }
}

/** The configuration with the options and `set` applied and checked again. */
async function withOptions(base: Config, options: EvaluateTaskOptions): Promise<Config> {
  const given: Record<string, unknown> = {
    'evaluate.split': options.split,
    'evaluate.hit': options.hit,
    'evaluate.frocCredit': options.credit,
    'evaluate.bootstrap': options.bootstrap,
    'run.device': options.device,
    'run.threads': options.threads,
  }
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  // Texts are parsed as YAML, as on the command line; those of a configuration are values already.
  const plain = (value: unknown) => (typeof value === 'string' ? JSON.stringify(value) : value)
  const all = Object.fromEntries(leaves(base as never).map((key) => [key, plain(valueAt(base, key))]))
  return (await loadConfig({ set: { ...all, ...options.set, ...set }, hasWeights: true })).config
}

async function scoreStored(path: string, config: Config, ids: readonly string[]): Promise<Scored> {
  const { detections, info } = await readPredictions(path, config.data.classes)
  const wanted = new Set(ids)
  const warnings: string[] = []
  const missing = ids.filter((id) => !detections.has(id)).length
  if (missing > 0)
    warnings.push(`${missing} of ${ids.length} images have no entry in the file and count as without detections`)
  const others = [...detections.keys()].filter((id) => !wanted.has(id)).length
  if (others > 0) warnings.push(`${others} images of the file are not in this part and are left out`)
  if (info.scoreThreshold !== undefined && info.scoreThreshold > config.evaluate.scoreThreshold) {
    warnings.push(
      `the file holds scores above ${info.scoreThreshold} only, evaluate.scoreThreshold is ${config.evaluate.scoreThreshold}`,
    )
  }
  const predictions: Predictions = new Map(ids.map((id) => [id, detections.get(id) ?? []]))
  const views = new Map<string, Predictions>()
  return { kind: 'predictions', source: path, config, predictions, views, seconds: {}, warnings, home: null }
}

async function scoreCheckpoint(
  checkpoint: { path: string; metadata: CheckpointMetadata },
  config: Config,
  dataset: Dataset,
  ids: readonly string[],
  options: EvaluateTaskOptions,
): Promise<Scored> {
  const { path, metadata } = checkpoint
  const saved = metadata.provenance.dataset
  const warnings: string[] = []
  if (saved.splitHash !== dataset.set.header.splitHash || saved.fold !== config.data.fold) {
    warnings.push('the split is not the one the model was trained on: images of this part may have been trained on')
  }
  await native().configure(engineThreads(config.run.threads).count)
  const session = await openCheckpointSession({ path, metadata }, (c) => {
    c.run.device = config.run.device
    c.run.precision = config.run.precision
  })
  try {
    await session.update({ post: evaluationPost(config) })
    const copies = testViews(options.tta)
    const views = new Map<string, Predictions>()
    const seconds: Record<string, number> = {}
    for (const [i, view] of copies.entries()) {
      const sampler = scoringSampler(dataset, config, ids, phasesOf(config).at(-1)!.strategy, view)
      const scores = await scorePart(session, dataset, config, sampler, {
        withLoss: false,
        stopped: () => false,
        onImage: (done) => options.onProgress?.(i * ids.length + done, copies.length * ids.length),
      })
      views.set(view.name, scores!.predictions)
      for (const [stage, s] of Object.entries(scores!.seconds)) seconds[stage] = (seconds[stage] ?? 0) + s
    }
    const run = dirname(dirname(path))
    const home = existsSync(join(run, 'run.json')) ? join(run, 'eval') : null
    return { kind: 'checkpoint', source: path, config, ...fused(views, config), seconds, warnings, home }
  } finally {
    await session.dispose()
  }
}

/** The plain image and the views of `--tta`. Throws UsageError ARGUMENT for one that is not known. */
function testViews(names: readonly string[] = []): TestView[] {
  const views = names.map((name): TestView => {
    const scale = /^scale:(\d*\.?\d+)$/.exec(name)?.[1]
    if (name === 'hflip') return { name, mirrored: true, scale: 1 }
    if (scale !== undefined && Number(scale) > 0 && Number(scale) !== 1)
      return { name: `scale-${scale}`, mirrored: false, scale: Number(scale) }
    throw new UsageError('ARGUMENT', `--tta: expected hflip or scale:F, got "${name}"`, {
      fix: 'list views with commas, such as --tta hflip,scale:1.25',
    })
  })
  const all = [PLAIN, ...views]
  if (new Set(all.map(({ name }) => name)).size < all.length)
    throw new UsageError('ARGUMENT', `--tta: expected each view once, got ${names.join(',')}`)
  return all
}

/** Detections of all views as one list for each image; of a single view, its own. */
function fused(views: Map<string, Predictions>, config: Config): Pick<Scored, 'predictions' | 'views'> {
  const copies = [...views.values()]
  if (copies.length === 1) return { predictions: copies[0]!, views: new Map() }
  const { scoreThreshold, maxDetections } = config.evaluate
  const predictions: Predictions = new Map()
  for (const id of copies[0]!.keys()) {
    const list = fuseCopies(copies.map((copy) => copy.get(id)!)).filter(({ score }) => score > scoreThreshold)
    predictions.set(id, list.slice(0, maxDetections))
  }
  return { predictions, views }
}

/** Detections of an exported model on prepared images. */
export async function scoreOnnx(
  path: string,
  config: Config,
  dataset: Dataset,
  ids: readonly string[],
  options: EvaluateTaskOptions,
): Promise<Scored> {
  const detector = await loadDetector(path, options.threads === undefined ? {} : { threadsPerWorker: options.threads })
  try {
    const records = new Map(dataset.set.records.map((record) => [record.id, record]))
    const warnings: string[] = []
    const { scoreFloor } = detector.manifest.output
    if (scoreFloor > config.evaluate.scoreThreshold) {
      warnings.push(
        `the graph keeps scores above ${scoreFloor} only, evaluate.scoreThreshold is ${config.evaluate.scoreThreshold}`,
      )
    }
    const copies = testViews(options.tta)
    const scaled = copies.find(({ scale }) => scale !== 1)
    if (scaled !== undefined) {
      throw new UsageError('ARGUMENT', `an exported model has one scale, got --tta ${scaled.name}`, {
        fix: 'give the run, or --tta hflip',
      })
    }
    const views = new Map(copies.map(({ name }): [string, Predictions] => [name, new Map()]))
    const seconds: Record<string, number> = {}
    for (const [i, id] of ids.entries()) {
      const record = records.get(id)!
      const { pixels, width, height } = await readCrop(dataset.reader, record)
      const [dx, dy] = record.cache.crop
      for (const [k, view] of copies.entries()) {
        const prediction = await detector.predict(
          {
            ...{ data: view.mirrored ? mirrorRows(pixels, width) : pixels },
            ...{ width, height, spacingMm: record.spacingMm, id },
          },
          // Prepared images are cut already when the folder was prepared so; cutting twice would shrink the margin.
          {
            threshold: Math.max(scoreFloor, config.evaluate.scoreThreshold),
            ...(dataset.set.header.options.crop ? { crop: false } : {}),
          },
        )
        const found = prediction.detections.flatMap(({ box: [left, y1, right, y2], score, label }) => {
          const index = config.data.classes.indexOf(label)
          const [x1, x2] = view.mirrored ? [width - right, width - left] : [left, right]
          return index < 0
            ? []
            : [{ box: [x1 + dx, y1 + dy, x2 + dx, y2 + dy] as [number, number, number, number], score, label: index }]
        })
        views.get(view.name)!.set(id, found)
        for (const [stage, ms] of Object.entries(prediction.timingsMs)) {
          seconds[stage] = (seconds[stage] ?? 0) + ms / 1000 / ids.length
        }
        options.onProgress?.(i * copies.length + k + 1, ids.length * copies.length)
      }
    }
    return { kind: 'onnx', source: path, config, ...fused(views, config), seconds, warnings, home: null }
  } finally {
    await detector.close()
  }
}

function mirrorRows(pixels: Uint16Array, width: number): Uint16Array {
  const mirrored = Uint16Array.from(pixels)
  for (let at = 0; at < mirrored.length; at += width) mirrored.subarray(at, at + width).reverse()
  return mirrored
}

function keyNumbers(details: Metrics): EvaluateResult['metrics'] {
  return {
    ap50: details.voc.map.value,
    ap: details.coco.AP.value,
    sensitivity: mainFroc(details).map(({ fppi, sensitivity }) => ({ fppi, value: sensitivity.value })),
  }
}

/** The curve of the first criterion, over lesions, false positives of all images. */
function mainFroc(details: Metrics): { fppi: number; sensitivity: Estimate }[] {
  const main = details.options.criteria[0]
  return details.froc.find((f) => f.criterion === main && f.unit === 'lesion' && f.falsePositives === 'all')!.points
}

/** The numbers that people compare, by the names of results.csv without `val/`. */
export function metricRows(details: Metrics): MetricRow[] {
  const row = (name: string, { value, interval }: Estimate): MetricRow => ({
    name,
    value,
    interval: interval === null ? null : [interval.low, interval.high],
  })
  return [
    row('AP50', details.voc.map),
    row('AP', details.coco.AP),
    row('AP75', details.coco.AP75),
    row('AP10', details.coco.AP10),
    ...mainFroc(details).map(({ fppi, sensitivity }) => row(`sens@${fppi}`, sensitivity)),
    row('AFROC', details.afroc.massFree),
    row('AFROC(all)', details.afroc.all),
    row('AUC(image)', details.reading.image),
    row('AUC(patient)', details.reading.patient),
  ]
}

function below(rows: readonly MetricRow[], failUnder: Record<string, number>): EvaluateResult['failed'] {
  return Object.entries(failUnder).flatMap(([name, least]) => {
    const row = rows.find((r) => r.name === name)
    if (row === undefined) {
      const names = rows.map((r) => r.name).join(', ')
      throw new UsageError('ARGUMENT', `--fail-under: unknown metric "${name}"`, { fix: `use one of ${names}` })
    }
    return row.value === null || row.value < least ? [{ name, value: row.value, least }] : []
  })
}

async function writeResults(
  folder: string,
  result: EvaluateResult,
  truth: readonly ImageTruth[],
  scored: Scored,
  config: Config,
): Promise<void> {
  const { split, source, images, rows, seconds, warnings, details } = result
  const head = { schema: 'mammo-retinanet/metrics@1', source, split, images, rows, seconds, warnings }
  const { froc } = details.curves
  const write = (name: string, text: string) => writeFileAtomic(join(folder, name), text)
  await write('metrics.json', `${JSON.stringify({ ...head, ...details }, null, 1)}\n`)
  const points = mainFroc(details)
  const curve = { fppi: points.map((p) => p.fppi), sensitivity: points.map((p) => p.sensitivity.value) }
  await write('summary.json', `${JSON.stringify({ ...head, froc: curve }, null, 1)}\n`)
  await write('froc.csv', frocCsv(froc, images, details.counts.lesions))
  await write('perImage.csv', perImageCsv(truth, scored.predictions, config))
  if (scored.kind === 'predictions') return
  const info = { split, source, scoreThreshold: config.evaluate.scoreThreshold, nmsIou: config.predict.nmsIou }
  const store = (name: string, detections: Predictions) =>
    writePredictions(join(folder, name), { info, detections }, config.data.classes)
  await store('predictions.coco.json', scored.predictions)
  for (const [view, detections] of scored.views) await store(`predictions.${view}.coco.json`, detections)
}

function frocCsv(points: Metrics['curves']['froc'], images: number, lesions: number): string {
  const lines = points.map(({ threshold, found, falsePositives }) => {
    const sensitivity = lesions === 0 ? '' : six(found / lesions)
    return `${threshold},${six(falsePositives / images)},${sensitivity},${found},${falsePositives}`
  })
  return `${['threshold,fppi,sensitivity,found,falsePositives', ...lines].join('\n')}\n`
}

/** Per image: what was there, what was found, the scores that decide. A missed lesion has an empty score. */
function perImageCsv(truth: readonly ImageTruth[], predictions: Predictions, config: Config): string {
  const rules = evaluationRules(config)
  const scored = scoredDetections(truth, predictions, rules)
  const events = frocEvents(truth, scored, { criterion: rules.criteria[0]!, credit: rules.credit })
  const lesionScores: number[][] = truth.map(() => [])
  for (const [i, image] of events.lesionImage.entries()) lesionScores[image]!.push(events.lesionScore[i]!)
  const falseScores: number[][] = truth.map(() => [])
  for (const [i, image] of events.falseImage.entries()) falseScores[image]!.push(events.falseScore[i]!)
  const lines = truth.map(({ id, view }, i) => {
    const scores = lesionScores[i]!
    const found = scores.filter(Number.isFinite)
    const top = falseScores[i]!.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
    const cells = [
      id,
      view ?? '',
      scores.length,
      found.length,
      scores.map(six).join(' '),
      scored.get(id)!.length,
      falseScores[i]!.length,
      six(top),
    ]
    return cells.join(',')
  })
  return `${['id,view,lesions,found,lesionScores,detections,falsePositives,topFalseScore', ...lines].join('\n')}\n`
}

function six(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(6))) : ''
}
