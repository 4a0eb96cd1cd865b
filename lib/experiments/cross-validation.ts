// What k folds say together: the mean over folds with its interval, the pooled out-of-fold detections, and operating points whose
// thresholds come from each fold's validation part, so that no test image chose its own threshold. Training and files are not here.

import { InternalError } from '../errors.js'
import { type BootstrapOptions, bootstrapValues, percentileIntervals } from '../evaluate/bootstrap.js'
import { type Estimate, type EvaluateOptions, scoredDetections } from '../evaluate/evaluate.js'
import { type FrocEvents, frocEvents, thresholdAt } from '../evaluate/froc.js'
import { type DetectionsByImage, groupImages, type ImageTruth } from '../evaluate/types.js'
import { type MeanEstimate, meanInterval } from './mean.js'

/** Must stand beside every pooled number. */
export const POOLED_REMARK =
  'Pooled: all out-of-fold detections in one list. Scores of different folds come from different models and are not on one scale.'
export const MEAN_REMARK =
  "Mean over folds with Student's interval: the folds share training images, so the true uncertainty is larger."

export interface FoldScores {
  fold: number
  val: { truth: readonly ImageTruth[]; detections: DetectionsByImage }
  test: { truth: readonly ImageTruth[]; detections: DetectionsByImage }
}

/** The test parts of all folds as one set of images. Throws InternalError when an image is in two test parts. */
export function poolFolds(folds: readonly FoldScores[]): { truth: ImageTruth[]; detections: DetectionsByImage } {
  const truth = folds.flatMap(({ test }) => [...test.truth])
  const detections = new Map(
    folds.flatMap(({ test }) => test.truth.map(({ id }) => [id, test.detections.get(id) ?? []])),
  )
  if (detections.size !== truth.length) {
    throw new InternalError(`expected every image in one test part, got ${truth.length - detections.size} twice`)
  }
  return { truth, detections }
}

/** Mean over folds of rows with equal names, in the order of the first fold. */
export function foldMeans(
  folds: readonly (readonly { name: string; value: number | null }[])[],
): ({ name: string } & MeanEstimate)[] {
  return (folds[0] ?? []).map(({ name }) => ({
    name,
    ...meanInterval(folds.map((rows) => rows.find((row) => row.name === name)?.value ?? null)),
  }))
}

/** What happens on the test parts at thresholds that the validation parts chose. */
export interface HeldOutPoint {
  /** Wanted on the validation part. */
  fppi: number
  /** By fold; null: even the highest score has more false positives. */
  thresholds: (number | null)[]
  /** Median of the defined thresholds: what to set in a model that is used; null without any. */
  threshold: number | null
  found: number
  lesions: number
  falsePositives: number
  images: number
  sensitivity: Estimate
  falsePositivesPerImage: Estimate
}

/** One row per wanted number of false positives per image. Intervals: patients of all folds resampled, thresholds fixed. */
export function heldOutPoints(
  folds: readonly FoldScores[],
  rules: Omit<EvaluateOptions, 'bootstrap'>,
  bootstrap: Pick<BootstrapOptions, 'draws' | 'seed'> | null,
): HeldOutPoint[] {
  const events = (part: FoldScores['val']): FrocEvents =>
    frocEvents(part.truth, scoredDetections(part.truth, part.detections, rules), {
      criterion: rules.criteria[0]!,
      credit: rules.credit,
    })
  const judged = folds.map(({ val, test }) => ({ val: events(val), test: events(test), truth: test.truth }))
  const { patient, patients } = groupImages(judged.flatMap(({ truth }) => [...truth]))
  const counts = rules.fppi
    .map((limit) => judged.map(({ val }) => thresholdAt(val, limit)))
    .map((thresholds) => {
      // Per patient: lesions found, lesions, false positives, images.
      const table = Array.from({ length: 4 }, () => new Float64Array(patients.length))
      let offset = 0
      judged.forEach(({ test, truth }, k) => {
        const threshold = thresholds[k] ?? Number.POSITIVE_INFINITY
        const add = (column: number, image: number) => {
          table[column]![patient[offset + image]!]! += 1
        }
        test.lesionScore.forEach((score, i) => {
          add(1, test.lesionImage[i]!)
          if (score >= threshold) add(0, test.lesionImage[i]!)
        })
        test.falseScore.forEach((score, i) => {
          if (score >= threshold) add(2, test.falseImage[i]!)
        })
        for (let image = 0; image < truth.length; image++) add(3, image)
        offset += truth.length
      })
      return { thresholds, table }
    })
  const ratios = (weights: Float64Array) =>
    Float64Array.from(
      counts.flatMap(({ table }) => {
        const [found, lesions, falsePositives, images] = table.map((column) =>
          column.reduce((sum, n, p) => sum + n * weights[p]!, 0),
        )
        return [found! / lesions!, falsePositives! / images!]
      }),
    )
  const lesionsOf = counts[0]?.table[1]
  const rows =
    bootstrap === null
      ? []
      : bootstrapValues(patients.length, ratios, {
          ...bootstrap,
          accept: (w) => w.some((n, p) => n * lesionsOf![p]! > 0),
        })
  const intervals = percentileIntervals(rows)
  const sum = (column: Float64Array) => column.reduce((total, n) => total + n, 0)
  return counts.map(({ thresholds, table }, i) => {
    const [found, lesions, falsePositives, images] = table.map(sum) as [number, number, number, number]
    return {
      fppi: rules.fppi[i]!,
      thresholds,
      threshold: median(thresholds.filter((value) => value !== null)),
      ...{ found, lesions, falsePositives, images },
      sensitivity: { value: lesions === 0 ? null : found / lesions, interval: intervals[2 * i] ?? null },
      falsePositivesPerImage: {
        value: images === 0 ? null : falsePositives / images,
        interval: intervals[2 * i + 1] ?? null,
      },
    }
  })
}

function median(values: readonly number[]): number | null {
  if (values.length === 0) return null
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
