import t from 'tap'
import type { DataError } from '../../lib/errors.js'
import { calibrate } from '../../lib/evaluate/calibration.js'
import { fromCocoResults, toCocoResults } from '../../lib/evaluate/results.js'

const ids = {
  image: (id: number | string) => (id === 7 ? 'a' : undefined),
  label: (category: number) => (category === 1 ? 0 : undefined),
}
const row = { image_id: 7, category_id: 1, bbox: [1, 2, 3, 4], score: 0.5 }

t.test('COCO results in and out', (t) => {
  const { detections, otherImages } = fromCocoResults(
    [row, { ...row, image_id: 8 }, { ...row, score: 0.9 }],
    ids,
    'r.json',
  )
  t.equal(otherImages, 1)
  t.same(detections.get('a')!.map((d) => d.box), [[1, 2, 4, 6], [1, 2, 4, 6]]) // biome-ignore format: short
  t.same(toCocoResults(detections, { image: () => 7, category: (label) => label + 1 }), [{ ...row, score: 0.9 }, row])
  t.same(fromCocoResults([], ids, 'r.json').detections.size, 0)
  t.end()
})

t.test('a malformed entry is named', (t) => {
  const bad: [unknown, RegExp][] = [
    [{}, /a list/],
    [[null], /image_id/],
    [[{ ...row, score: 'x' }], /score/],
    [[{ ...row, bbox: [1, 2, 3] }], /bbox/],
    [[{ ...row, bbox: [1, 2, 0, 4] }], /area/],
    [[row, { ...row, category_id: 9 }], /category_id, got 9/],
  ]
  for (const [rows, message] of bad)
    t.throws(() => fromCocoResults(rows, ids, 'r.json'), { code: 'ERR_MAMMO_ANNOTATION', message })
  try {
    fromCocoResults([row, null], ids, 'r.json')
    t.fail('accepted')
  } catch (error) {
    t.equal((error as DataError).where, 'r.json, entry 1')
  }
  t.end()
})

t.test('calibration', (t) => {
  const { bins, expectedError, maximumError } = calibrate([0.05, 0.95, 0.95, 1], [0, 1, 1, 0])
  t.equal(bins.length, 10)
  t.equal(bins[9]!.count, 3)
  t.equal(bins[9]!.precision, 2 / 3)
  t.equal(bins[1]!.precision, null)
  t.ok(Math.abs(expectedError! - (0.25 * 0.05 + 0.75 * Math.abs(2 / 3 - 2.9 / 3))) < 1e-12)
  t.ok(Math.abs(maximumError! - 0.3) < 1e-12)
  t.equal(calibrate([], []).expectedError, null)
  t.throws(() => calibrate([2], [1]), RangeError)
  t.end()
})
