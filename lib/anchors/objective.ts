// How well a set of anchors fits a set of boxes: the objectives of the anchor search, smaller is better. `focal`, `avg` and `ce` follow the
// description of the anchor-optimization tool (IoU that counts the last pixel in, boxes centred on the anchors or placed on the grid);
// `recall` is this project's: what the matcher sees when a box lies anywhere between the grid's cells. Nothing here searches.
//
// On a grid only one cell per level matters: for an anchor of given shape, intersection falls with the distance of the centres along each
// axis, so the cell nearest in x and in y is the best. The whole grid is therefore never built.
import { type Objective, plainObjective } from './differential-evolution.js'
import { searchKernel } from './search-kernel.js'

export type ObjectiveName = 'focal' | 'avg' | 'ce' | 'recall'

/** The fixed part of the anchors: one entry per level. */
export interface LevelGrid {
  sizes: readonly number[]
  strides: readonly number[]
}

export interface ObjectiveOptions extends LevelGrid {
  objective: ObjectiveName
  /** Place boxes on the anchor grid of the image; otherwise every box is centred on every anchor. `recall` always uses the grid. */
  grid: boolean
  /** Grid extent: height, width of the image. With `grid` only. */
  image?: readonly [number, number]
  /** Count the last pixel in (the tool, keras' older conventions). */
  inclusive: boolean
  /** `recall` only: IoU of full and of no credit. */
  positiveIou?: number
  negativeIou?: number
}

/** Boxes in the form the objective reads: flat [n,4] xyxy. */
export type FlatBoxes = Float64Array

/** Positions per axis within a cell at which `recall` tries each box. */
const PLACES = 4
/** Weight of the mean IoU in `recall`, to order sets of equal recall. */
const TIE_WEIGHT = 0.01

/** Boxes that stand for several: weights sum to the number of boxes. */
export interface WeightedBoxes {
  /** flat [n,4] xyxy */
  boxes: FlatBoxes
  weights: Float64Array
}

/**
 * (ratios, scales, limit) -> value; it may stop and return Infinity once the value is sure to exceed `limit`. `ious`, where an exact objective is given
 * it, receives the best IoU of each box (on a grid: of each placement).
 */
export type AnchorObjective = (
  ratios: readonly number[],
  scales: readonly number[],
  limit?: number,
  ious?: Float64Array,
) => number

/** Prepares the exact objective. */
export function prepareObjective(boxes: FlatBoxes, options: ObjectiveOptions): AnchorObjective {
  const cost = costOf(options)
  return options.grid || options.objective === 'recall'
    ? gridObjective(boxes, options, cost)
    : centredObjective(boxes, options, cost)
}

/** What a search looks for: so many ratios (odd: 1 and pairs v, 1/v; even: pairs only) and scales. */
export interface AnchorCounts {
  ratios: number
  scales: number
}

/** Ratios, ascending, and scales of a point of the search: first a v for each pair of ratios, then the scales. */
export function decodePoint(x: ArrayLike<number>, ratios: number): { ratios: number[]; scales: number[] } {
  const pairs = ratios >> 1
  const all = ratios % 2 === 1 ? [1] : []
  for (let p = 0; p < pairs; p++) all.push(x[p]!, 1 / x[p]!)
  return {
    ratios: all.sort((a, b) => a - b),
    scales: Array.from(x)
      .slice(pairs)
      .sort((a, b) => a - b),
  }
}

/** The objective of weighted boxes, for searching: centred boxes are judged to about 1e-6, boxes on the grid exactly. */
export function prepareSearch({ boxes, weights }: WeightedBoxes, options: ObjectiveOptions & AnchorCounts): Objective {
  const cost = costOf(options)
  if (!options.grid && options.objective !== 'recall') return centredSearch(boxes, options, cost, weights)
  const objective = gridObjective(boxes, options, cost, weights)
  return plainObjective((options.ratios >> 1) + options.scales, (x, limit) => {
    const { ratios, scales } = decodePoint(x, options.ratios)
    return objective(ratios, scales, limit)
  })
}

function costOf(options: ObjectiveOptions): (iou: number) => number {
  const [positive, negative] = [options.positiveIou ?? 0.5, options.negativeIou ?? 0.4]
  switch (options.objective) {
    case 'focal':
      return (m) => -((1 - m) * (1 - m)) * Math.log(m)
    case 'avg':
      return (m) => 1 - m
    case 'ce':
      return (m) => -Math.log(m)
    case 'recall':
      return (m) => 1 - Math.min(1, Math.max(0, (m - negative) / (positive - negative))) + TIE_WEIGHT * (1 - m)
  }
}

