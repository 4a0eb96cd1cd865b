// fp16 and int8 variants of an exported model: calibration on training images, measurement on validation images against the fp32
// model, paired. Puts rooms together; the rewriting is lib/onnx/precision.ts.
import { createHash } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { cpus } from 'node:os'
import type { Config } from '../config/schema.js'
import { partIds, readCrop } from '../data/prepared.js'
import { ExportError, UsageError } from '../errors.js'
import { compareDetections, type PairedDifference } from '../evaluate/compare.js'
import { scoredDetections } from '../evaluate/evaluate.js'
import { frocEvents, thresholdAt } from '../evaluate/froc.js'
import { calibrateEvents } from '../evaluate/logistic-calibration.js'
import { operatingPoints, sensitivityIntervals } from '../evaluate/operating-points.js'
import { groupImages } from '../evaluate/types.js'
import { area, centre, iou } from '../geometry/boxes.js'
import { calibrate } from '../onnx/calibrate.js'
import {
  type ExportResult,
  unverifiedRecord,
  type WriteModelOptions,
  writeManifest,
  writeModel,
} from '../onnx/export.js'
import { type AccuracyRecord, CALIBRATION_METHODS, type ModelManifest, manifestPath } from '../onnx/manifest.js'
import { planQuantisation, quantise, toFloat16 } from '../onnx/precision.js'
import type { Tensor } from '../onnx/runtime.js'
import { fillInputs, planInput } from '../predict/preprocess.js'
import { type Dataset, openDataset, trainingIds } from '../train/data.js'
import { evaluationRules, type Predictions, truthOf } from '../train/validate.js'
import { scoreOnnx } from './evaluate.js'

export type Variant = 'fp16' | 'int8'

export interface VariantOptions {
  variants: readonly Variant[]
  /** Training images for the ranges of activations; 48 by default. */
  calibrationImages?: number
  /** 100 for the extreme values; 99.999 by default. */
  percentile?: number
  weightBits?: 7 | 8
  /** Largest accepted loss of AP50 or of any reported sensitivity; 0.05 by default. */
  maxDrop?: number
  /** Validation images; all by default. */
  limit?: number
  threads: number
  log: (line: string) => void
}

export interface VariantResult {
  precision: Variant
  model: ExportResult
  manifest: ModelManifest
  manifestPath: string
}

/** FP/image whose sensitivity is compared, as far as the configuration has them. */
const REPORTED_FPPI = [0.5, 1, 2]
const DRAWS = 1000
/** Longer side of calibration inputs; larger images give their fullest tile. */
const CALIBRATION_SIDE = 1024

/**
 * Measures a fp32 model on the validation images, writes its operating points into its manifest, then writes and measures variants of
 * it. The model lies with its manifest at `base.path`. Throws ExportError PRECISION_LOSS when one
 * loses more than `maxDrop` (its manifest is removed then), UsageError ARGUMENT without prepared data.
 */
export async function exportVariants(
  base: ExportResult,
  baseManifest: ModelManifest,
  write: WriteModelOptions,
  config: Config,
  options: VariantOptions,
): Promise<VariantResult[]> {
  if (config.data.root === null) {
    throw new UsageError('ARGUMENT', 'expected the prepared data of the training, got none', {
      fix: 'name it with --set data.root=DIR: fp16 and int8 are measured on its validation images',
    })
  }
  const { log, threads, maxDrop = 0.05 } = options
  const dataset = await openDataset(config)
  try {
    const ids = partIds(dataset.set, 'val', config.data.fold).slice(0, options.limit)
    const score = async (path: string, name: string) => {
      let last = 0
      const onProgress = (done: number, total: number) => {
        if (done - last < 50 && done < total) return
        last = done
        log(`${name}: ${done}/${total} validation images`)
      }
      return scoreOnnx(path, config, dataset, ids, { threads, onProgress })
    }
    const truth = truthOf(dataset, config, ids)
    const reference = await score(base.path, 'fp32')
    const measure = (predictions: Predictions) => measuredScores(truth, predictions, config, baseManifest)
    await writeManifest(base, baseManifest.parity, measure(reference.predictions))
    const results: VariantResult[] = []
    for (const precision of options.variants) {
      const out = base.path.replace(/\.onnx$/i, `.${precision}.onnx`)
      const calibration = precision === 'int8' ? await ranges(base, baseManifest, dataset, config, options, out) : null
      const convert =
        calibration === null
          ? toFloat16
          : (model: ExportResult['message']) =>
              quantise(model, planQuantisation(model), calibration.ranges, { weightBits: calibration.weightBits })
      const model = await writeModel({ ...write, out, variant: { precision, convert } })
      const record = unverifiedRecord(`${precision} is measured against fp32 instead of compared box by box`)
      await writeManifest(model, record)
      const scored = await score(out, precision)
      const accuracy: AccuracyRecord = {
        images: ids.length,
        split: 'val',
        calibration:
          calibration === null
            ? null
            : { method: calibration.method, weightBits: calibration.weightBits, images: calibration.images },
        ...compareWith(truth, reference.predictions, scored.predictions, config),
        networkSeconds: { fp32: reference.seconds['network'] ?? 0, value: scored.seconds['network'] ?? 0 },
        bytes: { fp32: base.bytes, value: model.bytes },
        cpu: cpus()[0]?.model ?? null,
      }
      const written = await writeManifest(model, record, { accuracy, ...measure(scored.predictions) })
      const worst = Math.min(...[accuracy.ap50, ...accuracy.sensitivity].map((d) => d.difference ?? 0))
      if (worst < -maxDrop) {
        await rm(manifestPath(out), { force: true })
        throw new ExportError(
          'PRECISION_LOSS',
          `expected a loss of at most ${maxDrop}, ${precision} loses ${(-worst).toFixed(3)}`,
          {
            where: out,
            fix: 'calibrate on more images, or accept it with --max-drop',
            details: { accuracy },
          },
        )
      }
      results.push({ precision, model, ...written })
    }
    return results
  } finally {
    await dataset.close()
  }
}

