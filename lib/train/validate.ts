// Scoring a part of the data with the native session: loss, detections in full-image pixels, metrics. Used after each epoch and by
// `evaluate` on a checkpoint. The metrics are lib/evaluate's.
import type { Session } from '../binding/session.js'
import type { PostConfig } from '../binding/types.js'
import { detectorConfig } from '../config/detector.js'
import type { Phase } from '../config/phases.js'
import type { Config } from '../config/schema.js'
import type { LoadedBatch } from '../data/loader.js'
import { type PreparedRecord, partIds } from '../data/prepared.js'
import type { Sampler } from '../data/sampler.js'
import type { Part } from '../data/split.js'
import { type EvaluateOptions, epochMetrics } from '../evaluate/evaluate.js'
import type { Criterion } from '../evaluate/froc.js'
import type { Detection, ImageTruth } from '../evaluate/types.js'
import { type Dataset, readScoring, scoringSampler, toImageBoxes, trainingIds } from './data.js'
import type { Validation } from './trainer.js'

export type Predictions = Map<string, Detection[]>

/** A box whose side is below this many canvas pixels after clipping has no area to speak of and cannot be stored. */
const LEAST_SIDE = 1e-3

/** Post-processing for scoring: keeps what metrics need below the threshold that users see. */
export function evaluationPost(config: Config): PostConfig {
  const { scoreThreshold, maxDetections } = config.evaluate
  const { post } = detectorConfig(config)
  return { ...post, scoreThreshold, maxDetections, minSize: Math.max(post.minSize, LEAST_SIDE) }
}

/** Ground truth of the given images, in full-image pixels, in the order of `ids`. */
export function truthOf(dataset: Dataset, config: Config, ids: readonly string[]): ImageTruth[] {
  const records = new Map(dataset.set.records.map((record) => [record.id, record]))
  return ids.map((id) => imageTruth(records.get(id)!, config.data.classes))
}

/** Ground truth of one image in the terms of lib/evaluate. */
export function imageTruth(record: PreparedRecord, classes: readonly string[]): ImageTruth {
  const spacing = record.spacingMm
  return {
    id: record.id,
    patient: record.patient,
    laterality: record.laterality,
    view: record.view,
    density: record.density,
    spacingMm: spacing?.[0] ?? null,
    boxes: record.lesions
      .filter((lesion) => classes.includes(lesion.class))
      .map(({ box, class: name, ignore }) => ({
        box,
        label: classes.indexOf(name),
        ignore: ignore === true,
        sizeMm: spacing === null ? null : Math.max((box[2] - box[0]) * spacing[1], (box[3] - box[1]) * spacing[0]),
      })),
  }
}

export interface PartScores {
  /** Mean over images of the loss; NaN when not asked for. */
  loss: number
  /** Every image has an entry. */
  predictions: Predictions
  /** Mean seconds per image by stage of the native call. */
  seconds: Record<string, number>
}

/** Runs the session over a sampler's images; undefined when `stopped` became true on the way. */
export async function scorePart(
  session: Pick<Session, 'detect' | 'evaluateLoss'>,
  dataset: Dataset,
  config: Config,
  sampler: Sampler,
  options: { withLoss: boolean; stopped: () => boolean; onImage?: (done: number) => void },
): Promise<PartScores | undefined> {
  const predictions: Predictions = new Map()
  const seconds: Record<string, number> = {}
  let loss = 0
  for await (const loaded of readScoring(dataset, config, sampler)) {
    if (options.stopped()) return undefined
    const n = loaded.ids.length
    if (options.withLoss) loss += n * (await session.evaluateLoss(loaded.batch, loaded.targets)).loss
    const found = await session.detect(loaded.batch)
    for (const [part, s] of Object.entries(found.seconds)) seconds[part] = (seconds[part] ?? 0) + s
    for (const [id, list] of imageDetections(loaded, found)) predictions.set(id, list)
    options.onImage?.(predictions.size)
  }
  const images = Math.max(1, predictions.size)
  for (const part of Object.keys(seconds)) seconds[part]! /= images
  return { loss: options.withLoss ? loss / images : Number.NaN, predictions, seconds }
}

type Found = Awaited<ReturnType<Session['detect']>>

function imageDetections(
  { ids, plans }: LoadedBatch,
  { boxes, scores, labels, offsets }: Found,
): [string, Detection[]][] {
  return ids.map((id, i) => {
    const [from, to] = [offsets[i]!, offsets[i + 1]!]
    const inImage = toImageBoxes(boxes.subarray(4 * from, 4 * to), plans[i]!)
    return [id, inImage.map((box, j) => ({ box, score: scores[from + j]!, label: labels[from + j]! }))]
  })
}

/** What the trainer calls after an epoch. */
export interface Validator {
  /** The part has no images: nothing can be scored. */
  empty: boolean
  run(phase: number, stopped: () => boolean): Promise<Validation | undefined | 'stopped'>
  /** Detections of the last complete evaluation. */
  predictions(): Predictions
}

export function openValidator(
  session: Pick<Session, 'detect' | 'evaluateLoss'>,
  dataset: Dataset,
  config: Config,
  phases: readonly Phase[],
  onImage: (done: number, total: number) => void = () => undefined,
): Validator {
  // Choosing epochs on the test part would make its result worthless; `evaluate` scores it afterwards.
  const part: Part = config.evaluate.split === 'train' ? 'train' : 'val'
  const ids = part === 'train' ? trainingIds(dataset, config) : partIds(dataset.set, part, config.data.fold)
  const truth = truthOf(dataset, config, ids)
  let predictions: Predictions = new Map()
  return {
    empty: ids.length === 0,
    predictions: () => predictions,
    async run(phase, stopped) {
      if (ids.length === 0) return undefined
      const sampler = scoringSampler(dataset, config, ids, phases[phase]!.strategy)
      const scores = await scorePart(session, dataset, config, sampler, {
        ...{ withLoss: true, stopped },
        onImage: (done) => onImage(done, ids.length),
      })
      if (scores === undefined) return 'stopped'
      predictions = scores.predictions
      return { split: part, loss: scores.loss, ...epochNumbers(truth, predictions, config) }
    },
  }
}

/** The numbers of an epoch's row; NaN where undefined (no lesions). */
function epochNumbers(
  truth: readonly ImageTruth[],
  predictions: Predictions,
  config: Config,
): Omit<Validation, 'split' | 'loss'> {
  const rules = evaluationRules(config)
  const number = (value: number | null) => value ?? Number.NaN
  const { AP50, AP, sensitivity } = epochMetrics(truth, predictions, rules)
  return {
    ...{ hit: config.evaluate.hit, credit: config.evaluate.frocCredit },
    ...{ AP50: number(AP50), AP: number(AP), sens: sensitivity.map(number) },
  }
}

/** The configured rules in the terms of lib/evaluate, without intervals. */
export function evaluationRules(config: Config): Omit<EvaluateOptions, 'bootstrap'> {
  const { iou, scoreThreshold, maxDetections, frocCredit, fppi, hit } = config.evaluate
  const criteria = [hit as Criterion]
  return { classes: config.data.classes, iou, scoreThreshold, maxDetections, fppi, criteria, credit: frocCredit }
}
