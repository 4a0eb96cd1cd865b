// Average precision as keras-retinanet computes it (the area under the interpolated precision-recall curve, PASCAL VOC 2010 style): one
// IoU threshold, every recall change counts. Not COCO's (coco-ap.ts). Ties, left to an unstable sort there, are broken by image order,
// then by detection order. Regions to ignore, unknown there, cost a detection nothing.
import { area, intersection, iou } from '../geometry/boxes.js'
import type { Detection, DetectionsByImage, ImageTruth } from './types.js'

export interface VocOptions {
  classes: number
  /** IoU at or above is a hit. */
  iou: number
  /** Scores strictly above are scored. */
  scoreThreshold: number
  /** Best detections of an image, all classes together. */
  maxDetections: number
}

/** One scored detection in order of descending score. */
export interface Judged {
  /** Position of the image in the list of truths. */
  image: number
  score: number
  hit: boolean
}

export interface VocClass {
  label: number
  /** null: undefined, as there is no lesion of this class. */
  ap: number | null
  instances: number
  /** In order of descending score. */
  judged: Judged[]
}

export interface VocResult {
  /** Mean over the classes with lesions; null without any. */
  map: number | null
  /** The same, weighted by lesions. */
  weighted: number | null
  classes: VocClass[]
}

export function vocAp(truth: readonly ImageTruth[], detections: DetectionsByImage, options: VocOptions): VocResult {
  const judged: Judged[][] = Array.from({ length: options.classes }, () => [])
  const instances = new Array<number>(options.classes).fill(0)
  truth.forEach((image, position) => {
    for (const box of image.boxes) if (!box.ignore) instances[box.label]! += 1
    const kept = strongest(detections.get(image.id) ?? [], options.scoreThreshold, options.maxDetections)
    for (const [label, list] of judged.entries()) judgeImage(image, position, kept, label, options.iou, list)
  })
  const classes = judged.map((list, label): VocClass => {
    // Array.prototype.sort is stable, so image order and detection order break ties.
    list.sort((a, b) => b.score - a.score)
    const n = instances[label]!
    return {
      label,
      ap:
        n === 0
          ? null
          : averagePrecision(
              Uint8Array.from(list, (d) => Number(d.hit)),
              n,
            ),
      instances: n,
      judged: list,
    }
  })
  const present = classes.filter((c) => c.instances > 0)
  const total = present.reduce((sum, c) => sum + c.instances, 0)
  return {
    map: present.length === 0 ? null : present.reduce((sum, c) => sum + c.ap!, 0) / present.length,
    weighted: total === 0 ? null : present.reduce((sum, c) => sum + c.ap! * c.instances, 0) / total,
    classes,
  }
}

/** Detections with score > threshold, the `limit` best, by descending score (stable). */
export function strongest(detections: readonly Detection[], threshold: number, limit: number): Detection[] {
  return detections
    .filter((d) => d.score > threshold)
    .sort((a, b) => b.score - a.score)
    .slice(0, limit)
}

/** Each detection may take its best box only: if that one is taken already, it is a false positive. */
function judgeImage(
  image: ImageTruth,
  position: number,
  kept: readonly Detection[],
  label: number,
  threshold: number,
  out: Judged[],
): void {
  const boxes = image.boxes.filter((b) => b.label === label && !b.ignore)
  const ignored = image.boxes.filter((b) => b.label === label && b.ignore)
  const taken = new Uint8Array(boxes.length)
  for (const { box, score, label: of } of kept) {
    if (of !== label) continue
    let best = -1
    let bestIou = Number.NEGATIVE_INFINITY
    for (const [i, lesion] of boxes.entries()) {
      const overlap = iou(lesion.box, box)
      if (overlap > bestIou) {
        best = i
        bestIou = overlap
      }
    }
    const hit = best >= 0 && bestIou >= threshold && !taken[best]
    if (hit) taken[best] = 1
    else if (ignored.some((region) => intersection(region.box, box) >= threshold * area(box))) continue
    out.push({ image: position, score, hit })
  }
}

/**
 * Area under the interpolated precision-recall curve. `hits` are the detections in order of descending score, 1 for a true positive;
 * `weights` (all 1 by default) lets a resampled detection count several times. `lesions` is the (weighted) number of lesions, above 0.
 */
export function averagePrecision(hits: Uint8Array, lesions: number, weights?: Float64Array): number {
  const n = hits.length
  const recall = new Float64Array(n + 2)
  const precision = new Float64Array(n + 2)
  let found = 0
  let false_ = 0
  for (let i = 0; i < n; i++) {
    const weight = weights === undefined ? 1 : weights[i]!
    if (hits[i]) found += weight
    else false_ += weight
    recall[i + 1] = found / lesions
    precision[i + 1] = found / Math.max(found + false_, Number.EPSILON)
  }
  recall[n + 1] = 1
  for (let i = n; i >= 0; i--) if (precision[i + 1]! > precision[i]!) precision[i] = precision[i + 1]!
  let ap = 0
  for (let i = 0; i <= n; i++) if (recall[i + 1] !== recall[i]) ap += (recall[i + 1]! - recall[i]!) * precision[i + 1]!
  return ap
}
