import t from 'tap'
import { valueAt } from '../../lib/anchors/differential-evolution.js'
import { searchKernel } from '../../lib/anchors/search-kernel.js'
import { randomStream } from '../../lib/random.js'

const sizes = [32, 64, 128, 256, 512]
const steps = 2048

/** What the kernel is to compute, in the plainest way: the four anchors around a box, its q, the cost from the table. */
function plainValue(
  boxes: Float64Array,
  weights: Float64Array,
  table: Float64Array,
  [ratios, scales]: readonly [number[], number[]],
  extra: number,
): number {
  const sides = sizes.flatMap((size) => scales.map((scale) => size * scale)).toSorted((a, b) => a - b)
  const sorted = ratios.toSorted((a, b) => a - b)
  const around = (values: number[], at: number) => {
    const below = Math.max(0, values.slice(1, -1).filter((v) => v <= at).length)
    return [values[below]!, values[below + 1] ?? values[below]!]
  }
  let [sum, total] = [0, 0]
  for (let i = 0; i < weights.length; i++) {
    const [w, h] = [boxes[4 * i + 2]! - boxes[4 * i]!, boxes[4 * i + 3]! - boxes[4 * i + 1]!]
    const [bw, bh] = [w + extra, h + extra]
    let q = 0
    for (const side of around(sides, Math.sqrt(bw * bh) - extra))
      for (const ratio of around(sorted, h / w)) {
        const [aw, ah] = [side / Math.sqrt(ratio) + extra, side * Math.sqrt(ratio) + extra]
        q = Math.max(q, (Math.min(bw, aw) * Math.min(bh, ah)) / (bw * bh + aw * ah))
      }
    const at = Math.floor(q * steps)
    sum += weights[i]! * (table[at]! + (q * steps - at) * (table[at + 1]! - table[at]!))
    total += weights[i]!
  }
  return sum / total
}

t.test('the value is that of the plain formula', (t) => {
  const random = randomStream(5)
  // More boxes than fit into the first page of memory.
  const n = 2000
  const boxes = new Float64Array(4 * n)
  const weights = new Float64Array(n)
  for (let i = 0; i < n; i++) {
    const side = Math.exp(random.uniform(2, 7))
    const stretch = Math.exp(random.normal() * 0.3)
    boxes.set([3, 5, 3 + side * stretch, 5 + side / stretch], 4 * i)
    weights[i] = 1 + random.integer(4)
  }
  const area = (i: number) => (boxes[4 * i + 2]! - boxes[4 * i]! + 1) * (boxes[4 * i + 3]! - boxes[4 * i + 1]! + 1)
  const order = Int32Array.from({ length: n }, (_, i) => i).sort((a, b) => area(a) - area(b))
  const table = Float64Array.from({ length: steps / 2 + 2 }, () => random.uniform())
  for (const extra of [0, 1])
    for (const x of [[0.7], [1.9, 1.1, 0.6, 0.8], [3.1, 1.3, 1.2, 0.5], [1.4, 0.9]]) {
      const pairs = x.length === 1 ? 0 : x.length === 2 ? 1 : x.length - 2
      for (const odd of [0, 1]) {
        const [ratios, scales] = [2 * pairs + odd, x.length - pairs]
        if (ratios === 0) continue
        const objective = searchKernel({ boxes, weights, order, table, steps }, { sizes, extra, ratios, scales })
        t.equal(objective.variables, x.length)
        const decoded = [...x.slice(0, pairs).flatMap((v) => [v, 1 / v]), ...Array<number>(odd).fill(1)]
        const plain = plainValue(boxes, weights, table, [decoded, x.slice(pairs)], extra)
        const value = valueAt(objective, x)
        t.ok(Math.abs(value - plain) < 1e-12, `${ratios} ratios, scales ${x.slice(pairs)}: ${value} and ${plain}`)
        t.equal(valueAt(objective, x), value, 'the same when asked again')
        t.equal(valueAt(objective, x, value * 1.0001), value, 'a limit above it changes nothing')
        t.equal(valueAt(objective, x, value * 0.9), Infinity, 'a limit below it ends the sum')
      }
    }
  t.end()
})

t.test('one size with one scale', (t) => {
  const boxes = Float64Array.of(0, 0, 20, 20, 0, 0, 40, 40)
  const table = Float64Array.from({ length: steps / 2 + 2 }, (_, i) => i / steps)
  const objective = searchKernel(
    { boxes, weights: Float64Array.of(1, 1), order: Int32Array.of(0, 1), table, steps },
    { sizes: [20], extra: 0, ratios: 1, scales: 1 },
  )
  // The cost is q: 400 / 800 for the first, 400 / 2000 for the second.
  t.ok(Math.abs(valueAt(objective, [1]) - 0.35) < 1e-12)
  t.end()
})
