// Free-response ROC: how many lesions are found at how many false positives per image. The rule is the project's own and exact (retinanet
// spec 6): operating points are the distinct scores, the sensitivity at f is the step value, nothing is interpolated. A second hit on a
// found lesion is neither hit nor false positive, and neither is a detection in a region to ignore. Classes are read together.
import { area, intersection, iou } from '../geometry/boxes.js'
import type { DetectionsByImage, ImageTruth } from './types.js'

/** `centre`: the detection's centre lies in the lesion's box, edges included. `iou:T`: IoU >= T. */
export type Criterion = 'centre' | `iou:${string}`
/** `all`: a detection finds every lesion that it hits. `best`: only the one of largest IoU (the first on ties). */
export type Credit = 'all' | 'best'
/** Where false positives are counted, and what they are divided by. */
export type FalsePositiveImages = 'all' | 'mass-free'

/** What every later step needs: when each lesion is found, and the scores of the false positives. */
export interface FrocEvents {
  images: number
  massFreeImages: number
  /** Per lesion: the highest score that finds it, -Infinity when none does. */
  lesionScore: Float64Array
  /** Per lesion: position of its image. */
  lesionImage: Int32Array
  /** Per lesion: position among the image's boxes. */
  lesionBox: Int32Array
  /** False positives by descending score. */
  falseScore: Float64Array
  falseImage: Int32Array
  /** All distinct scores, descending: the operating points. */
  thresholds: Float64Array
  /** Per image: has no lesion. */
  massFree: Uint8Array
}

/** Reads `centre` or `iou:T` with T in (0, 1]. Returns the IoU, or null for `centre`. */
export function parseCriterion(criterion: Criterion): number | null {
  if (criterion === 'centre') return null
  const threshold = Number(criterion.slice('iou:'.length))
  if (!criterion.startsWith('iou:') || !(threshold > 0 && threshold <= 1))
    throw new RangeError(`criterion: expected centre or iou:T with T in (0, 1], got ${criterion}`)
  return threshold
}

export interface FrocOptions {
  criterion: Criterion
  credit: Credit
  /** Scores strictly above are read; all by default. */
  scoreThreshold?: number
}

/** Judges every detection once. */
export function frocEvents(
  truth: readonly ImageTruth[],
  detections: DetectionsByImage,
  options: FrocOptions,
): FrocEvents {
  const threshold = parseCriterion(options.criterion)
  const floor = options.scoreThreshold ?? Number.NEGATIVE_INFINITY
  const lesionScore: number[] = []
  const lesionImage: number[] = []
  const lesionBox: number[] = []
  const falsePositives: { score: number; image: number }[] = []
  const scores = new Set<number>()
  const massFree = new Uint8Array(truth.length)

  for (const [position, image] of truth.entries()) {
    const first = lesionScore.length
    const lesions: (typeof image.boxes)[number][] = []
    image.boxes.forEach((lesion, at) => {
      if (lesion.ignore) return
      lesions.push(lesion)
      lesionScore.push(Number.NEGATIVE_INFINITY)
      lesionImage.push(position)
      lesionBox.push(at)
    })
    const regions = image.boxes.filter((box) => box.ignore)
    massFree[position] = lesions.length === 0 ? 1 : 0
    for (const { box, score } of detections.get(image.id) ?? []) {
      if (!(score > floor)) continue
      scores.add(score)
      const cx = (box[0] + box[2]) / 2
      const cy = (box[1] + box[3]) / 2
      const inside = (b: readonly number[]) => b[0]! <= cx && cx <= b[2]! && b[1]! <= cy && cy <= b[3]!
      let hits = 0
      let best = -1
      let bestIou = Number.NEGATIVE_INFINITY
      for (const [i, lesion] of lesions.entries()) {
        const overlap = threshold === null && options.credit === 'all' ? 0 : iou(lesion.box, box)
        if (!(threshold === null ? inside(lesion.box) : overlap >= threshold)) continue
        hits++
        if (options.credit === 'all') lesionScore[first + i] = Math.max(lesionScore[first + i]!, score)
        else if (overlap > bestIou) {
          best = i
          bestIou = overlap
        }
      }
      if (best >= 0) lesionScore[first + best] = Math.max(lesionScore[first + best]!, score)
      if (hits > 0) continue
      const inRegion = (region: (typeof regions)[number]) =>
        threshold === null ? inside(region.box) : intersection(region.box, box) >= threshold * area(box)
      if (!regions.some(inRegion)) falsePositives.push({ score, image: position })
    }
  }
  falsePositives.sort((a, b) => b.score - a.score)
  return {
    images: truth.length,
    massFreeImages: massFree.reduce((sum, free) => sum + free, 0),
    lesionScore: Float64Array.from(lesionScore),
    lesionImage: Int32Array.from(lesionImage),
    lesionBox: Int32Array.from(lesionBox),
    falseScore: Float64Array.from(falsePositives, (d) => d.score),
    falseImage: Int32Array.from(falsePositives, (d) => d.image),
    thresholds: Float64Array.from(scores).sort().reverse(),
    massFree,
  }
}

