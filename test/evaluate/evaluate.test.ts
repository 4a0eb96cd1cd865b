import t from 'tap'
import { type EvaluateOptions, epochMetrics, evaluateDetections } from '../../lib/evaluate/evaluate.js'
import type { ImageTruth } from '../../lib/evaluate/types.js'
import { simulate } from './simulate.js'

const options: EvaluateOptions = {
  classes: ['mass'],
  iou: 0.5,
  scoreThreshold: 0.01,
  maxDetections: 100,
  fppi: [0.1, 0.5, 1, 4],
  criteria: ['centre', 'iou:0.2', 'iou:0.5'],
  credit: 'all',
  bootstrap: { draws: 100, seed: 0 },
}

t.test('one object of plain data that says the same as its parts', (t) => {
  const { truth, detections } = simulate(60, 1)
  const metrics = evaluateDetections(truth, detections, options)
  t.same(JSON.parse(JSON.stringify(metrics)), metrics, 'survives JSON: no NaN, no undefined, no class')
  const fast = epochMetrics(truth, detections, options)
  t.equal(metrics.voc.map.value, fast.AP50)
  t.equal(metrics.coco.AP.value, fast.AP)
  t.same(
    metrics.froc[0]!.points.map((point) => point.sensitivity.value),
    fast.sensitivity,
  )
  t.equal(metrics.froc.length, 3 * 3 * 2, 'criteria, units, images of false positives')
  t.equal(metrics.counts.images, 240)
  t.equal(metrics.counts.patients, 60)
  t.equal(metrics.counts.breasts, 120)
  for (const { value, interval } of [
    metrics.voc.map,
    metrics.coco.AP,
    metrics.coco.AP10to50,
    metrics.reading.patient,
  ]) {
    t.ok(interval !== null && interval.low <= value! && value! <= interval.high, `${value} in its interval`)
    t.ok(interval!.high - interval!.low < 0.4 && interval!.high > interval!.low)
  }
  for (const part of [metrics.strata.size, metrics.strata.view, metrics.strata.density, metrics.strata.label])
    t.equal(
      part.reduce((sum, stratum) => sum + stratum.lesions, 0),
      metrics.counts.lesions,
      'strata hold every lesion once',
    )
  for (const part of Object.values(metrics.strata))
    for (const { lesions, sensitivity, intervals } of part) {
      t.equal(intervals.length, options.fppi.length)
      if (lesions > 0)
        t.ok(intervals.every((range, k) => range!.low <= sensitivity[k]! && sensitivity[k]! <= range!.high))
    }
  for (const { value, interval } of [metrics.afroc.massFree, metrics.afroc.all])
    t.ok(interval!.low < value! && value! < interval!.high && value! > 0.5)
  t.equal(metrics.operatingPoints[1]!.sensitivity, fast.sensitivity[1])
  t.end()
})

t.test('the same for equal input; the input stays as it was', (t) => {
  const { truth, detections } = simulate(20, 2)
  const before = JSON.stringify([...detections])
  const once = evaluateDetections(truth, detections, options)
  t.same(evaluateDetections(truth, detections, options), once)
  t.equal(JSON.stringify([...detections]), before)
  const other = evaluateDetections(truth, detections, { ...options, bootstrap: { draws: 100, seed: 1 } })
  t.notSame(other.voc.map.interval, once.voc.map.interval)
  t.equal(evaluateDetections(truth, detections, { ...options, bootstrap: null }).voc.map.interval, null)
  t.end()
})

t.test('empty sets are undefined, not zero and not a crash', (t) => {
  const none = evaluateDetections([], new Map(), options)
  t.equal(none.voc.map.value, null)
  t.equal(none.coco.AP.value, null)
  t.same(none.afroc, { massFree: { value: null, interval: null }, all: { value: null, interval: null } })
  t.same(
    none.froc[0]!.points.map((p) => p.sensitivity.value),
    [null, null, null, null],
  )
  const healthy: ImageTruth[] = [{ id: 'a', patient: 'p', boxes: [] }]
  const found = new Map([['a', [{ box: [0, 0, 9, 9] as [number, number, number, number], label: 0, score: 0.9 }]]])
  const negative = evaluateDetections(healthy, found, options)
  t.equal(negative.voc.map.value, null)
  t.equal(negative.voc.map.interval, null)
  t.equal(negative.counts.detections, 1)
  t.equal(negative.operatingPoints[3]!.falsePositives, 1, 'false positives of healthy images are counted')
  const ill: ImageTruth[] = [{ id: 'a', patient: 'p', boxes: [{ box: [0, 0, 9, 9], label: 0 }] }]
  const missed = evaluateDetections(ill, new Map(), options)
  t.equal(missed.voc.map.value, 0)
  t.equal(missed.coco.AP.value, 0)
  t.equal(missed.froc[0]!.points[0]!.sensitivity.value, 0)
  t.equal(missed.coco.bySizeMm, null, 'no size in mm without pixel spacing')
  t.end()
})

t.test('a class without ground truth costs nothing, an ignored region neither', (t) => {
  const { truth, detections } = simulate(20, 3)
  const one = evaluateDetections(truth, detections, { ...options, bootstrap: null })
  const two = evaluateDetections(truth, detections, { ...options, bootstrap: null, classes: ['mass', 'calcification'] })
  t.equal(two.voc.map.value, one.voc.map.value)
  t.equal(two.voc.perClass['calcification']!.value, null)
  const everywhere = truth.map((image) => ({
    ...image,
    boxes: [
      ...image.boxes,
      { box: [-100, -100, 2000, 2000] as [number, number, number, number], label: 0, ignore: true },
    ],
  }))
  const ignoring = evaluateDetections(everywhere, detections, { ...options, bootstrap: null })
  t.equal(ignoring.froc[0]!.points[0]!.sensitivity.value, one.operatingPoints.at(-1)!.sensitivity)
  t.equal(ignoring.counts.lesions, one.counts.lesions)
  t.end()
})
