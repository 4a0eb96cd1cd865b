// How well a set of anchors fits a set of boxes: the objectives of the anchor search, smaller is better. `focal`, `avg` and `ce` follow the
// description of the anchor-optimization tool (IoU that counts the last pixel in, boxes centred on the anchors or placed on the grid);
// `recall` is this project's: what the matcher sees when a box lies anywhere between the grid's cells. Nothing here searches.
//
// On a grid only one cell per level matters: for an anchor of given shape, intersection falls with the distance of the centres along each
// axis, so the cell nearest in x and in y is the best. The whole grid is therefore never built.

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

/** The objective of weighted boxes, for searching: centred boxes are judged to about 1e-6, boxes on the grid exactly. */
export function prepareSearch({ boxes, weights }: WeightedBoxes, options: ObjectiveOptions): AnchorObjective {
  const cost = costOf(options)
  return options.grid || options.objective === 'recall'
    ? gridObjective(boxes, options, cost, weights)
    : centredSearch(boxes, options, cost, weights)
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

/** The parts of centred boxes that do not depend on the anchors, ordered by area. */
interface CentredBoxes {
  /** Sides, the last pixel counted in where asked. */
  width: Float64Array
  height: Float64Array
  /** Side of the square of the same area. */
  peak: Float64Array
  /** Position in the list that was given. */
  order: Int32Array
}

function centredBoxes(boxes: FlatBoxes, extra: number): CentredBoxes {
  const n = boxes.length / 4
  const w = new Float64Array(n)
  const h = new Float64Array(n)
  const area = new Float64Array(n)
  for (let i = 0; i < n; i++) {
    w[i] = boxes[4 * i + 2]! - boxes[4 * i]! + extra
    h[i] = boxes[4 * i + 3]! - boxes[4 * i + 1]! + extra
    area[i] = w[i]! * h[i]!
  }
  const order = ascendingOrder(area)
  const sorted: CentredBoxes = {
    width: new Float64Array(n),
    height: new Float64Array(n),
    peak: new Float64Array(n),
    order,
  }
  for (let i = 0; i < n; i++) {
    sorted.width[i] = w[order[i]!]!
    sorted.height[i] = h[order[i]!]!
    sorted.peak[i] = Math.sqrt(area[order[i]!]!) - extra
  }
  return sorted
}

/** The anchors of every size, scale and ratio: sides and ratios ascending, shapes at [side][ratio]. */
interface AnchorShapes {
  sides: Float64Array
  ratios: Float64Array
  width: Float64Array
  height: Float64Array
}

function newShapes(sides: number, ratios: number): AnchorShapes {
  return {
    sides: new Float64Array(sides),
    ratios: new Float64Array(ratios),
    width: new Float64Array(sides * ratios),
    height: new Float64Array(sides * ratios),
  }
}

/** Writes the shapes of given ratios and scales over `shapes`, or into new ones when the numbers of them have changed. */
function anchorShapes(
  shapes: AnchorShapes,
  sizes: readonly number[],
  extra: number,
  ratios: readonly number[],
  scales: readonly number[],
): AnchorShapes {
  const R = ratios.length
  const S = scales.length
  if (shapes.ratios.length !== R || shapes.sides.length !== sizes.length * S) shapes = newShapes(sizes.length * S, R)
  const { sides, ratios: sorted, width, height } = shapes
  for (let l = 0; l < sizes.length; l++) for (let k = 0; k < S; k++) sides[l * S + k] = sizes[l]! * scales[k]!
  for (let r = 0; r < R; r++) sorted[r] = ratios[r]!
  ascending(sides)
  ascending(sorted)
  for (let r = 0; r < R; r++) {
    const root = Math.sqrt(sorted[r]!)
    for (let s = 0; s < sides.length; s++) {
      width[s * R + r] = sides[s]! / root + extra
      height[s * R + r] = sides[s]! * root + extra
    }
  }
  return shapes
}

/**
 * Boxes centred on the anchors. At one ratio the IoU rises with the anchor's side up to equal area and falls behind it. Inclusive pixels move that peak
 * by less than a pixel: two sides each way, at every ratio, are looked at.
 */
function centredObjective(boxes: FlatBoxes, options: ObjectiveOptions, cost: (iou: number) => number): AnchorObjective {
  const extra = options.inclusive ? 1 : 0
  const { width, height, peak, order } = centredBoxes(boxes, extra)
  const n = width.length
  let shapes = newShapes(0, 0)
  return (ratios, scales, limit = Number.POSITIVE_INFINITY, ious) => {
    shapes = anchorShapes(shapes, options.sizes, extra, ratios, scales)
    const { sides, width: anchorWidth, height: anchorHeight } = shapes
    const R = ratios.length
    const last = sides.length - 1
    const bound = limit * n
    let sum = 0
    let smaller = 0
    for (let i = 0; i < n; i++) {
      while (smaller < last - 1 && sides[smaller + 1]! <= peak[i]!) smaller++
      const from = Math.max(0, smaller - 1) * R
      const to = (Math.min(last, smaller + 2) + 1) * R
      const bw = width[i]!
      const bh = height[i]!
      const area = bw * bh
      // q = intersection / (area + area'); IoU = q / (1 - q) grows with q.
      let q = 0
      for (let a = from; a < to; a++) {
        const aw = anchorWidth[a]!
        const ah = anchorHeight[a]!
        const candidate = (Math.min(bw, aw) * Math.min(bh, ah)) / (area + aw * ah)
        if (candidate > q) q = candidate
      }
      const iou = q / (1 - q)
      if (ious !== undefined) ious[order[i]!] = iou
      sum += cost(iou)
      if (sum > bound) return Number.POSITIVE_INFINITY
    }
    return sum / n
  }
}

/** Steps of the table of costs over q = 0 to 1/2: judged to about 1e-6, and quick to make in a process that searches once. */
const STEPS = 1024

/**
 * The same for searching. At one side the IoU rises with the ratio up to the box's own and falls behind it, so of all anchors four need a look: the next
 * smaller and larger side at the next smaller and larger ratio (inclusive pixels move the peaks by less than a pixel, which is left out). Costs come
 * from a table. The smaller of two numbers is taken without a branch, which the processor could not predict: 2 min(a, b) = a + b - |a - b|.
 */
function centredSearch(
  boxes: FlatBoxes,
  options: ObjectiveOptions,
  cost: (iou: number) => number,
  weights: Float64Array,
): AnchorObjective {
  const extra = options.inclusive ? 1 : 0
  const { width, height, peak, order } = centredBoxes(boxes, extra)
  const n = width.length
  const weight = new Float64Array(n)
  const ratio = new Float64Array(n)
  let total = 0
  for (let i = 0; i < n; i++) {
    weight[i] = weights[order[i]!]!
    ratio[i] = (height[i]! - extra) / (width[i]! - extra)
    total += weight[i]!
  }
  const table = new Float64Array(STEPS + 2)
  for (let i = 0; i < table.length; i++) {
    const q = Math.max(1e-9, Math.min(0.5, i / STEPS / 2))
    table[i] = cost(q / (1 - q))
  }
  const prepared: PreparedSearch = { width, height, peak, ratio, weight, table, total }
  let shapes = newShapes(0, 0)
  return (ratios, scales, limit = Number.POSITIVE_INFINITY) => {
    shapes = anchorShapes(shapes, options.sizes, extra, ratios, scales)
    return searchValue(prepared, shapes, limit)
  }
}

interface PreparedSearch {
  width: Float64Array
  height: Float64Array
  peak: Float64Array
  /** height / width */
  ratio: Float64Array
  weight: Float64Array
  table: Float64Array
  total: number
}

/** One value. A function of its own, not a closure: what the compiler has made of it serves every later search. */
function searchValue(prepared: PreparedSearch, shapes: AnchorShapes, limit: number): number {
  const { width, height, peak, ratio, weight, table, total } = prepared
  const { sides, ratios, width: anchorWidth, height: anchorHeight } = shapes
  const n = width.length
  const R = ratios.length
  const lastPair = sides.length - 2
  const wider = lastPair < 0 ? 0 : R
  const steeper = R === 1 ? 0 : 1
  const bound = limit * total
  let sum = 0
  let smaller = 0
  for (let i = 0; i < n; i++) {
    while (smaller < lastPair && sides[smaller + 1]! <= peak[i]!) smaller++
    let a = smaller * R
    for (let r = 1; r < R - 1; r++) a += ratios[r]! <= ratio[i]! ? 1 : 0
    const bw = width[i]!
    const bh = height[i]!
    const area = bw * bh
    // Four times intersection over (area + area').
    let q = 0
    for (let k = 0; k < 4; k++) {
      const at = a + (k & 1) * steeper + (k >> 1) * wider
      const aw = anchorWidth[at]!
      const ah = anchorHeight[at]!
      const other = ((bw + aw - Math.abs(bw - aw)) * (bh + ah - Math.abs(bh - ah))) / (area + aw * ah)
      if (other > q) q = other
    }
    const place = q * (STEPS / 2)
    const at = place | 0
    const low = table[at]!
    sum += weight[i]! * (low + (place - at) * (table[at + 1]! - low))
    if (sum > bound) return Number.POSITIVE_INFINITY
  }
  return sum / total
}

/** Insertion sort: a handful of numbers, nearly sorted, thousands of times. */
function ascending(values: Float64Array): void {
  for (let i = 1; i < values.length; i++) {
    const value = values[i]!
    let j = i
    for (; j > 0 && values[j - 1]! > value; j--) values[j] = values[j - 1]!
    values[j] = value
  }
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
 * Fewer weighted boxes of about the same distribution of width and height: cells of a median split along the wider axis of the logarithms, each
 * replaced by its geometric mean. For searching only; positions are lost.
 */
export function condense(boxes: FlatBoxes, cells: number): WeightedBoxes {
  const n = boxes.length / 4
  const width = new Float64Array(n)
  const height = new Float64Array(n)
  for (let i = 0; i < n; i++) {
    width[i] = Math.log(boxes[4 * i + 2]! - boxes[4 * i]!)
    height[i] = Math.log(boxes[4 * i + 3]! - boxes[4 * i + 1]!)
  }
  const most = Math.max(1, Math.ceil(n / cells))
  const out: number[] = []
  const weights: number[] = []
  const split = (members: Int32Array): void => {
    const [w, h] = [width, height].map((log) => pick(log, members)) as [Float64Array, Float64Array]
    const [a, b] = [range(w), range(h)].map(([low, high]) => high - low) as [number, number]
    if (members.length <= most || Math.max(a, b) === 0) {
      out.push(0, 0, Math.exp(mean(w)), Math.exp(mean(h)))
      weights.push(members.length)
      return
    }
    const order = ascendingOrder(a >= b ? w : h)
    const sorted = new Int32Array(members.length)
    for (let k = 0; k < sorted.length; k++) sorted[k] = members[order[k]!]!
    split(sorted.subarray(0, sorted.length >> 1))
    split(sorted.subarray(sorted.length >> 1))
  }
  if (n > 0) split(Int32Array.from({ length: n }, (_, i) => i))
  return { boxes: Float64Array.from(out), weights: Float64Array.from(weights) }
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

function mean(values: Float64Array): number {
  let sum = 0
  for (let k = 0; k < values.length; k++) sum += values[k]!
  return sum / values.length
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

/** Best IoU of each box, by the same rules (with `recall`: the mean over its places). */
export function bestIous(
  boxes: FlatBoxes,
  options: ObjectiveOptions,
  ratios: readonly number[],
  scales: readonly number[],
): Float64Array {
  const n = boxes.length / 4
  const places = options.objective === 'recall' ? PLACES * PLACES : 1
  const all = new Float64Array(n * places)
  prepareObjective(boxes, options)(ratios, scales, Number.POSITIVE_INFINITY, all)
  if (places === 1) return all
  const means = new Float64Array(n)
  for (let k = 0; k < all.length; k++) means[Math.floor(k / places)]! += all[k]! / places
  return means
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
