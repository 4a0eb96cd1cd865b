// Paired recall: hand-counted lesions, sides, limits of detections, and intervals over patients.
import t from 'tap'
import { pairedRecall, type RecallOptions } from '../../lib/evaluate/recall.js'
import type { Detection, ImageTruth } from '../../lib/evaluate/types.js'
import type { Box } from '../../lib/geometry/boxes.js'
import { simulate } from './simulate.js'

const options: RecallOptions = {
  ious: [0.2, 0.5],
  sides: [32],
  maxDetections: 2,
  scoreThreshold: 0.01,
  bootstrap: { draws: 200, seed: 0 },
}
const small: Box = [0, 0, 20, 20]
const large: Box = [100, 100, 140, 160]
const image = (id: string, ...boxes: Box[]): ImageTruth => ({
  id,
  patient: id,
  boxes: boxes.map((box) => ({ box, label: 0 })),
})
const hit = (box: Box, score = 0.5): Detection => ({ box, score, label: 0 })

t.test('counted by hand', (t) => {
  const truth = [image('p', small, large), image('q', small), image('r')]
  const a = new Map([
    ['p', [hit(small), hit(large)]],
    ['q', [hit([0, 0, 20, 8])]],
  ])
  const b = new Map([
    // The third best is beyond the limit; listed first on purpose.
    ['p', [hit(large, 0.02), hit(small, 0.9), hit([300, 300, 320, 320], 0.8)]],
    ['q', [hit(small, 0.01)]],
  ])
  const rows = pairedRecall(truth, a, b, options)
  t.match(rows, [
    { iou: 0.2, from: 0, to: null, lesions: 3, a: 1, b: 1 / 3 },
    { iou: 0.2, from: 0, to: 32, lesions: 2, a: 1, b: 1 / 2 },
    { iou: 0.2, from: 32, to: null, lesions: 1, a: 1, b: 0, difference: -1, interval: { low: -1, high: -1 } },
    { iou: 0.5, from: 0, to: null, lesions: 3, a: 2 / 3, b: 1 / 3 },
    { iou: 0.5, from: 0, to: 32, lesions: 2, a: 1 / 2, b: 1 / 2, difference: 0 },
    { iou: 0.5, from: 32, to: null, lesions: 1, a: 1, b: 0 },
  ])
  t.same(pairedRecall(truth, a, a, { ...options, sides: [] }).length, 2, 'no sides: all lesions only')
  t.match(pairedRecall([image('r')], a, b, options)[0], {
    lesions: 0,
    a: null,
    b: null,
    difference: null,
    interval: null,
  })
  t.throws(() => pairedRecall(truth, a, b, { ...options, sides: [64, 32] }), RangeError)
  t.end()
})

t.test('intervals hold the difference, are paired and repeat', (t) => {
  const { truth, detections } = simulate(80, 1)
  const worse = simulate(80, 1, 0.4).detections
  const wide = { ...options, sides: [], maxDetections: 100 }
  const [, row] = pairedRecall(truth, detections, worse, wide)
  t.ok(row!.difference! < -0.2 && row!.interval!.low < row!.difference! && row!.interval!.high < 0)
  t.same(pairedRecall(truth, detections, worse, wide)[1], row)
  t.same(pairedRecall(truth, detections, detections, wide)[1]!.interval, { low: 0, high: 0 })
  t.end()
})
