import t from 'tap'
import { type CompareOptions, compareDetections, mcNemar, mcNemarP } from '../../lib/evaluate/compare.js'
import { simulate } from './simulate.js'

const options: CompareOptions = {
  classes: 1,
  iou: 0.5,
  scoreThreshold: 0,
  maxDetections: 100,
  criterion: 'centre',
  credit: 'all',
  fppi: [0.5, 1],
  bootstrap: { draws: 300, seed: 0 },
}

t.test('McNemar, exact', (t) => {
  t.equal(mcNemarP(0, 0), 1)
  t.equal(mcNemarP(3, 3), 1)
  t.ok(Math.abs(mcNemarP(0, 5) - 2 / 32) < 1e-15)
  // 2 * (1 + 10 + 45) / 1024
  t.ok(Math.abs(mcNemarP(2, 8) - 112 / 1024) < 1e-15)
  t.ok(mcNemarP(2000, 2500) < 1e-12, 'large counts do not overflow')
  t.same(mcNemar([true, true, false, false], [true, false, true, false]), {
    onlyA: 1,
    onlyB: 1,
    both: 1,
    neither: 1,
    p: 1,
  })
  t.end()
})

t.test('a model compared with itself, and with a worse one', (t) => {
  const { truth, detections } = simulate(80, 1)
  const same = compareDetections(truth, detections, detections, options)
  t.equal(same.ap.difference, 0)
  t.same(same.ap.interval, { low: 0, high: 0 })
  t.equal(same.ap.p, 1)
  t.ok(same.patients.every((row) => row.p === 1 && row.onlyA === 0 && row.onlyB === 0))
  const worse = simulate(80, 1, 0.4)
  t.same(worse.truth, truth)
  const much = compareDetections(truth, detections, worse.detections, options)
  t.ok(much.ap.difference! < -0.1 && much.ap.interval!.high < 0 && much.ap.p! < 0.02, JSON.stringify(much.ap))
  t.ok(much.lesions[1]!.difference! < 0 && much.lesions[1]!.interval!.high < 0)
  t.ok(much.patients[1]!.onlyA > much.patients[1]!.onlyB)
  t.end()
})
