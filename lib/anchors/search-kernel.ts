// The value of a set of anchors for boxes that are centred on them, as a search asks for it thousands of times. In WebAssembly, since a search is over
// before JavaScript has been compiled: interpreted, one value of 80 boxes took 85 us. Which anchors of a box are looked at, and why, is said in objective.ts.
import type { Objective } from './differential-evolution.js'
import {
  type Code,
  compile,
  f64,
  f64x2,
  i32,
  instantiate,
  type Local,
  leave,
  newSpace,
  repeatWhile,
  type ValueType,
  wasmModule,
  when,
} from './wasm.js'

/** Boxes and what they cost. */
export interface SearchBoxes {
  /** flat [n,4] xyxy */
  boxes: Float64Array
  weights: Float64Array
  /** Their positions, by ascending area. */
  order: Int32Array
  /** Costs at q = 0, 1 / steps, 2 / steps ... 1/2 and one beyond, where q = intersection / (sum of the areas). */
  table: Float64Array
  steps: number
}

export interface SearchedAnchors {
  /** Before scaling. */
  sizes: readonly number[]
  /** What is added to the sides of boxes and anchors: 1 where the last pixel counts. */
  extra: number
  /** Number of ratios: 1, where it is odd, and pairs v and 1/v, each v a variable. */
  ratios: number
  /** Number of scales, the variables behind those. */
  scales: number
}

/** Numbers of a box in memory, and where they lie: sides as they count, side of the square anchor of the same area, height / width. */
const FIELDS = 6
const [WIDTH, HEIGHT, PEAK, RATIO, WEIGHT, AREA] = [0, 8, 16, 24, 32, 40] as const

/**
 * What memory begins with. From `boxes` on these are addresses of regions, and a region ends where the next begins: the boxes; the point, which is `pairs`
 * (v for ratios v and 1/v) and `scales`; the sizes; and what is written here: ratios, ascending, at least two; sides (size times scale), ascending, at
 * least two; widths and heights of the anchors, [side][ratio].
 */
const NUMBERS = ['extra', 'steps', 'total'] as const
const REGIONS = [
  ...(['table', 'boxes', 'pairs', 'scales', 'sizes'] as const),
  ...(['ratios', 'sides', 'widths', 'heights'] as const),
] as const
const HEADER = [...NUMBERS, ...REGIONS] as const

/** Code of `value`: the mean cost of the boxes, or Infinity once it is sure to exceed `limit`. */
function value(make: (type: ValueType) => Local, limit: Local): Code[] {
  const i32s = () => make('i32')
  const f64s = () => make('f64')
  const EIGHT = i32.of(8)
  const step = (pointer: Local, by: Code = EIGHT) => pointer.set(i32.add(pointer.get, by))
  const until = (pointer: Local, end: Code, ...body: Code[]) => repeatWhile(i32.less(pointer.get, end), ...body)

  const header = (name: (typeof HEADER)[number]) => f64.load(i32.of(0), 8 * HEADER.indexOf(name))
  const region = Object.fromEntries(REGIONS.map((name) => [name, i32s()])) as Record<(typeof REGIONS)[number], Local>
  const [extra, steps, total, bound] = [f64s(), f64s(), f64s(), f64s()]
  const read = [
    ...REGIONS.map((name) => region[name].set(i32.fromF64(header(name)))),
    extra.set(header('extra')),
    steps.set(header('steps')),
    total.set(header('total')),
    bound.set(f64.mul(limit.get, total.get)),
  ]
  const { table, boxes, pairs, scales, sizes, ratios, sides, widths, heights } = region

  /** Puts `what` among the ascending numbers from `first` up to `at`. */
  const [hole, value] = [i32s(), f64s()]
  const insert = (first: Local, at: Local, what: Code): Code[] => {
    const before = i32.sub(hole.get, EIGHT)
    return [
      value.set(what),
      hole.set(at.get),
      repeatWhile(
        // What lies before the first is looked at too, and does not count.
        i32.and(i32.less(first.get, hole.get), f64.more(f64.load(before), value.get)),
        f64.store(hole.get, 0, f64.load(before)),
        hole.set(before),
      ),
      f64.store(hole.get, 0, value.get),
    ]
  }

  const [pair, scale, size, ratio, side, at] = [i32s(), i32s(), i32s(), i32s(), i32s(), i32s()]
  const ONE = f64.of(1)
  const sorted = [
    ratio.set(ratios.get),
    pair.set(pairs.get),
    until(
      pair,
      scales.get,
      ...insert(ratios, ratio, f64.load(pair.get)),
      step(ratio),
      ...insert(ratios, ratio, f64.div(ONE, f64.load(pair.get))),
      step(ratio),
      step(pair),
    ),
    until(ratio, sides.get, ...insert(ratios, ratio, ONE), step(ratio)),
    side.set(sides.get),
    size.set(sizes.get),
    until(
      size,
      ratios.get,
      scale.set(scales.get),
      until(
        scale,
        sizes.get,
        ...insert(sides, side, f64.mul(f64.load(size.get), f64.load(scale.get))),
        step(side),
        step(scale),
      ),
      step(size),
    ),
  ]

  const root = f64s()
  const between = i32.sub(heights.get, widths.get)
  const rowBytes = i32.sub(sides.get, ratios.get)
  const shapes = [
    ratio.set(ratios.get),
    until(
      ratio,
      sides.get,
      root.set(f64.sqrt(f64.load(ratio.get))),
      at.set(i32.add(widths.get, i32.sub(ratio.get, ratios.get))),
      side.set(sides.get),
      until(
        side,
        widths.get,
        f64.store(at.get, 0, f64.add(f64.div(f64.load(side.get), root.get), extra.get)),
        f64.store(i32.add(at.get, between), 0, f64.add(f64.mul(f64.load(side.get), root.get), extra.get)),
        step(at, rowBytes),
        step(side),
      ),
      step(ratio),
    ),
  ]

  const [box, row, larger] = [i32s(), i32s(), i32s()]
  const [sum, q, low] = [f64s(), f64s(), f64s()]
  const vector = () => make('v128')
  const [bw, bh, area, best, aw, ah] = [vector(), vector(), vector(), vector(), vector(), vector()]
  /** q of two neighbouring ratios at one side. */
  const two = (address: Code): Code => [
    aw.set(f64x2.load(address)),
    ah.set(f64x2.load(i32.add(address, between))),
    f64x2.div(
      f64x2.mul(f64x2.min(bw.get, aw.get), f64x2.min(bh.get, ah.get)),
      f64x2.add(area.get, f64x2.mul(aw.get, ah.get)),
    ),
  ]
  const ofBox = (field: number) => f64.load(box.get, field)
  const costs = [
    box.set(boxes.get),
    row.set(widths.get),
    larger.set(i32.add(sides.get, EIGHT)),
    until(
      box,
      pairs.get,
      // The row of the next smaller side; `larger` is the side behind it.
      repeatWhile(
        i32.and(i32.less(larger.get, i32.sub(widths.get, EIGHT)), f64.atMost(f64.load(larger.get), ofBox(PEAK))),
        step(larger),
        step(row, rowBytes),
      ),
      // In it, the next smaller ratio.
      at.set(row.get),
      ratio.set(i32.add(ratios.get, EIGHT)),
      until(
        ratio,
        i32.sub(sides.get, EIGHT),
        step(at, i32.shiftLeft(f64.atMost(f64.load(ratio.get), ofBox(RATIO)), i32.of(3))),
        step(ratio),
      ),
      bw.set(f64x2.splat(ofBox(WIDTH))),
      bh.set(f64x2.splat(ofBox(HEIGHT))),
      area.set(f64x2.splat(ofBox(AREA))),
      best.set(two(at.get)),
      best.set(f64x2.max(best.get, two(i32.add(at.get, rowBytes)))),
      best.set(f64x2.max(best.get, f64x2.swap(best.get))),
      // The cost, straight between two entries of the table.
      q.set(f64.mul(f64x2.first(best.get), steps.get)),
      at.set(i32.fromF64(q.get)),
      q.set(f64.sub(q.get, f64.fromI32(at.get))),
      at.set(i32.add(table.get, i32.shiftLeft(at.get, i32.of(3)))),
      low.set(f64.load(at.get)),
      q.set(f64.add(low.get, f64.mul(q.get, f64.sub(f64.load(at.get, 8), low.get)))),
      sum.set(f64.add(sum.get, f64.mul(ofBox(WEIGHT), q.get))),
      when(f64.more(sum.get, bound.get), leave(f64.of(Number.POSITIVE_INFINITY))),
      step(box, i32.of(8 * FIELDS)),
    ),
  ]
  return [...read, ...sorted, ...shapes, ...costs, f64.div(sum.get, total.get)]
}

