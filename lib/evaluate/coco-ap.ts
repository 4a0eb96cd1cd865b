// COCO average precision and recall, number for number what pycocotools gives for boxes: matching rules, crowd regions, area ranges, limits of
// detections, ties (stable, in the listed order), 101 recall points. Boxes are x, y, width, height here, as in COCO files, because a width
// that is recomputed from corners may differ in the last bit and turn a decision. Not keras-retinanet's AP (voc-ap.ts).

export interface CocoTruth {
  /** 0..images-1 */
  image: number
  /** 0..classes-1 */
  label: number
  /** x, y, width, height */
  box: readonly [number, number, number, number]
  /** Square pixels, for the area ranges; width * height when left out. */
  area?: number
  /** Any number of detections may match it, none of them counts. */
  crowd?: boolean
}

export interface CocoDetection {
  image: number
  label: number
  /** x, y, width, height */
  box: readonly [number, number, number, number]
  score: number
}

export interface AreaRange {
  name: string
  /** Both ends included, in square pixels. */
  min: number
  max: number
}

export interface CocoOptions {
  images: number
  classes: number
  ious?: readonly number[]
  areas?: readonly AreaRange[]
  /** Ascending limits of detections per image and class. */
  maxDetections?: readonly number[]
}

/** Five-fold table, -1 where there is no ground truth: index ((t * classes + k) * areas + a) * limits + m. */
export interface CocoResult {
  ious: readonly number[]
  areas: readonly AreaRange[]
  maxDetections: readonly number[]
  classes: number
  /** Mean of the 101 interpolated precisions. */
  averagePrecision: Float64Array
  /** Largest recall. */
  recall: Float64Array
  /** Interpolated precision at the 101 recall points of one entry of the table; -1 without ground truth. */
  precision: Float64Array
  index(iou: number, label: number, area: number, limit: number): number
}

export const RECALL_POINTS = 101

/** numpy's linspace: the same doubles. */
export function linspace(start: number, stop: number, count: number): number[] {
  const step = (stop - start) / (count - 1)
  return Array.from({ length: count }, (_, i) => (i === count - 1 ? stop : i * step + start))
}

export const COCO_IOUS: readonly number[] = linspace(0.5, 0.95, 10)
export const COCO_AREAS: readonly AreaRange[] = [
  { name: 'all', min: 0, max: 1e10 },
  { name: 'small', min: 0, max: 32 ** 2 },
  { name: 'medium', min: 32 ** 2, max: 96 ** 2 },
  { name: 'large', min: 96 ** 2, max: 1e10 },
]
export const COCO_LIMITS: readonly number[] = [1, 10, 100]

const recallPoints = Float64Array.from(linspace(0, 1, RECALL_POINTS))
/** Added to the denominator by the reference. */
const SPACING = 2 ** -52

const UNMATCHED = 0
const HIT = 1
const IGNORED = 2

/** Judgement of the detections of one class, in image order and within an image by descending score. */
export interface CocoClassJudgement {
  scores: Float64Array
  /** Position within its image, to apply a smaller limit. */
  rank: Int32Array
  image: Int32Array
  /** [areas][t * n + i]: 0 false positive, 1 hit, 2 ignored. */
  status: Uint8Array[]
  /** Lesions that count, per area range and image: [areas][image]. */
  lesions: Int32Array[]
}

/** Index lists by image of the entries of one class. */
function byImage(entries: readonly { image: number; label: number }[], label: number, images: number): number[][] {
  const lists: number[][] = Array.from({ length: images }, () => [])
  for (const [i, entry] of entries.entries()) if (entry.label === label) lists[entry.image]!.push(i)
  return lists
}

