// Average precision under weights of the images, fast enough for thousands of resamples: an image of weight w counts w times. Judging is done once
// (voc-ap.ts, coco-ap.ts): it never looks beyond an image. Precision and recall are needed at hits only, where the curve has its corners;
// the copies of a hit share its corner, so that weights give exactly what copying the images gives.

import type { ImageTruth } from './types.js'
import type { VocResult } from './voc-ap.js'

/** Judged detections of one class at one IoU, by descending score. */
export interface JudgedClass {
  /** 1 hit, 0 false positive; ignored detections are left out. */
  hits: Uint8Array
  /** Position of the image of each. */
  images: Int32Array
  /** Lesions of this class per image. */
  lesions: Int32Array
}

/** The judgement of keras-retinanet's AP in this form, class by class. */
export function judgedClasses(truth: readonly ImageTruth[], voc: VocResult): JudgedClass[] {
  return voc.classes.map(({ judged, label }) => ({
    hits: Uint8Array.from(judged, (d) => Number(d.hit)),
    images: Int32Array.from(judged, (d) => d.image),
    lesions: Int32Array.from(truth, ({ boxes }) => boxes.filter((box) => box.label === label && !box.ignore).length),
  }))
}

const RECALL_POINTS = 101

/** Corners of a weighted curve: recall and the best precision at that recall or above, ascending by recall. The arrays are reused. */
interface Corners {
  count: number
  recall: Float64Array
  precision: Float64Array
}

/** Prepares `weights of the images -> corners`; undefined without (weighted) lesions. */
function weightedCorners(judged: JudgedClass): (weights: Float64Array) => Corners | undefined {
  // Nothing behind the last hit can change the curve.
  const length = judged.hits.lastIndexOf(1) + 1
  const hits = judged.hits.subarray(0, length)
  const images = judged.images.subarray(0, length)
  const corners = hits.reduce((sum, hit) => sum + hit, 0)
  const recall = new Float64Array(corners)
  const precision = new Float64Array(corners)
  const lesionImages: number[] = []
  judged.lesions.forEach((n, image) => {
    for (let i = 0; i < n; i++) lesionImages.push(image)
  })
  return (weights) => {
    let lesions = 0
    for (const image of lesionImages) lesions += weights[image]!
    if (lesions === 0) return undefined
    let all = 0
    let found = 0
    let count = 0
    for (let i = 0; i < length; i++) {
      const weight = weights[images[i]!]!
      all += weight
      if (hits[i] === 0) continue
      found += weight
      recall[count] = found / lesions
      precision[count] = all === 0 ? 0 : found / all
      count++
    }
    for (let i = count - 1; i > 0; i--) if (precision[i]! > precision[i - 1]!) precision[i - 1] = precision[i]!
    return { count, recall, precision }
  }
}

/**
 * Prepares `weights of the images -> average precision`: `every-recall` integrates every recall change (keras-retinanet, VOC), `101-points` takes
 * the mean at 101 recalls (COCO). NaN without (weighted) lesions.
 */
export function weightedAp(
  judged: JudgedClass,
  style: 'every-recall' | '101-points',
): (weights: Float64Array) => number {
  const cornersOf = weightedCorners(judged)
  return (weights) => {
    const corners = cornersOf(weights)
    if (corners === undefined) return Number.NaN
    const { count, recall, precision } = corners
    let sum = 0
    if (style === 'every-recall') {
      for (let i = 0; i < count; i++) sum += (recall[i]! - (i === 0 ? 0 : recall[i - 1]!)) * precision[i]!
      return sum
    }
    let i = 0
    for (let r = 0; r < RECALL_POINTS; r++) {
      const wanted = r === RECALL_POINTS - 1 ? 1 : r * 0.01
      while (i < count && recall[i]! < wanted) i++
      if (i === count) break
      sum += precision[i]!
    }
    return sum / RECALL_POINTS
  }
}

/** Prepares `weights of the images -> interpolated precision at each of the recalls` (ascending); 0 beyond the last hit, NaN without lesions. */
export function weightedPrecision(
  judged: JudgedClass,
  recalls: readonly number[],
): (weights: Float64Array) => Float64Array {
  const cornersOf = weightedCorners(judged)
  return (weights) => {
    const out = new Float64Array(recalls.length)
    const corners = cornersOf(weights)
    if (corners === undefined) return out.fill(Number.NaN)
    let i = 0
    recalls.forEach((wanted, r) => {
      while (i < corners.count && corners.recall[i]! < wanted) i++
      out[r] = i === corners.count ? 0 : corners.precision[i]!
    })
    return out
  }
}

/** Mean of the numbers that are defined; NaN when none is. */
export function definedMean(values: readonly number[]): number {
  const known = values.filter((value) => !Number.isNaN(value))
  return known.length === 0 ? Number.NaN : known.reduce((sum, value) => sum + value, 0) / known.length
}