/** Compiled when this file is loaded, once for all searches of the process. */
const kernel = compile(wasmModule({ value: { parameters: ['f64'], body: value } }))

/** Writes box `i` from position `at` on and returns its weight. Small functions, which the compiler is quick with, where searches are short. */
function writeBox(
  numbers: Float64Array,
  at: number,
  boxes: Float64Array,
  i: number,
  weights: Float64Array,
  extra: number,
): number {
  const width = boxes[4 * i + 2]! - boxes[4 * i]!
  const height = boxes[4 * i + 3]! - boxes[4 * i + 1]!
  const area = (width + extra) * (height + extra)
  numbers[at] = width + extra
  numbers[at + 1] = height + extra
  numbers[at + 2] = Math.sqrt(area) - extra
  numbers[at + 3] = height / width
  numbers[at + 4] = weights[i]!
  numbers[at + 5] = area
  return weights[i]!
}

/** The mean cost of the boxes as a function of a point. */
export function searchKernel(
  { boxes, weights, order, table, steps }: SearchBoxes,
  { sizes, extra, ratios, scales }: SearchedAnchors,
): Objective {
  const n = order.length
  // One alone stands twice: there is always a next one to look at.
  const rows = Math.max(2, ratios)
  const allSizes = sizes.length * scales === 1 ? [...sizes, ...sizes] : sizes
  const sides = allSizes.length * scales
  const space = newSpace()
  space.take(HEADER.length)
  const at: Record<(typeof REGIONS)[number], number> = {
    table: space.take(table.length),
    boxes: space.take(n * FIELDS),
    pairs: space.take(ratios >> 1),
    scales: space.take(scales),
    sizes: space.take(allSizes.length),
    ratios: space.take(rows),
    sides: space.take(sides),
    widths: space.take(sides * rows),
    heights: space.take(sides * rows),
  }
  const { numbers } = space
  let total = 0
  for (let k = 0; k < n; k++) total += writeBox(numbers, at.boxes + k * FIELDS, boxes, order[k]!, weights, extra)
  numbers.set([extra, steps, total, ...REGIONS.map((name) => 8 * at[name])])
  numbers.set(table, at.table)
  numbers.set(allSizes, at.sizes)
  const run = instantiate(kernel, space)['value']!
  return { space, point: at.pairs, variables: (ratios >> 1) + scales, value: run }
}