/** What the scores of stored detections mean, for the manifest: operating points, and the calibration of being a mass. */
export function measuredScores(
  truth: ReturnType<typeof truthOf>,
  predictions: Predictions,
  config: Config,
  manifest: Pick<ModelManifest, 'pipeline' | 'input'>,
): Pick<ModelManifest, 'operatingPoints' | 'calibration'> {
  const rules = evaluationRules(config)
  const events = frocEvents(truth, scoredDetections(truth, predictions, rules), {
    criterion: rules.criteria[0]!,
    credit: rules.credit,
  })
  const fit = calibrateEvents(events)
  const calibration: ModelManifest['calibration'] =
    fit === null
      ? 'none'
      : {
          method: CALIBRATION_METHODS.certainty,
          parameters: [fit.slope, fit.offset],
          data: `${truth.length} validation images: ${fit.hits} found lesions, ${fit.falsePositives} false positives`,
        }
  const points = operatingPoints(events, rules.fppi).flatMap(({ threshold, sensitivity, falsePositivesPerImage }) =>
    threshold === null || sensitivity === null || falsePositivesPerImage === null
      ? []
      : [{ threshold, sensitivity, falsePositivesPerImage }],
  )
  const thresholds = points.map(({ threshold }) => threshold)
  const bootstrap = { draws: DRAWS, seed: config.run.seed }
  const intervals = sensitivityIntervals(events, thresholds, groupImages(truth).patient, bootstrap)
  const measured = points.map((point, i): ModelManifest['operatingPoints'][number] => {
    const interval = intervals[i]
    return {
      ...point,
      images: truth.length,
      interval: interval ? [interval.low, interval.high] : null,
      pipelineHash: pipelineHash(manifest),
    }
  })
  return { operatingPoints: measured, calibration }
}

function pipelineHash({ pipeline, input }: Pick<ModelManifest, 'pipeline' | 'input'>): string {
  const text = JSON.stringify({ pipeline, crop: input.crop, resize: input.resize, normalise: input.normalise })
  return createHash('sha256').update(text).digest('hex')
}

/** Differences of AP and sensitivity with paired intervals, recall by thirds of the lesions' sizes, the largest change of a score. */
function compareWith(
  truth: ReturnType<typeof truthOf>,
  reference: Predictions,
  other: Predictions,
  config: Config,
): Pick<AccuracyRecord, 'ap50' | 'sensitivity' | 'recallBySize' | 'worstScoreChange'> {
  const rules = evaluationRules(config)
  const fppi = REPORTED_FPPI.filter((f) => rules.fppi.includes(f))
  const comparison = compareDetections(truth, reference, other, {
    ...{ classes: rules.classes.length, iou: rules.iou, scoreThreshold: rules.scoreThreshold, fppi },
    ...{ maxDetections: rules.maxDetections, criterion: rules.criteria[0]!, credit: rules.credit },
    bootstrap: { draws: DRAWS, seed: config.run.seed },
  })
  const plain = ({ a, b, difference, interval }: PairedDifference) => ({
    ...{ fp32: a, value: b, difference },
    interval: interval === null ? null : ([interval.low, interval.high] as [number, number]),
  })
  return {
    ap50: plain(comparison.ap),
    sensitivity: comparison.lesions.map((row) => ({ fppi: row.fppi, ...plain(row) })),
    recallBySize: recallBySize(truth, [reference, other], config),
    worstScoreChange: worstScoreChange(reference, other),
  }
}

