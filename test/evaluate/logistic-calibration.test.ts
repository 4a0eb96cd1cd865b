import t from 'tap'
import type { FrocEvents } from '../../lib/evaluate/froc.js'
import { calibrateEvents, fitLogistic } from '../../lib/evaluate/logistic-calibration.js'
import { randomStream } from '../../lib/random.js'

const sigmoid = (z: number) => 1 / (1 + Math.exp(-z))

/** Scores whose probability of being right is sigmoid(slope * logit + offset). */
function drawn(count: number, slope: number, offset: number): { hits: number[]; misses: number[] } {
  const random = randomStream(7, 'logistic-calibration')
  const hits: number[] = []
  const misses: number[] = []
  for (let i = 0; i < count; i++) {
    const z = random.normal() * 2 - 1
    const list = random.uniform() < sigmoid(slope * z + offset) ? hits : misses
    list.push(sigmoid(z))
  }
  return { hits, misses }
}

t.test('the law that the hits were drawn by comes back', async (t) => {
  const { hits, misses } = drawn(20_000, 0.6, -1.3)
  const found = fitLogistic(hits, misses)!
  t.ok(Math.abs(found.slope - 0.6) < 0.03, `slope ${found.slope}`)
  t.ok(Math.abs(found.offset + 1.3) < 0.05, `offset ${found.offset}`)
  t.match(found, { hits: hits.length, falsePositives: misses.length })
  const calibrated = [...hits, ...misses].map((s) => sigmoid(found.slope * Math.log(s / (1 - s)) + found.offset))
  const mean = calibrated.reduce((sum, p) => sum + p, 0) / calibrated.length
  t.ok(Math.abs(mean - hits.length / calibrated.length) < 2e-4, 'the mean probability is the share of hits')
})

t.test('no neighbour of the fit is more likely', async (t) => {
  const { hits, misses } = drawn(200, 1.4, 0.2)
  const { slope, offset } = fitLogistic(hits, misses)!
  const [high, low] = [(hits.length + 1) / (hits.length + 2), 1 / (misses.length + 2)]
  const cost = (a: number, b: number) => {
    const one = (target: number) => (s: number) => {
      const p = sigmoid(a * Math.log(s / (1 - s)) + b)
      return -target * Math.log(p) - (1 - target) * Math.log(1 - p)
    }
    return [...hits.map(one(high)), ...misses.map(one(low))].reduce((sum, c) => sum + c, 0)
  }
  const best = cost(slope, offset)
  for (const [da, db] of [1, -1].flatMap((sign) => [[sign, 0] as const, [0, sign] as const])) {
    t.ok(cost(slope + da * 1e-3, offset + db * 1e-3) > best)
  }
})

t.test('perfectly parted scores, scores of 0 and 1: finite', async (t) => {
  const found = fitLogistic([1, 0.9, 0.8], [0, 0.1, 0.2])!
  t.ok(found.slope > 0 && Number.isFinite(found.slope) && Number.isFinite(found.offset))
})

t.test('nothing to calibrate', async (t) => {
  t.equal(fitLogistic([], [0.3]), null)
  t.equal(fitLogistic([0.3], []), null)
  t.equal(fitLogistic([0.1, 0.2, 0.15], [0.8, 0.9, 0.7]), null, 'a higher score is less often right')
})

t.test('from FROC: missed lesions have no score', async (t) => {
  const events = {
    lesionScore: Float64Array.of(0.9, Number.NEGATIVE_INFINITY, 0.7),
    falseScore: Float64Array.of(0.4, 0.3, 0.2),
  } as FrocEvents
  t.strictSame(calibrateEvents(events), fitLogistic([0.9, 0.7], [0.4, 0.3, 0.2]))
  t.match(calibrateEvents(events), { hits: 2, falsePositives: 3 })
})