/** Boxes centred on the anchors, every anchor looked at. */
function centredObjective(boxes: FlatBoxes, options: ObjectiveOptions, cost: (iou: number) => number): AnchorObjective {
  const extra = options.inclusive ? 1 : 0
  const n = boxes.length / 4
  return (ratios, scales, limit = Number.POSITIVE_INFINITY, ious) => {
    const shapes: [number, number][] = []
    for (const size of options.sizes)
      for (const scale of scales)
        for (const ratio of ratios) {
          const root = Math.sqrt(ratio)
          shapes.push([(size * scale) / root + extra, size * scale * root + extra])
        }
    const bound = limit * n
    let sum = 0
    for (let i = 0; i < n; i++) {
      const iou = bestOf(
        shapes,
        boxes[4 * i + 2]! - boxes[4 * i]! + extra,
        boxes[4 * i + 3]! - boxes[4 * i + 1]! + extra,
      )
      if (ious !== undefined) ious[i] = iou
      sum += cost(iou)
      if (sum > bound) return Number.POSITIVE_INFINITY
    }
    return sum / n
  }
}

function bestOf(shapes: readonly (readonly [number, number])[], width: number, height: number): number {
  // q = intersection / (area + area'); IoU = q / (1 - q) grows with q.
  let q = 0
  for (let a = 0; a < shapes.length; a++) {
    const [w, h] = shapes[a]!
    const common = Math.min(w, width) * Math.min(h, height)
    const both = width * height + w * h
    if (common > q * both) q = common / both
  }
  return q / (1 - q)
}

/** Steps of the table of costs over q = 0 to 1/2: judged to about 1e-6. */
const STEPS = 1024

/** Tables of costs, which depend on nothing but the objective, as it has been asked for. */
const tables = new Map<ObjectiveName, Float64Array>()

function costTable(objective: ObjectiveName, cost: (iou: number) => number): Float64Array {
  const known = tables.get(objective)
  if (known !== undefined) return known
  const table = new Float64Array(STEPS + 2)
  for (let i = 0; i < table.length; i++) {
    const q = Math.max(1e-9, Math.min(0.5, i / STEPS / 2))
    table[i] = cost(q / (1 - q))
  }
  tables.set(objective, table)
  return table
}

/**
 * The same for searching. At one ratio the IoU rises with the anchor's side up to equal area and falls behind it; at one side it rises with the ratio up to
 * the box's own and falls behind it. So of all anchors four need a look: the next smaller and larger side at the next smaller and larger ratio (inclusive
 * pixels move the peaks by less than a pixel, which is left out). Costs come from a table.
 */
function centredSearch(
  boxes: FlatBoxes,
  options: ObjectiveOptions & AnchorCounts,
  cost: (iou: number) => number,
  weights: Float64Array,
): Objective {
  const extra = options.inclusive ? 1 : 0
  const order = ascendingOrder(areas(boxes, extra))
  const costs = { table: costTable(options.objective, cost), steps: 2 * STEPS }
  return searchKernel({ boxes, weights, order, ...costs }, { ...options, extra })
}

function areas(boxes: FlatBoxes, extra: number): Float64Array {
  const area = new Float64Array(boxes.length / 4)
  for (let i = 0; i < area.length; i++)
    area[i] = (boxes[4 * i + 2]! - boxes[4 * i]! + extra) * (boxes[4 * i + 3]! - boxes[4 * i + 1]! + extra)
  return area
}

