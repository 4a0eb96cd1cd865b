import t from 'tap'
import type { FrocEvents } from '../../lib/evaluate/froc.js'
import { operatingPoint, sensitivityIntervals } from '../../lib/evaluate/operating-points.js'

/** One image per patient with two lesions each; the lesions of the first `found` patients score 0.9, the others 0.1. */
function events(patients: number, found: number): FrocEvents {
  const lesionImage = Int32Array.from({ length: 2 * patients }, (_, i) => i >> 1)
  return {
    images: patients,
    massFree: new Uint8Array(patients),
    lesionScore: Float64Array.from(lesionImage, (image) => (image < found ? 0.9 : 0.1)),
    lesionImage,
    lesionBox: new Int32Array(2 * patients),
    falseScore: new Float64Array(0),
    falseImage: new Int32Array(0),
  } as FrocEvents
}

t.test('intervals of the sensitivity follow the binomial spread of patients, not of lesions', (t) => {
  const patients = 100
  const given = events(patients, 60)
  const images = Int32Array.from({ length: patients }, (_, i) => i)
  const thresholds = [0.5, 0.05, 0.95]
  const [middle, all, none] = sensitivityIntervals(given, thresholds, images, { draws: 2000, seed: 1 })
  t.equal(operatingPoint(given, 0.5).sensitivity, 0.6)
  const half = 1.96 * Math.sqrt((0.6 * 0.4) / patients)
  t.ok(Math.abs(middle!.low - (0.6 - half)) < 0.02, `low ${middle!.low}`)
  t.ok(Math.abs(middle!.high - (0.6 + half)) < 0.02, `high ${middle!.high}`)
  t.strictSame(all, { low: 1, high: 1 })
  t.strictSame(none, { low: 0, high: 0 })
  const one = new Int32Array(patients)
  t.strictSame(
    sensitivityIntervals(given, [0.5], one, { draws: 20, seed: 1 }),
    [{ low: 0.6, high: 0.6 }],
    'all images of one patient are drawn together',
  )
  t.end()
})

t.test('without lesions there is no interval', (t) => {
  const empty = { ...events(3, 0), lesionScore: new Float64Array(0), lesionImage: new Int32Array(0) }
  t.strictSame(sensitivityIntervals(empty, [0.5], Int32Array.of(0, 1, 2), { draws: 10, seed: 1 }), [null])
  t.end()
})
