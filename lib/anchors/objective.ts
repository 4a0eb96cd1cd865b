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

/** (ratios, scales, limit) -> value; it may stop and return Infinity once the value is sure to exceed `limit`. */
export type AnchorObjective = (ratios: readonly number[], scales: readonly number[], limit?: number) => number

/** Prepares the exact objective. */
export function prepareObjective(boxes: FlatBoxes, options: ObjectiveOptions): AnchorObjective {
  const cost = costOf(options)
  return options.grid || options.objective === 'recall'
    ? gridObjective(boxes, options, cost)
    : centredObjective(boxes, options, cost, undefined, false)
}

/** The objective of a condensed set, for searching: close, not exact. */
export function prepareSearch({ boxes, weights }: WeightedBoxes, options: ObjectiveOptions): AnchorObjective {
  const cost = costOf(options)
  return options.grid || options.objective === 'recall'
    ? gridObjective(boxes, options, cost, weights)
    : centredObjective(boxes, options, cost, weights, true)
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

/**
 * Boxes centred on the anchors. At one ratio the IoU rises with the anchor's side up to equal area and falls behind it; at one side it rises with the
 * ratio up to the box's own and falls behind it. So of all anchors four need a look: the next smaller and larger side at the next smaller and
 * larger ratio. Inclusive pixels move the peaks by less than a pixel: `near` leaves that out (right to about 1e-6, for searching), otherwise
 * two sides each way and every ratio are looked at.
 */
function centredObjective(
  boxes: FlatBoxes,
  options: ObjectiveOptions,
  cost: (iou: number) => number,
  weights: Float64Array | undefined,
  near: boolean,
): AnchorObjective {
  const n = boxes.length / 4
  const extra = options.inclusive ? 1 : 0
  const w = (i: number) => boxes[4 * i + 2]! - boxes[4 * i]! + extra
  const h = (i: number) => boxes[4 * i + 3]! - boxes[4 * i + 1]! + extra
  // By area, so that the sides next to a box are found by walking.
  const order = Int32Array.from({ length: n }, (_, i) => i).sort((a, b) => w(a) * h(a) - w(b) * h(b) || a - b)
  const width = Float64Array.from(order, w)
  const height = Float64Array.from(order, h)
  const weight = Float64Array.from(order, (i) => weights?.[i] ?? 1)
  const total = weight.reduce((sum, v) => sum + v, 0)
  const peak = Float64Array.from(width, (v, i) => Math.sqrt(v * height[i]!) - extra)
  const shape = Float64Array.from(width, (v, i) => (height[i]! - extra) / (v - extra))
  const { sizes } = options
  const levels = sizes.length
  let sides = new Float64Array(0)
  let sorted = new Float64Array(0)
  let anchorWidth = new Float64Array(0)
  let anchorHeight = new Float64Array(0)

  return (ratios, scales, limit = Number.POSITIVE_INFINITY) => {
    const R = ratios.length
    const S = scales.length
    if (sorted.length !== R || sides.length !== levels * S) {
      sides = new Float64Array(levels * S)
      sorted = new Float64Array(R)
      anchorWidth = new Float64Array(levels * S * R)
      anchorHeight = new Float64Array(levels * S * R)
    }
    for (let l = 0; l < levels; l++) for (let k = 0; k < S; k++) sides[l * S + k] = sizes[l]! * scales[k]!
    for (let r = 0; r < R; r++) sorted[r] = ratios[r]!
    ascending(sides)
    ascending(sorted)
    for (let r = 0; r < R; r++) {
      const root = Math.sqrt(sorted[r]!)
      for (let s = 0; s < sides.length; s++) {
        anchorWidth[s * R + r] = sides[s]! / root + extra
        anchorHeight[s * R + r] = sides[s]! * root + extra
      }
    }
    const last = sides.length - 1
    const bound = limit * total
    let sum = 0
    let smaller = 0
    for (let i = 0; i < n; i++) {
      while (smaller < sides.length - 2 && sides[smaller + 1]! <= peak[i]!) smaller++
      let flatter = 0
      if (near) while (flatter < R - 2 && sorted[flatter + 1]! <= shape[i]!) flatter++
      const steeper = near ? Math.min(R - 1, flatter + 1) : R - 1
      const from = near ? smaller : Math.max(0, smaller - 1)
      const to = Math.min(last, near ? smaller + 1 : smaller + 2)
      const bw = width[i]!
      const bh = height[i]!
      const area = bw * bh
      // q = intersection / (area + area'); IoU = q / (1 - q) grows with q.
      let q = 0
      for (let side = from; side <= to; side++)
        for (let a = side * R + flatter; a <= side * R + steeper; a++) {
          const aw = anchorWidth[a]!
          const ah = anchorHeight[a]!
          const candidate = (Math.min(bw, aw) * Math.min(bh, ah)) / (area + aw * ah)
          if (candidate > q) q = candidate
        }
      sum += weight[i]! * cost(q / (1 - q))
      if (sum > bound) return Number.POSITIVE_INFINITY
    }
    return sum / total
  }
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
  return (ratios, scales, limit = Number.POSITIVE_INFINITY) => {
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
      sum += weight[i]! * cost(q / (1 - q))
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
  const logs = [2, 3].map((k) =>
    Float64Array.from({ length: n }, (_, i) => Math.log(boxes[4 * i + k]! - boxes[4 * i + k - 2]!)),
  )
  const most = Math.max(1, Math.ceil(n / cells))
  const out: number[] = []
  const weights: number[] = []
  const split = (members: number[]): void => {
    const range = logs.map((log) => {
      let [low, high] = [Infinity, -Infinity]
      for (const i of members) {
        low = Math.min(low, log[i]!)
        high = Math.max(high, log[i]!)
      }
      return high - low
    })
    if (members.length <= most || Math.max(...range) === 0) {
      const mean = logs.map((log) => Math.exp(members.reduce((sum, i) => sum + log[i]!, 0) / members.length))
      out.push(0, 0, mean[0]!, mean[1]!)
      weights.push(members.length)
      return
    }
    const log = logs[range[0]! >= range[1]! ? 0 : 1]!
    const sorted = members.sort((a, b) => log[a]! - log[b]! || a - b)
    const middle = sorted.length >> 1
    split(sorted.slice(0, middle))
    split(sorted.slice(middle))
  }
  if (n > 0) split(Array.from({ length: n }, (_, i) => i))
  return { boxes: Float64Array.from(out), weights: Float64Array.from(weights) }
}

/** Best IoU of each box, by the same rules (with `recall`: the mean over its places). */
export function bestIous(
  boxes: FlatBoxes,
  options: ObjectiveOptions,
  ratios: readonly number[],
  scales: readonly number[],
): Float64Array {
  const single = { ...options, objective: 'avg' as const, grid: options.grid || options.objective === 'recall' }
  return Float64Array.from({ length: boxes.length / 4 }, (_, i) => {
    const one = boxes.slice(4 * i, 4 * i + 4)
    return 1 - prepareObjective(one, { ...single, ...imageOf(boxes, options) })(ratios, scales)
  })
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
