// Does one model miss lesions that another finds? Recall over all kept detections, whatever their score, and by the side of the lesion, with
// paired intervals over patients. Not FROC (froc.ts): false positives do not count here, so a model that marks everything has recall 1.
import { type BootstrapOptions, bootstrapValues, imageWeights, percentileIntervals } from './bootstrap.js'
import { frocEvents } from './froc.js'
import { type DetectionsByImage, groupImages, type ImageTruth, type Interval, type TruthBox } from './types.js'

export interface RecallDifference {
  /** A detection finds every lesion that it overlaps by this IoU or more. */
  iou: number
  /** Side of the lesion (root of its area) in pixels of the full image, from <= side < to; null to: no upper end. All lesions: 0 and null. */
  from: number
  to: number | null
  lesions: number
  /** null without lesions. */
  a: number | null
  b: number | null
  /** b - a */
  difference: number | null
  interval: Interval | null
}

export interface RecallOptions {
  ious: readonly number[]
  /** Ascending sides that part the lesions; none: all together only. */
  sides: readonly number[]
  /** Best detections of an image that are read, and the score that they must exceed. */
  maxDetections: number
  scoreThreshold: number
  bootstrap: Pick<BootstrapOptions, 'draws' | 'seed' | 'level'>
}

const sideOf = ({ box }: TruthBox) => Math.sqrt((box[2] - box[0]) * (box[3] - box[1]))

/** Recall of model b beside model a: for each IoU all lesions first, then by side. Throws RangeError for sides that do not ascend. */
export function pairedRecall(
  truth: readonly ImageTruth[],
  a: DetectionsByImage,
  b: DetectionsByImage,
  { ious, sides, maxDetections, scoreThreshold, bootstrap }: RecallOptions,
): RecallDifference[] {
  if (sides.some((side, i) => !(side > (i === 0 ? 0 : sides[i - 1]!))))
    throw new RangeError(`sides: expected positive ascending numbers, got ${sides.join(', ')}`)
  const edges = [0, ...sides]
  const parts = sides.length === 0 ? [] : edges.map((from, i) => ({ from, to: edges[i + 1] ?? null }))
  const groups = groupImages(truth)
  const best = [a, b].map(
    (detections) =>
      new Map(
        [...detections].map(([id, list]) => [id, list.toSorted((p, q) => q.score - p.score).slice(0, maxDetections)]),
      ),
  )
  const rows = ious.flatMap((iou) => {
    const [first, second] = best.map((detections) =>
      frocEvents(truth, detections, { criterion: `iou:${iou}`, credit: 'all', scoreThreshold }),
    )
    const image = first!.lesionImage
    const side = Array.from(image, (position, i) => sideOf(truth[position]!.boxes[first!.lesionBox[i]!]!))
    const found = [first!, second!].map((events) => Array.from(events.lesionScore, (s) => s > Number.NEGATIVE_INFINITY))
    return [{ from: 0, to: null }, ...parts].map(({ from, to }) => {
      const lesions = side.flatMap((s, i) => (s >= from && (to === null || s < to) ? [i] : []))
      const recall = (weights?: Float64Array) => {
        const weight = (i: number) => (weights === undefined ? 1 : weights[image[i]!]!)
        const total = lesions.reduce((sum, i) => sum + weight(i), 0)
        return found.map((hit) => lesions.reduce((sum, i) => sum + (hit[i] ? weight(i) : 0), 0) / total)
      }
      return { iou, from, to, lesions: lesions.length, recall }
    })
  })
  const weights = new Float64Array(truth.length)
  const draws = bootstrapValues(
    groups.patients.length,
    (patientWeights) => {
      imageWeights(patientWeights, groups.patient, weights)
      return Float64Array.from(rows, ({ recall }) => {
        const [before, after] = recall(weights)
        return after! - before!
      })
    },
    bootstrap,
  )
  const intervals = percentileIntervals(draws, bootstrap.level)
  return rows.map(({ recall, ...row }, i) => {
    const [before, after] = row.lesions === 0 ? [null, null] : (recall() as [number, number])
    const difference = before === null || after === null ? null : after - before
    return { ...row, a: before, b: after, difference, interval: intervals[i] ?? null }
  })
}
