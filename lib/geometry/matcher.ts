// Which anchors learn which box: the readable reference of native/core/ops/matcher, which it must agree with. Order of the decisions:
// best box by IoU (ties to the first box), thresholds, low-quality matches, ignore rules (which override background only, except
// keras-retinanet's rule for anchors outside the image). Methods: retinanet spec 3.2; ATSS: Zhang et al., 2020.
import type { AnchorConfig, GridSize } from './anchors.js'
import { anchorStrides } from './anchors.js'
import { type Box, boxAt, iou, iouFloat32 } from './boxes.js'

/** Structurally the MatcherConfig of the binding. */
export interface MatcherConfig {
  kind: 'iou' | 'atss'
  positiveIou: number
  negativeIou: number
  /** At IoU exactly `negativeIou`: true background, false ignored. */
  negativeInclusive: boolean
  lowQuality: boolean
  /** Floor of low-quality matches. A floor of 0 also matches ties at IoU 0, as torchvision does. */
  lowQualityMinIou: number
  outside: 'background' | 'ignoreBackground' | 'ignoreAll'
  /** Cells per level whose anchors are candidates. */
  atssTopk: number
  atssCentreInBox: boolean
}

export const BACKGROUND = -1
export const IGNORED = -2

/** Anchors with what matching needs to know about their cells. */
export interface AnchorField {
  /** Flat [N,4]; float32 selects float32 IoU, float64 double IoU. */
  anchors: Float32Array | Float64Array
  /** Centre of each anchor's cell, [N,2] x, y: rules about centres use it, not averaged corners. */
  centres: Float64Array
  /** First anchor of each level, and the total last. */
  levels: readonly number[]
  /** Anchors per cell. */
  perCell: number
}

/** Cell centres and level starts for the anchors of `anchorTable`. */
export function anchorField(
  config: AnchorConfig,
  grids: readonly GridSize[],
  canvas: readonly [number, number],
  anchors: Float32Array | Float64Array,
): AnchorField {
  const perCell = config.ratios.length * config.scales.length
  const centres = new Float64Array(anchors.length / 2)
  const levels = [0]
  const strides = anchorStrides(config, grids, canvas)
  let at = 0
  grids.forEach(([rows, columns], level) => {
    const [strideY, strideX] = strides[level]!
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++)
        for (let a = 0; a < perCell; a++) {
          centres[at++] = (column + config.offset) * strideX
          centres[at++] = (row + config.offset) * strideY
        }
    levels.push(at / 2)
  })
  return { anchors, centres, levels, perCell }
}

export interface MatchInput {
  /** [m] truth boxes; their coordinates are rounded to float32 beside float32 anchors. */
  boxes: readonly Readonly<Box>[]
  /** Height, width of the real image inside the canvas; anchors whose cell centre lies at or beyond it are outside. */
  image: readonly [number, number]
  /** Regions in which background anchors (by cell centre) are ignored. */
  ignore?: readonly Readonly<Box>[]
}

export interface Matches {
  /** Per anchor: index of its box, or BACKGROUND, or IGNORED. */
  state: Int32Array
  /** Per anchor: box of largest IoU (the first on ties), 0 without overlap. Meaningless without boxes. */
  best: Int32Array
  /** Per anchor: that IoU. */
  overlap: Float64Array
}

/** Assigns anchors to boxes. */
export function matchAnchors(field: AnchorField, input: MatchInput, config: MatcherConfig): Matches {
  const n = field.anchors.length / 4
  const { best, overlap, most } = bestOverlaps(field, input.boxes)
  const state = config.kind === 'iou' ? byThresholds(field, overlap, best, config) : byAtss(field, input.boxes, config)
  if (config.kind === 'iou' && config.lowQuality && input.boxes.length > 0) {
    const floor = config.lowQualityMinIou
    // Every anchor that reaches the maximum of some box goes to its OWN best box, which may be another one.
    for (let a = 0; a < n; a++)
      if (input.boxes.some((box, b) => most[b]! >= floor && overlapOf(field, a, box) === most[b])) state[a] = best[a]!
  }
  applyIgnoreRules(field, input, config, state)
  return { state, best, overlap }
}