/** Boxes on the anchor grid, or at several places of it. */
function gridObjective(
  boxes: FlatBoxes,
  options: ObjectiveOptions,
  cost: (iou: number) => number,
  weights?: Float64Array,
): AnchorObjective {
  const { width, height, dx, dy, group, box } = placements(boxes, options)
  const levels = options.sizes.length
  const n = width.length
  const extra = options.inclusive ? 1 : 0
  const weight = Float64Array.from(box, (i) => weights?.[i] ?? 1)
  const total = weight.reduce((sum, v) => sum + v, 0)
  return (ratios, scales, limit = Number.POSITIVE_INFINITY, ious) => {
    const perLevel = ratios.length * scales.length
    const anchorWidth = new Float64Array(levels * perLevel)
    const anchorHeight = new Float64Array(levels * perLevel)
    let at = 0
    for (let level = 0; level < levels; level++)
      for (const ratio of ratios)
        for (const scale of scales) {
          anchorWidth[at] = (options.sizes[level]! * scale) / Math.sqrt(ratio)
          anchorHeight[at] = anchorWidth[at]! * ratio
          at++
        }
    const bound = limit * total
    let sum = 0
    for (let i = 0; i < n; i++) {
      const w = width[i]!
      const h = height[i]!
      const area = (w + extra) * (h + extra)
      let q = 0
      for (let level = 0; level < levels; level++) {
        const x = dx[group[i]! * levels + level]!
        const y = dy[group[i]! * levels + level]!
        for (let a = level * perLevel; a < (level + 1) * perLevel; a++) {
          const aw = anchorWidth[a]!
          const ah = anchorHeight[a]!
          // Overlap of intervals of lengths w and aw whose centres are x apart.
          const ix = Math.min(w, aw, (w + aw) / 2 - x) + extra
          const iy = Math.min(h, ah, (h + ah) / 2 - y) + extra
          if (ix <= 0 || iy <= 0) continue
          const common = ix * iy
          const both = area + (aw + extra) * (ah + extra)
          if (common > q * both) q = common / both
        }
      }
      const iou = q / (1 - q)
      if (ious !== undefined) ious[i] = iou
      sum += weight[i]! * cost(iou)
      if (sum > bound) return Number.POSITIVE_INFINITY
    }
    return sum / total
  }
}

/**
 * Fewer weighted boxes of about the same distribution of width and height: strips of equal number by area, cells of equal number by shape within a strip,
 * each cell replaced by its geometric mean. For searching only; positions are lost.
 */
export function condense(boxes: FlatBoxes, cells: number): WeightedBoxes {
  const n = boxes.length / 4
  const area = new Float64Array(n)
  const shape = new Float64Array(n)
  for (let i = 0; i < n; i++) {
    const width = Math.log(boxes[4 * i + 2]! - boxes[4 * i]!)
    const height = Math.log(boxes[4 * i + 3]! - boxes[4 * i + 1]!)
    area[i] = width + height
    shape[i] = height - width
  }
  const wanted = Math.min(n, cells)
  // As many strips as make cells about as wide as they are high.
  const [a, s] = [spread(area), spread(shape)]
  const strips = Math.min(wanted, Math.max(1, Math.round(Math.sqrt(s > 0 ? (wanted * a) / s : wanted * wanted))))
  const perStrip = strips === 0 ? 0 : Math.ceil(wanted / strips)
  const out = new Float64Array(4 * strips * perStrip)
  const weights = new Float64Array(strips * perStrip)
  const byArea = ascendingOrder(area)
  let count = 0
  for (let strip = 0; strip < strips; strip++) {
    const members = byArea.subarray(Math.floor((strip * n) / strips), Math.floor(((strip + 1) * n) / strips))
    const byShape = ascendingOrder(pick(shape, members))
    const m = members.length
    for (let cell = 0; cell < perStrip; cell++) {
      const from = Math.floor((cell * m) / perStrip)
      const to = Math.floor(((cell + 1) * m) / perStrip)
      if (from === to) continue
      let [logArea, logShape] = [0, 0]
      for (let k = from; k < to; k++) {
        logArea += area[members[byShape[k]!]!]! / (to - from)
        logShape += shape[members[byShape[k]!]!]! / (to - from)
      }
      out[4 * count + 2] = Math.exp((logArea - logShape) / 2)
      out[4 * count + 3] = Math.exp((logArea + logShape) / 2)
      weights[count++] = to - from
    }
  }
  return { boxes: out.subarray(0, 4 * count), weights: weights.subarray(0, count) }
}

/** Standard deviation. */
function spread(values: Float64Array): number {
  let [sum, squares] = [0, 0]
  for (let k = 0; k < values.length; k++) {
    sum += values[k]!
    squares += values[k]! * values[k]!
  }
  return Math.sqrt(Math.max(0, squares / values.length - (sum / values.length) ** 2))
}

function pick(values: Float64Array, at: Int32Array): Float64Array {
  const picked = new Float64Array(at.length)
  for (let k = 0; k < at.length; k++) picked[k] = values[at[k]!]!
  return picked
}

function range(values: Float64Array): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (let k = 0; k < values.length; k++) {
    if (values[k]! < low) low = values[k]!
    if (values[k]! > high) high = values[k]!
  }
  return [low, high]
}

/**
 * Positions in ascending order of the values; of equal values the earlier position first. Numbers sort natively, without a comparison function: each
 * carries its position in its last bits, so values that differ by less than n / 2^52 of their range count as equal.
 */
