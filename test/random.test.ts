import t from 'tap'
import { randomStream } from '../lib/random.js'

t.test('the same keys give the same numbers, other keys other numbers', (t) => {
  const draw = (...keys: (number | string)[]) => {
    const stream = randomStream(0, ...keys)
    return Array.from({ length: 8 }, () => stream.uint32())
  }
  t.same(draw('sampler', 3, 7), draw('sampler', 3, 7))
  const streams = [draw(), draw(1), draw('1'), draw(0), draw(-1), draw(0.5), draw('a', 'b'), draw('ab'), draw('b', 'a')]
  t.equal(new Set(streams.map(String)).size, streams.length)
  t.same(draw(-0), draw(0), 'negative zero is zero')
  t.end()
})

t.test('pinned values: a change would break resuming of stored runs', (t) => {
  const stream = randomStream(0, 'test', 1)
  t.same([stream.uint32(), stream.uint32(), stream.uint32()], [2088206516, 816700143, 1215397008])
  t.end()
})

t.test('uniform, integer, normal and shuffle have the right distribution', (t) => {
  const stream = randomStream(42)
  const n = 40000
  const mean = (draw: () => number) => {
    let sum = 0
    let squares = 0
    for (let i = 0; i < n; i++) {
      const x = draw()
      sum += x
      squares += x * x
    }
    return { mean: sum / n, variance: squares / n - (sum / n) ** 2 }
  }
  const uniform = mean(() => stream.uniform(2, 4))
  t.ok(Math.abs(uniform.mean - 3) < 0.015 && Math.abs(uniform.variance - 1 / 3) < 0.01, JSON.stringify(uniform))
  const normal = mean(stream.normal)
  t.ok(Math.abs(normal.mean) < 0.025 && Math.abs(normal.variance - 1) < 0.04, JSON.stringify(normal))
  const counts = [0, 0, 0, 0, 0, 0, 0]
  for (let i = 0; i < n; i++) counts[stream.integer(7)]! += 1
  const chi = counts.reduce((sum, c) => sum + (c - n / 7) ** 2 / (n / 7), 0)
  t.ok(chi < 22.5, `chi square with 6 degrees of freedom: ${chi}`)
  const places = [0, 0, 0, 0]
  for (let i = 0; i < n; i++) places[stream.shuffle([0, 1, 2, 3]).indexOf(0)]! += 1
  t.ok(
    places.every((c) => Math.abs(c - n / 4) < 400),
    places.join(' '),
  )
  t.end()
})

t.test('neighbouring keys are uncorrelated', (t) => {
  let both = 0
  for (let i = 0; i < 20000; i++)
    if (randomStream(1, i).uniform() < 0.5 === randomStream(1, i + 1).uniform() < 0.5) both++
  t.ok(Math.abs(both - 10000) < 300, `${both} of 20000 agree`)
  t.end()
})

t.test('integer refuses an impossible range', (t) => {
  for (const n of [0, -1, 1.5, Number.NaN, 2 ** 33]) t.throws(() => randomStream(0).integer(n), RangeError)
  t.equal(randomStream(0).integer(1), 0)
  t.end()
})