/** Matches the detections of one class to its ground truth, image by image, at every IoU and area range. */
export function judgeClass(
  truth: readonly CocoTruth[],
  detections: readonly CocoDetection[],
  label: number,
  images: number,
  ious: readonly number[],
  areas: readonly AreaRange[],
  limit: number,
): CocoClassJudgement {
  const truthLists = byImage(truth, label, images)
  const detectionLists = byImage(detections, label, images).map((list) =>
    list.sort((a, b) => detections[b]!.score - detections[a]!.score).slice(0, limit),
  )
  const n = detectionLists.reduce((sum, list) => sum + list.length, 0)
  const judgement: CocoClassJudgement = {
    scores: new Float64Array(n),
    rank: new Int32Array(n),
    image: new Int32Array(n),
    status: areas.map(() => new Uint8Array(ious.length * n)),
    lesions: areas.map(() => new Int32Array(images)),
  }
  let first = 0
  for (let image = 0; image < images; image++) {
    const dt = detectionLists[image]!
    const gt = truthLists[image]!
    const d = dt.length
    const g = gt.length
    for (let i = 0; i < d; i++) {
      judgement.scores[first + i] = detections[dt[i]!]!.score
      judgement.rank[first + i] = i
      judgement.image[first + i] = image
    }
    if (d === 0 && g === 0) continue
    const overlaps = new Float64Array(d * g)
    const dtArea = new Float64Array(d)
    for (let i = 0; i < d; i++) {
      const [x, y, w, h] = detections[dt[i]!]!.box
      dtArea[i] = w * h
      for (let j = 0; j < g; j++) overlaps[i * g + j] = cocoIou(x, y, w, h, truth[gt[j]!]!)
    }
    for (const [a, range] of areas.entries()) {
      const outside = gt.map((index) => {
        const { box, area = box[2] * box[3], crowd } = truth[index]!
        return Boolean(crowd) || area < range.min || area > range.max
      })
      // Boxes that count come first, so that a detection prefers them.
      const order = gt.map((_, j) => j).sort((p, q) => Number(outside[p]) - Number(outside[q]))
      judgement.lesions[a]![image] = outside.filter((out) => !out).length
      const status = judgement.status[a]!
      for (const [t, threshold] of ious.entries()) {
        const taken = new Uint8Array(g)
        for (let i = 0; i < d; i++) {
          let least = Math.min(threshold, 1 - 1e-10)
          let match = -1
          for (const j of order) {
            if (taken[j] && !truth[gt[j]!]!.crowd) continue
            if (match >= 0 && !outside[match] && outside[j]) break
            const overlap = overlaps[i * g + j]!
            if (overlap < least) continue
            least = overlap
            match = j
          }
          const unusual = dtArea[i]! < range.min || dtArea[i]! > range.max
          if (match >= 0) taken[match] = 1
          status[t * n + first + i] = match >= 0 ? (outside[match] ? IGNORED : HIT) : unusual ? IGNORED : UNMATCHED
        }
      }
    }
    first += d
  }
  return judgement
}

/** pycocotools' IoU: against a crowd region, the share of the detection inside it. */
function cocoIou(x: number, y: number, w: number, h: number, { box, crowd }: CocoTruth): number {
  const width = Math.min(w + x, box[2] + box[0]) - Math.max(x, box[0])
  if (width <= 0) return 0
  const height = Math.min(h + y, box[3] + box[1]) - Math.max(y, box[1])
  if (height <= 0) return 0
  const common = width * height
  return common / (crowd ? w * h : w * h + box[2] * box[3] - common)
}

/** Positions of the scores in descending order, equal scores as listed. */
export function descending(scores: Float64Array): Int32Array {
  const order = Int32Array.from(scores, (_, i) => i)
  return order.sort((a, b) => scores[b]! - scores[a]! || a - b)
}

export interface PrecisionRecall {
  /** At the 101 recall points. */
  precision: Float64Array
  recall: number
}

/**
 * Interpolated precision at the 101 recall points from judged detections in descending order: hit 1, false 0; ignored ones are left out
 * beforehand. `weights` lets a resampled detection count several times.
 */
export function interpolate(hits: Uint8Array, count: number, lesions: number, weights?: Float64Array): PrecisionRecall {
  const precision = new Float64Array(count)
  const recall = new Float64Array(count)
  let found = 0
  let false_ = 0
  for (let i = 0; i < count; i++) {
    const weight = weights === undefined ? 1 : weights[i]!
    if (hits[i]) found += weight
    else false_ += weight
    recall[i] = found / lesions
    precision[i] = found / (false_ + found + SPACING)
  }
  for (let i = count - 1; i > 0; i--) if (precision[i]! > precision[i - 1]!) precision[i - 1] = precision[i]!
  const at = new Float64Array(RECALL_POINTS)
  let i = 0
  for (let r = 0; r < RECALL_POINTS; r++) {
    while (i < count && recall[i]! < recallPoints[r]!) i++
    if (i === count) break
    at[r] = precision[i]!
  }
  return { precision: at, recall: count === 0 ? 0 : recall[count - 1]! }
}

