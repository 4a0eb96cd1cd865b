// FROC against two independent programs of the same rule: exact.
import t from 'tap'
import {
  type Credit,
  type Criterion,
  frocCurve,
  frocEvents,
  sensitivities,
  weightedFroc,
} from '../../lib/evaluate/froc.js'
import type { Detection, ImageTruth, TruthBox } from '../../lib/evaluate/types.js'
import { oracleJson } from '../oracles.js'

interface Oracle {
  definition: { points_fppi: number[] }
  cases: {
    name: string
    images: number
    lesions: [number, number, number, number, number][]
    detections: [number, number, number, number, number, number][]
    results: {
      criterion: string
      credit: Credit
      false_positives_counted_on: string
      denominator_images: number
      sensitivity: number[]
      curve_found_fp: [number, number][] | null
      final_found: number
      final_fp: number
    }[]
  }[]
}

t.test('FROC', async (t) => {
  const oracle = await oracleJson<Oracle>(t, 'froc.json')
  if (oracle === undefined) return
  const fppi = oracle.definition.points_fppi
  for (const c of oracle.cases) {
    const boxes: TruthBox[][] = Array.from({ length: c.images }, () => [])
    const found = new Map<string, Detection[]>(boxes.map((_, i) => [String(i), []]))
    for (const [image, ...box] of c.lesions) boxes[image]!.push({ box, label: 0 })
    for (const [image, x1, y1, x2, y2, score] of c.detections)
      found.get(String(image))!.push({ box: [x1, y1, x2, y2], score, label: 0 })
    const truth = boxes.map((list, i): ImageTruth => ({ id: String(i), patient: String(i), boxes: list }))
    for (const r of c.results) {
      const criterion = (r.criterion === 'centre' ? 'centre' : `iou:${r.criterion.slice('iou'.length)}`) as Criterion
      const where = r.false_positives_counted_on === 'all images' ? 'all' : 'mass-free'
      const name = `${c.name} ${criterion} ${r.credit} ${where}`
      const events = frocEvents(truth, found, { criterion, credit: r.credit })
      t.equal(where === 'all' ? events.images : events.massFreeImages, r.denominator_images, `${name}: images`)
      t.same(sensitivities(events, fppi, where), r.sensitivity, `${name}: sensitivities`)
      const equalWeights = new Float64Array(c.images).fill(1)
      t.same(Array.from(weightedFroc(events, fppi, where)(equalWeights)), r.sensitivity, `${name}: resampling form`)
      const curve = frocCurve(events, where)
      t.same([curve.at(-1)!.found, curve.at(-1)!.falsePositives], [r.final_found, r.final_fp], `${name}: last point`)
      if (r.curve_found_fp === null) continue
      // The stored curve is thinned: every k-th point from the first.
      const stored = r.curve_found_fp
      const steps = Array.from({ length: curve.length }, (_, k) => k + 1).filter(
        (k) => Math.ceil(curve.length / k) === stored.length,
      )
      const thinned = steps.map((k) =>
        curve.filter((_, i) => i % k === 0).map((p): [number, number] => [p.found, p.falsePositives]),
      )
      t.ok(
        thinned.some((points) => JSON.stringify(points) === JSON.stringify(stored)),
        `${name}: curve of ${stored.length} points`,
      )
    }
  }
})
