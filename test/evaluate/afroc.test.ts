// The area under the alternative FROC curve, by hand and against the plain count of pairs.
import t from 'tap'
import { weightedAfroc } from '../../lib/evaluate/afroc.js'
import { type FrocEvents, frocEvents } from '../../lib/evaluate/froc.js'
import { simulate } from './simulate.js'

const rules = { criterion: 'centre', credit: 'all' } as const

/** Every pair of a lesion and an image, one by one. */
function byPairs(events: FrocEvents, massFreeOnly: boolean, weights: Float64Array): number {
  let [sum, total] = [0, 0]
  for (let image = 0; image < events.images; image++) {
    if (massFreeOnly && events.massFree[image] !== 1) continue
    const highest = Math.max(-Infinity, ...[...events.falseScore].filter((_, i) => events.falseImage[i] === image))
    events.lesionScore.forEach((score, i) => {
      const weight = weights[image]! * weights[events.lesionImage[i]!]!
      total += weight
      sum += weight * (score > highest ? 1 : score === highest ? 0.5 : 0)
    })
  }
  return sum / total
}

t.test('by hand: three lesions, two images without masses', async (t) => {
  const box = (x: number) => [x, 0, x + 10, 10] as [number, number, number, number]
  const lesion = (x: number) => ({ box: box(x), label: 0 })
  const truth = [
    { id: 'a', patient: 'p', boxes: [lesion(0), lesion(50), lesion(100)] },
    { id: 'b', patient: 'q', boxes: [] },
    { id: 'c', patient: 'r', boxes: [] },
  ]
  const found = (x: number, score: number) => ({ box: box(x), label: 0, score })
  const detections = new Map([
    ['a', [found(0, 0.9), found(50, 0.4), found(300, 0.95)]],
    ['b', [found(7, 0.4), found(30, 0.2)]],
  ])
  const events = frocEvents(truth, detections, rules)
  const even = Float64Array.of(1, 1, 1)
  // Against b (.4) and c (none): .9 wins both, .4 ties b and beats c, the missed lesion loses to b and ties c.
  t.equal(weightedAfroc(events, 'mass-free')(even), (2 + 1.5 + 0.5) / 6)
  // Image a's own false positive at .95 beats all three.
  t.equal(weightedAfroc(events, 'all')(even), (2 + 1.5 + 0.5) / 9)
  t.ok(Number.isNaN(weightedAfroc(events, 'mass-free')(Float64Array.of(1, 0, 0))))
  t.ok(Number.isNaN(weightedAfroc(events, 'all')(Float64Array.of(0, 1, 1))))
})

t.test('equals the count of pairs under any weights', async (t) => {
  const { truth, detections } = simulate(12, 5)
  const events = frocEvents(truth, detections, rules)
  for (const weights of [new Float64Array(truth.length).fill(1), Float64Array.from(truth, (_, i) => i % 3)])
    for (const where of ['mass-free', 'all'] as const) {
      const plain = byPairs(events, where === 'mass-free', weights)
      t.ok(Math.abs(weightedAfroc(events, where)(weights) - plain) < 1e-12, `${where}: ${plain}`)
    }
})
