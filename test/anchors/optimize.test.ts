import t from 'tap'
import { condense, decodePoint, judge, type ObjectiveOptions, prepareObjective } from '../../lib/anchors/objective.js'
import { optimizeAnchors } from '../../lib/anchors/optimize.js'
import { randomStream } from '../../lib/random.js'

const grid = { sizes: [32, 64, 128, 256, 512], strides: [8, 16, 32, 64, 128] }

function boxes(n: number, seed: number): Float64Array {
  const random = randomStream(seed)
  const list = Array.from({ length: n }, () => {
    const side = Math.exp(random.uniform(Math.log(20), Math.log(500)))
    const stretch = Math.exp(random.normal() * 0.2)
    const [x, y] = [random.uniform(0, 500), random.uniform(0, 500)]
    return [x, y, x + side * stretch, y + side / stretch]
  })
  return Float64Array.from(list.flat())
}

t.test('the fast objective equals the plain one: every anchor, no shortcut', (t) => {
  const set = boxes(60, 1)
  for (const inclusive of [false, true]) {
    const extra = inclusive ? 1 : 0
    for (const [ratios, scales] of [
      [[1], [1]],
      [
        [0.6, 1, 1.7],
        [0.5, 0.8, 1.3],
      ],
      [
        [0.5, 0.8, 1, 1.25, 2],
        [1, 1.2],
      ],
    ] as const) {
      let sum = 0
      for (let i = 0; i < set.length; i += 4) {
        const [w, h] = [set[i + 2]! - set[i]! + extra, set[i + 3]! - set[i + 1]! + extra]
        let best = 0
        for (const size of grid.sizes)
          for (const r of ratios)
            for (const s of scales) {
              const aw = (size * s) / Math.sqrt(r) + extra
              const ah = size * s * Math.sqrt(r) + extra
              const common = Math.min(w, aw) * Math.min(h, ah)
              best = Math.max(best, common / (w * h + aw * ah - common))
            }
        sum += -((1 - best) ** 2) * Math.log(best)
      }
      const fast = prepareObjective(set, { ...grid, objective: 'focal', grid: false, inclusive })(ratios, scales)
      t.ok(Math.abs(fast - sum / (set.length / 4)) < 1e-9, `${ratios} ${scales}: ${fast}`)
    }
  }
  t.end()
})

t.test('early exit never changes which of two is better', (t) => {
  const objective = prepareObjective(boxes(50, 2), { ...grid, objective: 'ce', grid: true, inclusive: true })
  const value = objective([1], [1])
  t.equal(objective([1], [1], value * 1.0001), value)
  t.equal(objective([1], [1], value * 0.5), Infinity)
  t.end()
})

t.test('condensing keeps number and centre of mass', (t) => {
  const set = boxes(500, 3)
  const { boxes: cells, weights } = condense(set, 64)
  t.equal(
    weights.reduce((sum, w) => sum + w, 0),
    500,
  )
  t.ok(cells.length / 4 >= 64 && cells.length / 4 <= 128)
  const mean = (of: Float64Array, weight: (i: number) => number) =>
    of.reduce((sum, _, i) => (i % 4 === 2 ? sum + weight(i >> 2) * Math.log(of[i]! - of[i - 2]!) : sum), 0) / 500
  t.ok(Math.abs(mean(cells, (i) => weights[i]!) - mean(set, () => 1)) < 1e-9)
  t.same(condense(new Float64Array(), 8).boxes.length, 0)
  t.end()
})

t.test('search: deterministic by seed, bounds kept, default anchors beaten', async (t) => {
  const set = boxes(120, 4)
  const options = { ...grid, objective: 'focal', grid: false, inclusive: false, ratios: 3, scales: 3, seed: 0 } as const
  const fit = await optimizeAnchors(set, options)
  const { cpuSeconds, ...numbers } = fit
  t.ok(cpuSeconds > 0)
  const { cpuSeconds: _, ...again } = await optimizeAnchors(set, options)
  t.same(again, numbers)
  const standard = prepareObjective(set, options)([0.5, 1, 2], [1, 2 ** (1 / 3), 2 ** (2 / 3)])
  t.ok(fit.value < standard, `${fit.value} < ${standard}`)
  t.ok(fit.scales.every((s) => s >= 0.4 && s <= 2) && fit.ratios.every((r) => r >= 0.25 && r <= 4))
  t.ok(
    Math.abs(fit.meanIou - judge(set, options, fit.ratios, fit.scales).ious.reduce((a, b) => a + b, 0) / 120) < 1e-12,
  )
})

t.test('the same result for any number of threads', async (t) => {
  const set = boxes(60, 5)
  const options = { ...grid, objective: 'recall', grid: true, inclusive: false, ratios: 1, scales: 2, seed: 3 } as const
  const done: number[] = []
  const one = await optimizeAnchors(set, { ...options, threads: 1 })
  const two = await optimizeAnchors(set, { ...options, threads: 2, onProgress: (n) => done.push(n) })
  t.same({ ...two, cpuSeconds: 0 }, { ...one, cpuSeconds: 0 })
  t.same(done, [1, 2, 3])
})

t.test('an even number of ratios comes in pairs', (t) => {
  t.same(decodePoint([2, 0.5, 1.5], 2), { ratios: [0.5, 2], scales: [0.5, 1.5] })
  t.same(decodePoint([2, 1], 3), { ratios: [0.5, 1, 2], scales: [1] })
  t.end()
})

t.test('refuses boxes without area and empty sets', async (t) => {
  const options: ObjectiveOptions & { ratios: number; scales: number; seed: number } = {
    ...grid,
    objective: 'focal',
    grid: false,
    inclusive: false,
    ratios: 1,
    scales: 1,
    seed: 0,
  }
  await t.rejects(optimizeAnchors(new Float64Array(), options), { code: 'ERR_MAMMO_ARGUMENT' })
  await t.rejects(optimizeAnchors(Float64Array.of(0, 0, 0, 5), options), { code: 'ERR_MAMMO_ARGUMENT' })
  await t.rejects(optimizeAnchors(Float64Array.of(0, 0, 5, 5), { ...options, scales: 0 }), {
    code: 'ERR_MAMMO_ARGUMENT',
  })
})
