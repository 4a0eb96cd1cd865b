import t from 'tap'
import {
  type Criterion,
  frocCurve,
  frocEvents,
  groupedEvents,
  parseCriterion,
  sensitivities,
  thresholdAt,
} from '../../lib/evaluate/froc.js'
import { operatingPoint, operatingPoints } from '../../lib/evaluate/operating-points.js'
import { readAt, readUnits, weightedAuc } from '../../lib/evaluate/reading.js'
import { imageStrata, sizeStratum, strata, weightedStrata } from '../../lib/evaluate/strata.js'
import { type Detection, groupImages, type ImageTruth } from '../../lib/evaluate/types.js'
import type { Box } from '../../lib/geometry/boxes.js'

const image = (id: string, patient: string, boxes: Box[], more: Partial<ImageTruth> = {}): ImageTruth => ({
  id,
  patient,
  boxes: boxes.map((box) => ({ box, label: 0, sizeMm: box[2] - box[0] })),
  ...more,
})
const found = (...list: [Box, number][]): Detection[] => list.map(([box, score]) => ({ box, score, label: 0 }))
const rules = { criterion: 'centre', credit: 'all' } as const

t.test('a centre on the border hits; a further hit is neither; equal scores enter together', (t) => {
  const truth = [image('a', 'p', [[0, 0, 10, 10]]), image('b', 'q', [])]
  const detections = new Map([
    ['a', found([[5, 5, 15, 15], 0.9], [[0, 0, 10, 10], 0.5], [[20, 20, 22, 22], 0.5])],
    ['b', found([[0, 0, 4, 4], 0.5])],
  ])
  const events = frocEvents(truth, detections, rules)
  t.same(frocCurve(events), [
    { threshold: 0.9, found: 1, falsePositives: 0 },
    { threshold: 0.5, found: 1, falsePositives: 2 },
  ])
  t.same(sensitivities(events, [0, 1]), [1, 1])
  t.equal(thresholdAt(events, 0.5), 0.9, 'both false positives of .5 enter at once')
  t.equal(thresholdAt(events, 1), 0.5)
  t.same(frocCurve(events, 'mass-free').at(-1), { threshold: 0.5, found: 1, falsePositives: 1 })
  t.end()
})

t.test('credit: one detection over two lesions', (t) => {
  const truth = [image('a', 'p', [[0, 0, 10, 10], [4, 0, 14, 10]])] // biome-ignore format: short
  const detections = new Map([['a', found([[1, 0, 11, 10], 0.9])]])
  t.same(sensitivities(frocEvents(truth, detections, rules), [1]), [1])
  t.same(sensitivities(frocEvents(truth, detections, { ...rules, credit: 'best' }), [1]), [0.5])
  t.end()
})

t.test('no lesions, no images, nothing allowed', (t) => {
  t.same(sensitivities(frocEvents([], new Map(), rules), [1]), [null])
  t.same(sensitivities(frocEvents([image('a', 'p', [])], new Map(), rules), [1]), [null])
  const ill = [image('a', 'p', [[0, 0, 9, 9]])]
  t.same(sensitivities(frocEvents(ill, new Map(), rules), [1], 'mass-free'), [null], 'no mass-free image to divide by')
  const wrong = new Map([['a', found([[50, 50, 60, 60], 0.9], [[0, 0, 9, 9], 0.8])]])
  t.same(sensitivities(frocEvents(ill, wrong, rules), [0.5, 1]), [0, 1])
  t.equal(thresholdAt(frocEvents(ill, wrong, rules), 0.5), null)
  t.end()
})

t.test('criteria', (t) => {
  t.equal(parseCriterion('centre'), null)
  t.equal(parseCriterion('iou:0.2'), 0.2)
  for (const bad of ['iou:0', 'iou:2', 'iou:', 'corner']) t.throws(() => parseCriterion(bad as Criterion), RangeError)
  const truth = [image('a', 'p', [[0, 0, 10, 10]])]
  const detections = new Map([['a', found([[0, 0, 10, 20], 0.9])]])
  t.same(
    sensitivities(frocEvents(truth, detections, { ...rules, criterion: 'iou:0.5' }), [1]),
    [1],
    'IoU exactly .5 hits',
  )
  t.same(sensitivities(frocEvents(truth, detections, { ...rules, criterion: 'iou:0.51' }), [1]), [0])
  t.end()
})

t.test('a breast is found in either view; strata, readings and operating points agree with it', (t) => {
  const truth = [
    image('a', 'p', [[0, 0, 12, 12]], { laterality: 'L', view: 'CC', density: 'b' }),
    image('b', 'p', [[0, 0, 40, 40]], { laterality: 'L', view: 'MLO', density: 'b' }),
    image('c', 'p', [], { laterality: 'R', view: 'CC', density: 'b' }),
    image('d', 'q', [], { laterality: 'R', view: 'CC', density: 'c' }),
  ]
  const detections = new Map([
    ['b', found([[0, 0, 40, 40], 0.8])],
    ['c', found([[0, 0, 5, 5], 0.3])],
  ])
  const groups = groupImages(truth)
  t.same(groups.breasts, ['p/L', 'p/R', 'q/R'])
  const events = frocEvents(truth, detections, rules)
  t.same(sensitivities(events, [1]), [0.5])
  t.same(sensitivities(groupedEvents(events, groups.breast), [1]), [1])
  const size = strata(truth, events, [0.5], sizeStratum([10, 20]), ['under 10 mm', '10-20 mm', 'from 20 mm'])
  t.same(
    size.map((s) => [s.name, s.lesions, s.sensitivity[0]]),
    [
      ['under 10 mm', 0, null],
      ['10-20 mm', 1, 0],
      ['from 20 mm', 1, 1],
    ],
  )
  const names = size.map((s) => s.name)
  const weighted = weightedStrata(truth, events, [0.5, null], sizeStratum([10, 20]), names)
  t.same([...weighted(Float64Array.of(1, 1, 1, 1))], [Number.NaN, Number.NaN, 0, 0, 1, 0])
  t.same([...weighted(Float64Array.of(2, 0, 1, 1))], [Number.NaN, Number.NaN, 0, 0, Number.NaN, Number.NaN])
  const view = imageStrata(truth, events, [0.1, null], (i) => i.view!)
  t.same(
    view.map((s) => [s.name, s.images, s.sensitivity, s.falsePositivesPerImage]),
    [
      ['CC', 3, [0, 0], [1 / 3, 0]],
      ['MLO', 1, [1, 0], [0, 0]],
    ],
  )
  const readings = (['image', 'breast', 'patient'] as const).map((unit) => readUnits(truth, detections, groups, unit))
  t.same(readAt(readings[1]!, 0.3), { sensitivity: 1, specificity: 0.5 })
  t.same(readAt(readings[2]!, 0.9), { sensitivity: 0, specificity: 1 })
  // Images: positives .8 and none, negatives .3 and none: 1 + 1 + 0 + 1/2 of 4 pairs.
  t.equal(weightedAuc(readings[0]!)(Float64Array.of(1, 1)), 2.5 / 4)
  const point = operatingPoint(events, 0.3, readings)
  t.equal(point.sensitivity, 0.5)
  t.equal(point.falsePositivesPerImage, 0.25)
  t.equal(point.precision, 0.5)
  t.equal(operatingPoints(events, [0.1], readings)[0]!.threshold, 0.8)
  t.end()
})
