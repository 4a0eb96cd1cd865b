// Greedy non-maximum suppression: the best box stays, boxes whose IoU with it is strictly above the threshold go, and so on. Equal scores
// keep their index order. IoU in float32 steps, so that borderline pairs fall as in torchvision and the native op. Not box fusion.
import { iouFloat32 } from './boxes.js'

/** Indices by descending score; equal scores in index order. */
export function orderByScore(scores: ArrayLike<number>): Int32Array {
  const order = Int32Array.from({ length: scores.length }, (_, i) => i)
  return order.sort((a, b) => scores[b]! - scores[a]! || a - b)
}

/**
 * Kept indices, by descending score. `boxes` is flat [n,4] xyxy, rounded to float32 here.
 * With `labels`, only boxes of the same class suppress each other.
 * @throws RangeError when the lengths disagree.
 */
export function nms(
  boxes: ArrayLike<number>,
  scores: ArrayLike<number>,
  iouThreshold: number,
  labels?: ArrayLike<number>,
): number[] {
  const n = scores.length
  if (boxes.length !== 4 * n || (labels !== undefined && labels.length !== n))
    throw new RangeError(
      `nms expects ${n} boxes and labels for ${n} scores, got ${boxes.length / 4} and ${labels?.length}`,
    )
  const b = boxes instanceof Float32Array ? boxes : Float32Array.from(boxes)
  const order = orderByScore(scores)
  const gone = new Uint8Array(n)
  const kept: number[] = []
  for (let p = 0; p < n; p++) {
    const i = order[p]!
    if (gone[i]) continue
    kept.push(i)
    const [x1, y1, x2, y2] = [b[4 * i]!, b[4 * i + 1]!, b[4 * i + 2]!, b[4 * i + 3]!]
    for (let q = p + 1; q < n; q++) {
      const j = order[q]!
      if (gone[j] || (labels !== undefined && labels[i] !== labels[j])) continue
      if (iouFloat32(x1, y1, x2, y2, b[4 * j]!, b[4 * j + 1]!, b[4 * j + 2]!, b[4 * j + 3]!) > iouThreshold) gone[j] = 1
    }
  }
  return kept
}

/** Rules of selection after decoding, structurally part of the binding's PostConfig. */
export interface SelectionRules {
  /** Scores strictly above stay. */
  scoreThreshold: number
  /** null: no suppression at all. */
  nmsIou: number | null
  agnostic: boolean
  /** Only the best class of a box competes. */
  bestClassOnly: boolean
  maxDetections: number
}

export interface Selection {
  /** Row of the box. */
  index: number[]
  label: number[]
  score: number[]
}

/** Detections from boxes [n,4] and class scores [n, classes]: threshold, suppression, the best `maxDetections` by score. */
export function selectDetections(
  boxes: ArrayLike<number>,
  classScores: ArrayLike<number>,
  classes: number,
  rules: SelectionRules,
): Selection {
  const n = boxes.length / 4
  const candidates: { index: number; label: number; score: number }[] = []
  if (rules.bestClassOnly) {
    for (let index = 0; index < n; index++) {
      let label = 0
      for (let c = 1; c < classes; c++)
        if (classScores[index * classes + c]! > classScores[index * classes + label]!) label = c
      candidates.push({ index, label, score: classScores[index * classes + label]! })
    }
  } else {
    for (let label = 0; label < classes; label++)
      for (let index = 0; index < n; index++)
        candidates.push({ index, label, score: classScores[index * classes + label]! })
  }
  const able = candidates.filter((c) => c.score > rules.scoreThreshold)
  const chosen =
    rules.nmsIou === null
      ? Array.from(orderByScore(able.map((c) => c.score)))
      : nms(
          able.flatMap((c) => [0, 1, 2, 3].map((k) => boxes[4 * c.index + k]!)),
          able.map((c) => c.score),
          rules.nmsIou,
          rules.agnostic || rules.bestClassOnly ? undefined : able.map((c) => c.label),
        )
  const best = chosen.slice(0, rules.maxDetections).map((i) => able[i]!)
  return { index: best.map((c) => c.index), label: best.map((c) => c.label), score: best.map((c) => c.score) }
}