function overlapOf(field: AnchorField, anchor: number, box: Readonly<Box>): number {
  const f = Math.fround
  return field.anchors instanceof Float32Array
    ? iouFloat32(...boxAt(field.anchors, anchor), f(box[0]), f(box[1]), f(box[2]), f(box[3]))
    : iou(boxAt(field.anchors, anchor), box)
}

function bestOverlaps(field: AnchorField, boxes: readonly Readonly<Box>[]) {
  const n = field.anchors.length / 4
  const best = new Int32Array(n)
  const overlap = new Float64Array(n)
  const most = new Float64Array(boxes.length)
  for (let a = 0; a < n; a++)
    for (const [b, box] of boxes.entries()) {
      const value = overlapOf(field, a, box)
      if (value > overlap[a]!) {
        overlap[a] = value
        best[a] = b
      }
      if (value > most[b]!) most[b] = value
    }
  return { best, overlap, most }
}

function byThresholds(field: AnchorField, overlap: Float64Array, best: Int32Array, config: MatcherConfig): Int32Array {
  // A threshold is compared in the precision of the IoU: 2/5 in float32 is not below 0.4 in float32, but is above 0.4 in double.
  const round = field.anchors instanceof Float32Array ? Math.fround : (value: number) => value
  const positive = round(config.positiveIou)
  const negative = round(config.negativeIou)
  return Int32Array.from(overlap, (value, a) => {
    if (value >= positive) return best[a]!
    const background = config.negativeInclusive ? value <= negative : value < negative
    return background ? BACKGROUND : IGNORED
  })
}

/**
 * Adaptive training sample selection: per box the nearest anchors of each level are candidates, positive where their IoU reaches mean plus
 * standard deviation of the candidates. Everything else is background: there is no band to ignore.
 */
function byAtss(field: AnchorField, boxes: readonly Readonly<Box>[], config: MatcherConfig): Int32Array {
  const n = field.anchors.length / 4
  const state = new Int32Array(n).fill(BACKGROUND)
  const owned = new Float64Array(n).fill(-1)
  for (const [b, box] of boxes.entries()) {
    const candidates: number[] = []
    const cx = (box[0] + box[2]) / 2
    const cy = (box[1] + box[3]) / 2
    for (let level = 0; level + 1 < field.levels.length; level++) {
      const [first, end] = [field.levels[level]!, field.levels[level + 1]!]
      const distance = (a: number) => Math.hypot(field.centres[2 * a]! - cx, field.centres[2 * a + 1]! - cy)
      const order = Array.from({ length: end - first }, (_, i) => first + i).sort(
        (p, q) => distance(p) - distance(q) || p - q,
      )
      candidates.push(...order.slice(0, config.atssTopk * field.perCell))
    }
    const values = candidates.map((a) => overlapOf(field, a, box))
    const mean = values.reduce((sum, v) => sum + v, 0) / values.length
    const deviation = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (values.length - 1))
    // One candidate has no deviation: it is positive.
    const threshold = values.length < 2 ? Number.NEGATIVE_INFINITY : mean + deviation
    const inside = (a: number) => {
      const [x, y] = [field.centres[2 * a]!, field.centres[2 * a + 1]!]
      return Math.min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
    }
    let chosen = candidates.filter((a, i) => values[i]! >= threshold && (!config.atssCentreInBox || inside(a)))
    // A box with no centre inside still teaches: its best candidate.
    if (chosen.length === 0 && candidates.length > 0) chosen = [candidates[values.indexOf(Math.max(...values))]!]
    for (const a of chosen) {
      const value = overlapOf(field, a, box)
      if (value > owned[a]!) {
        owned[a] = value
        state[a] = b
      }
    }
  }
  return state
}

function applyIgnoreRules(field: AnchorField, input: MatchInput, config: MatcherConfig, state: Int32Array): void {
  const [height, width] = input.image
  for (let a = 0; a < state.length; a++) {
    const [x, y] = [field.centres[2 * a]!, field.centres[2 * a + 1]!]
    const outside = x >= width || y >= height
    if (
      outside &&
      (config.outside === 'ignoreAll' || (config.outside === 'ignoreBackground' && state[a] === BACKGROUND))
    )
      state[a] = IGNORED
    if (state[a] === BACKGROUND && input.ignore?.some((r) => x >= r[0] && x < r[2] && y >= r[1] && y < r[3]))
      state[a] = IGNORED
  }
}
