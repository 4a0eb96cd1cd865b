// Tunes what happens after the network on stored detections: suppression or fusion, its IoU, the score threshold. No model, no addon, no
// GPU. Several sources (an ensemble, flipped copies) are joined; one source is combined with itself. Stored detections have been through a
// first selection, so only what is stricter than that can be tried.

import { UsageError } from '../errors.js'
import { type CompareOptions, type Comparison, compareDetections } from '../evaluate/compare.js'
import { type EvaluateOptions, epochMetrics } from '../evaluate/evaluate.js'
import { frocEvents } from '../evaluate/froc.js'
import { operatingPoint } from '../evaluate/operating-points.js'
import type { Detection, DetectionsByImage, ImageTruth } from '../evaluate/types.js'
import { fuseBoxes } from '../geometry/fusion.js'
import { nms } from '../geometry/nms.js'
import { type Axis, gridPoints, randomPoints, sobolPoints } from './designs.js'
import type { Method } from './sweep-spec.js'

export const COMBINATIONS = ['nms', 'average', 'absentAware', 'max'] as const
/** Suppression, or fusion with one of its score rules. */
export type Combination = (typeof COMBINATIONS)[number]

export interface InferSetting {
  combination: Combination
  /** Suppression: IoU strictly above goes. Fusion: IoU strictly above joins. */
  iou: number
  /** Detections strictly above are kept. */
  scoreThreshold: number
}

export interface InferRow {
  /** null: the detections as they are stored, of the first source. */
  setting: InferSetting | null
  /** By name: AP50, AP, sens@F, and at the threshold sensitivity, precision, F1, FP/image. null where undefined. */
  metrics: Record<string, number | null>
}

export interface InferOptions {
  method: Exclude<Method, 'halving'>
  /** Settings of random and sobol. */
  trials: number
  seed: number
  /** One of the names of the metrics. */
  rankBy: string
  /** Rules of scoring. Its score threshold is the floor of the search. */
  rules: Omit<EvaluateOptions, 'bootstrap'>
  bootstrap: CompareOptions['bootstrap']
  onRow?: (done: number, total: number) => void
}

export interface InferResult {
  /** Best first; equal ones in the order of the search. */
  rows: InferRow[]
  stored: InferRow
  /** Best against stored on the same images; null when stored is best. */
  gain: Comparison | null
}

const GRID_IOU = [0.1, 0.2, 0.3, 0.4, 0.5]
const GRID_SCORE = [0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5]

/** Settings that a method tries. */
export function inferSettings(options: Pick<InferOptions, 'method' | 'trials' | 'seed' | 'rules'>): InferSetting[] {
  const floor = options.rules.scoreThreshold
  const list = (name: string, values: readonly (number | string)[]): Axis => ({
    name,
    choices: values.map((value) => ({ label: String(value), set: { [name]: value } })),
  })
  const range = (name: string, min: number, max: number): Axis => ({ name, min, max, log: false, integer: false })
  const combination = list('combination', COMBINATIONS)
  const scores = [...new Set(GRID_SCORE.map((score) => Math.max(score, floor)))]
  const ranges = [combination, range('iou', 0.05, 0.6), range('scoreThreshold', floor, Math.max(0.6, floor + 0.01))]
  const points =
    options.method === 'grid'
      ? gridPoints([combination, list('iou', GRID_IOU), list('scoreThreshold', scores)])
      : (options.method === 'sobol' ? sobolPoints : randomPoints)(ranges, options.trials, options.seed)
  return points.map((point) => Object.assign({}, ...point.map((choice) => choice.set)) as InferSetting)
}

/** The detections of one image under a setting, by descending score. */
export function combineStored(sources: readonly (readonly Detection[])[], setting: InferSetting): Detection[] {
  const { combination, iou, scoreThreshold } = setting
  const kept = sources.map((list) => list.filter(({ score }) => score > scoreThreshold))
  if (combination === 'nms') {
    const all = kept.flat()
    const order = nms(
      all.flatMap(({ box }) => box),
      all.map(({ score }) => score),
      iou,
      all.map(({ label }) => label),
    )
    return order.map((i) => all[i]!)
  }
  const fused = fuseBoxes(kept, { iou, minScore: scoreThreshold, score: combination })
  return fused.filter(({ score }) => score > scoreThreshold)
}

/** Tries every setting and ranks them. Throws UsageError ARGUMENT for an unknown metric. */
export function tuneInference(
  truth: readonly ImageTruth[],
  sources: readonly DetectionsByImage[],
  options: InferOptions,
): InferResult {
  const { rules, rankBy } = options
  const apply = (setting: InferSetting): DetectionsByImage =>
    new Map(
      truth.map(({ id }) => [
        id,
        combineStored(
          sources.map((source) => source.get(id) ?? []),
          setting,
        ),
      ]),
    )
  const score = (setting: InferSetting | null, detections: DetectionsByImage): InferRow => ({
    setting,
    metrics: numbers(truth, detections, rules, setting?.scoreThreshold ?? rules.scoreThreshold),
  })
  const stored = score(null, sources[0]!)
  if (!(rankBy in stored.metrics)) {
    const names = Object.keys(stored.metrics).join(', ')
    throw new UsageError('ARGUMENT', `unknown metric "${rankBy}", expected one of ${names}`)
  }
  const settings = inferSettings(options)
  const rows = settings.map((setting, i) => {
    const row = score(setting, apply(setting))
    options.onRow?.(i + 1, settings.length)
    return row
  })
  const direction = rankBy === 'FP/image' ? 1 : -1
  const value = (row: InferRow) => row.metrics[rankBy] ?? direction * Number.POSITIVE_INFINITY
  // Stable: of equal settings the first one stays first. NaN cannot occur; two infinities of one sign are equal.
  const ranked = [stored, ...rows].sort((a, b) => (value(a) === value(b) ? 0 : direction * (value(a) - value(b))))
  const winner = ranked[0]!.setting
  const gain =
    winner === null
      ? null
      : compareDetections(truth, sources[0]!, apply(winner), {
          ...{ classes: rules.classes.length, iou: rules.iou, maxDetections: rules.maxDetections },
          ...{ scoreThreshold: rules.scoreThreshold, criterion: rules.criteria[0]!, credit: rules.credit },
          ...{ fppi: rules.fppi, bootstrap: options.bootstrap },
        })
  return { rows: ranked, stored, gain }
}

function numbers(
  truth: readonly ImageTruth[],
  detections: DetectionsByImage,
  rules: Omit<EvaluateOptions, 'bootstrap'>,
  threshold: number,
): Record<string, number | null> {
  const { AP50, AP, sensitivity } = epochMetrics(truth, detections, rules)
  const events = frocEvents(truth, detections, { criterion: rules.criteria[0]!, credit: rules.credit })
  const point = operatingPoint(events, threshold)
  const [s, p] = [point.sensitivity, point.precision]
  return {
    ...{ AP50, AP },
    ...Object.fromEntries(rules.fppi.map((f, i) => [`sens@${f}`, sensitivity[i]!])),
    ...{ sensitivity: s, precision: p, F1: s === null || p === null ? null : s + p === 0 ? 0 : (2 * s * p) / (s + p) },
    'FP/image': point.falsePositivesPerImage,
  }
}