function ascendingOrder(values: Float64Array): Int32Array {
  const n = values.length
  const [low, high] = range(values)
  const steps = Math.floor(2 ** 52 / Math.max(1, n))
  const scale = high > low ? steps / (high - low) : 0
  const keys = new Float64Array(n)
  for (let i = 0; i < n; i++) keys[i] = Math.floor((values[i]! - low) * scale) * n + i
  keys.sort()
  const order = new Int32Array(n)
  for (let i = 0; i < n; i++) order[i] = keys[i]! % n
  return order
}

/** The exact objective of given anchors, and by the same rules the best IoU of each box (with `recall`: the mean over its places). */
export function judge(
  boxes: FlatBoxes,
  options: ObjectiveOptions,
  ratios: readonly number[],
  scales: readonly number[],
): { value: number; ious: Float64Array } {
  const n = boxes.length / 4
  const places = options.objective === 'recall' ? PLACES * PLACES : 1
  const all = new Float64Array(n * places)
  const value = prepareObjective(boxes, options)(ratios, scales, Number.POSITIVE_INFINITY, all)
  if (places === 1) return { value, ious: all }
  const ious = new Float64Array(n)
  for (let k = 0; k < all.length; k++) ious[Math.floor(k / places)]! += all[k]! / places
  return { value, ious }
}

function imageOf(boxes: FlatBoxes, { image }: ObjectiveOptions): { image: readonly [number, number] } {
  if (image !== undefined) return { image }
  let [height, width] = [0, 0]
  for (let i = 0; i < boxes.length; i += 4) {
    width = Math.max(width, boxes[i + 2]!)
    height = Math.max(height, boxes[i + 3]!)
  }
  return { image: [height, width] }
}

interface Placements {
  width: Float64Array
  height: Float64Array
  /** [groups][levels] distance of the box's centre from the nearest cell centre. */
  dx: Float64Array
  dy: Float64Array
  group: Int32Array
  /** The box of each placement. */
  box: Int32Array
}

function placements(boxes: FlatBoxes, options: ObjectiveOptions): Placements {
  const n = boxes.length / 4
  const levels = options.sizes.length
  const w = (i: number) => boxes[4 * i + 2]! - boxes[4 * i]!
  const h = (i: number) => boxes[4 * i + 3]! - boxes[4 * i + 1]!
  if (options.objective === 'recall') {
    // Places are distances from the nearest centre, evenly spread over half a cell of each level: 0 to half a stride.
    const places = PLACES * PLACES
    const dx = new Float64Array(places * levels)
    const dy = new Float64Array(places * levels)
    for (let p = 0; p < places; p++)
      for (let level = 0; level < levels; level++) {
        const stride = options.strides[level]!
        dx[p * levels + level] = (((p % PLACES) + 0.5) / PLACES / 2) * stride
        dy[p * levels + level] = ((Math.floor(p / PLACES) + 0.5) / PLACES / 2) * stride
      }
    return {
      width: Float64Array.from({ length: n * places }, (_, k) => w(Math.floor(k / places))),
      height: Float64Array.from({ length: n * places }, (_, k) => h(Math.floor(k / places))),
      dx,
      dy,
      group: Int32Array.from({ length: n * places }, (_, k) => k % places),
      box: Int32Array.from({ length: n * places }, (_, k) => Math.floor(k / places)),
    }
  }
  const dx = new Float64Array(n * levels)
  const dy = new Float64Array(n * levels)
  if (options.grid) {
    const { image } = imageOf(boxes, options)
    const distance = (centre: number, stride: number, extent: number) => {
      const cells = Math.ceil(extent / stride)
      const cell = Math.min(cells - 1, Math.max(0, Math.floor(centre / stride)))
      return Math.abs(centre - (cell + 0.5) * stride)
    }
    for (let i = 0; i < n; i++)
      for (let level = 0; level < levels; level++) {
        const stride = options.strides[level]!
        dx[i * levels + level] = distance((boxes[4 * i]! + boxes[4 * i + 2]!) / 2, stride, image[1])
        dy[i * levels + level] = distance((boxes[4 * i + 1]! + boxes[4 * i + 3]!) / 2, stride, image[0])
      }
  }
  return {
    width: Float64Array.from({ length: n }, (_, i) => w(i)),
    height: Float64Array.from({ length: n }, (_, i) => h(i)),
    dx,
    dy,
    group: Int32Array.from({ length: n }, (_, i) => i),
    box: Int32Array.from({ length: n }, (_, i) => i),
  }
}