export interface FrocPoint {
  threshold: number
  found: number
  falsePositives: number
}

/** One point per operating threshold, from the highest. */
export function frocCurve(events: FrocEvents, where: FalsePositiveImages = 'all'): FrocPoint[] {
  const lesions = Float64Array.from(events.lesionScore).sort().reverse()
  const counted = events.falseScore.filter((_, i) => where === 'all' || events.massFree[events.falseImage[i]!])
  let found = 0
  let falsePositives = 0
  return Array.from(events.thresholds, (threshold) => {
    while (found < lesions.length && lesions[found]! >= threshold) found++
    while (falsePositives < counted.length && counted[falsePositives]! >= threshold) falsePositives++
    return { threshold, found, falsePositives }
  })
}

/** Denominator of the false positives. */
export function falsePositiveImages(events: FrocEvents, where: FalsePositiveImages): number {
  return where === 'all' ? events.images : events.massFreeImages
}

/**
 * Sensitivity at each number of false positives per image; null without lesions, or without images to count false positives on.
 */
export function sensitivities(
  events: FrocEvents,
  fppi: readonly number[],
  where: FalsePositiveImages = 'all',
): (number | null)[] {
  const images = falsePositiveImages(events, where)
  const lesions = events.lesionScore.length
  if (lesions === 0 || images === 0) return fppi.map(() => null)
  const curve = frocCurve(events, where)
  return fppi.map((limit) => {
    let found = 0
    for (const point of curve) if (point.falsePositives / images <= limit && point.found > found) found = point.found
    return found / lesions
  })
}

/** Lowest operating threshold at or below `limit` false positives per image; null when even the highest score exceeds it. */
export function thresholdAt(events: FrocEvents, limit: number, where: FalsePositiveImages = 'all'): number | null {
  const images = falsePositiveImages(events, where)
  let threshold: number | null = null
  for (const point of frocCurve(events, where)) if (point.falsePositives / images <= limit) threshold = point.threshold
  return threshold
}

/**
 * Groups lesions (by patient, by breast): a group is found when any of its lesions is. `group` gives the group of each image; groups
 * without lesions are left out. The false positives stay those of the images.
 */
export function groupedEvents(events: FrocEvents, group: Int32Array): FrocEvents {
  const place = new Map<number, number>()
  const score: number[] = []
  const image: number[] = []
  events.lesionScore.forEach((s, i) => {
    const key = group[events.lesionImage[i]!]!
    const at = place.get(key)
    if (at === undefined) {
      place.set(key, score.length)
      score.push(s)
      image.push(events.lesionImage[i]!)
    } else if (s > score[at]!) score[at] = s
  })
  return {
    ...events,
    lesionScore: Float64Array.from(score),
    lesionImage: Int32Array.from(image),
    lesionBox: new Int32Array(score.length),
  }
}

/** Weights of the images -> sensitivity at each requested number of false positives per image; NaN without (weighted) lesions or images. */
export type WeightedFroc = (weights: Float64Array) => Float64Array

/** Prepares `weights of the images -> sensitivities at fppi`: an image of weight w counts w times. With weights 1 it equals `sensitivities`. */
export function weightedFroc(
  events: FrocEvents,
  fppi: readonly number[],
  where: FalsePositiveImages = 'all',
): WeightedFroc {
  const order = Int32Array.from(events.lesionScore, (_, i) => i).sort(
    (a, b) => events.lesionScore[b]! - events.lesionScore[a]! || a - b,
  )
  const lesionScore = Float64Array.from(order, (i) => events.lesionScore[i]!)
  const lesionImage = Int32Array.from(order, (i) => events.lesionImage[i]!)
  const counted: number[] = []
  events.falseImage.forEach((image, i) => {
    if (where === 'all' || events.massFree[image]) counted.push(i)
  })
  const falseScore = Float64Array.from(counted, (i) => events.falseScore[i]!)
  const falseImage = Int32Array.from(counted, (i) => events.falseImage[i]!)
  const limits = fppi.map((limit, at) => ({ limit, at })).sort((a, b) => a.limit - b.limit)

  return (weights) => {
    const result = new Float64Array(fppi.length).fill(Number.NaN)
    let images = 0
    for (let i = 0; i < events.images; i++) if (where === 'all' || events.massFree[i]) images += weights[i]!
    let lesions = 0
    for (const image of lesionImage) lesions += weights[image]!
    if (lesions === 0 || images === 0) return result
    let falsePositives = 0
    let p = 0
    let found = 0
    let q = 0
    for (const { limit, at } of limits) {
      // Walk down the false positives, equal scores together, to the first score that is too many.
      while (p < falseScore.length) {
        let next = p
        let sum = falsePositives
        const score = falseScore[p]!
        while (next < falseScore.length && falseScore[next] === score) sum += weights[falseImage[next++]!]!
        if (sum / images > limit) break
        p = next
        falsePositives = sum
      }
      const barrier = p < falseScore.length ? falseScore[p]! : Number.NEGATIVE_INFINITY
      while (q < lesionScore.length && lesionScore[q]! > barrier) found += weights[lesionImage[q++]!]!
      result[at] = found / lesions
    }
    return result
  }
}
