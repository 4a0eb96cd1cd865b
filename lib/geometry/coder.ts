// Box coders: what the network regresses instead of coordinates. `corner`: offsets of the four corners in units of the anchor's sides
// (keras-retinanet); `centre`: offsets of the centre and logarithms of the sides (Faster R-CNN). Works on single boxes in double; the readable
// reference of native/core/ops/coder.
import type { Box } from './boxes.js'

/** Structurally the CoderConfig of the binding. */
export interface CoderConfig {
  kind: 'corner' | 'centre'
  /** corner: the four standard deviations; centre: the four weights. */
  weights: readonly [number, number, number, number]
  /** Upper limit of the log sides in decoding; null for none. */
  clamp: number | null
}

export type Deltas = [number, number, number, number]

/** Deltas that lead from `anchor` to `box`. `mean` is subtracted first (corner coder only; 0 everywhere but in old keras-retinanet models). */
export function encodeBox(
  coder: CoderConfig,
  anchor: Readonly<Box>,
  box: Readonly<Box>,
  mean: Readonly<Deltas> = [0, 0, 0, 0],
): Deltas {
  const [ax1, ay1, ax2, ay2] = anchor
  const [x1, y1, x2, y2] = box
  const [wx, wy, ww, wh] = coder.weights
  const aw = ax2 - ax1
  const ah = ay2 - ay1
  if (coder.kind === 'corner')
    return [
      ((x1 - ax1) / aw - mean[0]) / wx,
      ((y1 - ay1) / ah - mean[1]) / wy,
      ((x2 - ax2) / aw - mean[2]) / ww,
      ((y2 - ay2) / ah - mean[3]) / wh,
    ]
  const w = x2 - x1
  const h = y2 - y1
  return [
    (wx * (x1 + 0.5 * w - (ax1 + 0.5 * aw))) / aw,
    (wy * (y1 + 0.5 * h - (ay1 + 0.5 * ah))) / ah,
    ww * Math.log(w / aw),
    wh * Math.log(h / ah),
  ]
}

/** The box that `deltas` make of `anchor`. */
export function decodeBox(
  coder: CoderConfig,
  anchor: Readonly<Box>,
  deltas: Readonly<Deltas>,
  mean: Readonly<Deltas> = [0, 0, 0, 0],
): Box {
  const [ax1, ay1, ax2, ay2] = anchor
  const [wx, wy, ww, wh] = coder.weights
  const aw = ax2 - ax1
  const ah = ay2 - ay1
  if (coder.kind === 'corner')
    return [
      ax1 + (deltas[0] * wx + mean[0]) * aw,
      ay1 + (deltas[1] * wy + mean[1]) * ah,
      ax2 + (deltas[2] * ww + mean[2]) * aw,
      ay2 + (deltas[3] * wh + mean[3]) * ah,
    ]
  const limit = coder.clamp ?? Number.POSITIVE_INFINITY
  const cx = (deltas[0] / wx) * aw + ax1 + 0.5 * aw
  const cy = (deltas[1] / wy) * ah + ay1 + 0.5 * ah
  const w = Math.exp(Math.min(deltas[2] / ww, limit)) * aw
  const h = Math.exp(Math.min(deltas[3] / wh, limit)) * ah
  return [cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h]
}