/** Share of lesions with a detection's centre in them at one false positive per image, each model at its own threshold. */
function recallBySize(
  truth: ReturnType<typeof truthOf>,
  models: readonly [Predictions, Predictions],
  config: Config,
): AccuracyRecord['recallBySize'] {
  const rules = evaluationRules(config)
  const lesions = truth.flatMap(({ id, boxes }) => boxes.filter((b) => !b.ignore).map((b) => ({ id, box: b.box })))
  lesions.sort((a, b) => area(a.box) - area(b.box))
  const found = models.map((predictions) => {
    const events = frocEvents(truth, scoredDetections(truth, predictions, rules), {
      criterion: rules.criteria[0]!,
      credit: rules.credit,
    })
    const threshold = thresholdAt(events, 1) ?? Number.POSITIVE_INFINITY
    return lesions.map(({ id, box }) =>
      (predictions.get(id) ?? []).some((detection) => {
        const [x, y] = centre(detection.box)
        return detection.score >= threshold && x >= box[0] && x <= box[2] && y >= box[1] && y <= box[3]
      }),
    )
  })
  const cuts = [0, Math.round(lesions.length / 3), Math.round((2 * lesions.length) / 3), lesions.length]
  return ['smallest third', 'middle third', 'largest third'].map((size, i) => {
    const [from, to] = [cuts[i]!, cuts[i + 1]!]
    const share = (hits: readonly boolean[]) => hits.slice(from, to).filter(Boolean).length / Math.max(1, to - from)
    return { size, lesions: to - from, fp32: share(found[0]!), value: share(found[1]!) }
  })
}

/** Of pairs of detections that are the same finding: same class, IoU at least 0.9. */
function worstScoreChange(reference: Predictions, other: Predictions): number | null {
  let worst: number | null = null
  for (const [id, detections] of reference) {
    for (const a of detections) {
      const pairs = (other.get(id) ?? []).filter((b) => b.label === a.label && iou(a.box, b.box) >= 0.9)
      if (pairs.length === 0) continue
      worst = Math.max(worst ?? 0, Math.min(...pairs.map((b) => Math.abs(b.score - a.score))))
    }
  }
  return worst
}

async function ranges(
  base: ExportResult,
  manifest: ModelManifest,
  dataset: Dataset,
  config: Config,
  { calibrationImages = 48, percentile = 99.999, weightBits = 8, threads, log }: VariantOptions,
  out: string,
) {
  const all = trainingIds(dataset, config)
  // Spread over the training images, which are sorted by patient.
  const count = Math.min(calibrationImages, all.length)
  const images = Array.from({ length: count }, (_, i) => all[Math.floor((i * all.length) / count)]!)
  log(`int8: calibrating on ${images.length} training images`)
  const found = await calibrate(base.message, calibrationInputs(dataset, images, manifest), {
    ...{ percentile, threads },
    scratch: `${out}.calibration`,
  })
  const method = percentile >= 100 ? 'MinMax' : `percentile ${percentile}`
  return { ranges: found, method, weightBits, images }
}

/** Network inputs as prediction makes them; of a large image its fullest tile. */
async function* calibrationInputs(
  dataset: Dataset,
  ids: readonly string[],
  manifest: ModelManifest,
): AsyncGenerator<Record<string, Tensor>> {
  const records = new Map(dataset.set.records.map((record) => [record.id, record]))
  const { shape, input } = manifest
  for (const id of ids) {
    const record = records.get(id)!
    const image = await readCrop(dataset.reader, record)
    const options = dataset.set.header.options.crop ? { crop: false } : {}
    const whole = planInput(image, record.spacingMm, manifest, options)
    const side = Math.floor(CALIBRATION_SIDE / input.padMultiple) * input.padMultiple
    const tiles = shape === 'dynamic' && input.normalise === 'dataset' && Math.max(...whole.size) > side && side > 0
    const tile = { size: side, step: side }
    const plan = tiles ? planInput(image, record.spacingMm, manifest, { ...options, tile }) : whole
    let best: { feeds: Record<string, Tensor>; sum: number } | undefined
    for (const { feeds } of fillInputs(image, plan, manifest)) {
      let sum = 0
      for (const value of feeds['image']!.data as Float32Array) sum += value > 0 ? 1 : 0
      if (best === undefined || sum > best.sum) best = { feeds, sum }
    }
    yield best!.feeds
  }
}