/** Evaluates box detections as pycocotools' COCOeval does. Labels and images outside their ranges are an error. */
export function cocoEvaluate(
  truth: readonly CocoTruth[],
  detections: readonly CocoDetection[],
  options: CocoOptions,
): CocoResult {
  const { images, classes, ious = COCO_IOUS, areas = COCO_AREAS, maxDetections = COCO_LIMITS } = options
  for (const entry of [truth, detections])
    for (const { image, label } of entry)
      if (!(image >= 0 && image < images && label >= 0 && label < classes))
        throw new RangeError(
          `cocoEvaluate expects image < ${images} and label < ${classes}, got image ${image}, label ${label}`,
        )
  const [T, A, M] = [ious.length, areas.length, maxDetections.length]
  const index = (t: number, k: number, a: number, m: number) => ((t * classes + k) * A + a) * M + m
  const size = T * classes * A * M
  const averagePrecision = new Float64Array(size).fill(-1)
  const recall = new Float64Array(size).fill(-1)
  const precision = new Float64Array(size * RECALL_POINTS).fill(-1)
  for (let k = 0; k < classes; k++) {
    const judged = judgeClass(truth, detections, k, images, ious, areas, maxDetections[M - 1]!)
    const n = judged.scores.length
    const order = descending(judged.scores)
    const hits = new Uint8Array(n)
    for (let a = 0; a < A; a++) {
      const lesions = judged.lesions[a]!.reduce((sum, count) => sum + count, 0)
      if (lesions === 0) continue
      const status = judged.status[a]!
      for (let m = 0; m < M; m++) {
        for (let t = 0; t < T; t++) {
          let count = 0
          for (let p = 0; p < n; p++) {
            const i = order[p]!
            const s = status[t * n + i]!
            if (s !== IGNORED && judged.rank[i]! < maxDetections[m]!) hits[count++] = s
          }
          const curve = interpolate(hits, count, lesions)
          const at = index(t, k, a, m)
          precision.set(curve.precision, at * RECALL_POINTS)
          averagePrecision[at] = curve.precision.reduce((sum, p) => sum + p, 0) / RECALL_POINTS
          recall[at] = curve.recall
        }
      }
    }
  }
  return { ious, areas, maxDetections, classes, averagePrecision, recall, precision, index }
}

/** Mean over the chosen entries of a table that are defined; null when none is. */
export function cocoMean(
  result: CocoResult,
  table: 'averagePrecision' | 'recall',
  choice: { iou?: number; label?: number; area: number; limit: number },
): number | null {
  let sum = 0
  let count = 0
  for (let t = 0; t < result.ious.length; t++) {
    if (choice.iou !== undefined && result.ious[t] !== choice.iou) continue
    for (let k = 0; k < result.classes; k++) {
      if (choice.label !== undefined && choice.label !== k) continue
      const value = result[table][result.index(t, k, choice.area, choice.limit)]!
      if (value < 0) continue
      sum += value
      count++
    }
  }
  return count === 0 ? null : sum / count
}

/** The twelve numbers of COCO; null where undefined (pycocotools prints -1). Expects the standard areas and limits. */
export interface CocoStatistics {
  AP: number | null
  AP50: number | null
  AP75: number | null
  AP_small: number | null
  AP_medium: number | null
  AP_large: number | null
  AR_1: number | null
  AR_10: number | null
  AR_100: number | null
  AR_small: number | null
  AR_medium: number | null
  AR_large: number | null
}

export function cocoStatistics(result: CocoResult): CocoStatistics {
  const ap = (area: number, iou?: number) =>
    cocoMean(result, 'averagePrecision', { area, limit: 2, ...(iou === undefined ? {} : { iou }) })
  const ar = (area: number, limit: number) => cocoMean(result, 'recall', { area, limit })
  return {
    AP: ap(0),
    AP50: ap(0, 0.5),
    AP75: ap(0, COCO_IOUS[5]!),
    AP_small: ap(1),
    AP_medium: ap(2),
    AP_large: ap(3),
    AR_1: ar(0, 0),
    AR_10: ar(0, 1),
    AR_100: ar(0, 2),
    AR_small: ar(1, 2),
    AR_medium: ar(2, 2),
    AR_large: ar(3, 2),
  }
}
