// AP against keras-retinanet's evaluation.
import t from 'tap'
import type { Detection, ImageTruth, TruthBox } from '../../lib/evaluate/types.js'
import { averagePrecision, vocAp } from '../../lib/evaluate/voc-ap.js'
import type { Box } from '../../lib/geometry/boxes.js'
import { oracleJson } from '../oracles.js'

interface Oracle {
  cases: {
    name: string
    images: number
    classes: number
    iou_threshold: number
    score_threshold: number
    max_detections: number
    gt: { image: number; class: number; box_xyxy: Box }[]
    dt: { image: number; class: number; box_xyxy: Box; score: number }[]
    per_class: { class: number; ap: number; instances: number }[]
    map?: number | null
    map_weighted?: number | null
  }[]
  compute_ap: { name: string; tp_by_descending_score: string; ground_truth: number; ap: number }[]
}

t.test('AP of keras-retinanet', async (t) => {
  const oracle = await oracleJson<Oracle>(t, 'metrics_voc_keras.json')
  if (oracle === undefined) return
  let worst = 0
  const same = (got: number, want: number, what: string) => {
    worst = Math.max(worst, Math.abs(got - want))
    t.ok(Math.abs(got - want) <= 1e-12, `${what}: ${got}, expected ${want}`)
  }
  for (const c of oracle.cases) {
    const boxes: TruthBox[][] = Array.from({ length: c.images }, () => [])
    const found: Detection[][] = Array.from({ length: c.images }, () => [])
    for (const g of c.gt) boxes[g.image]!.push({ box: g.box_xyxy, label: g.class })
    for (const d of c.dt) found[d.image]!.push({ box: d.box_xyxy, label: d.class, score: d.score })
    const truth = boxes.map((list, i): ImageTruth => ({ id: String(i), patient: String(i), boxes: list }))
    const result = vocAp(truth, new Map(found.map((list, i) => [String(i), list])), {
      classes: c.classes,
      iou: c.iou_threshold,
      scoreThreshold: c.score_threshold,
      maxDetections: c.max_detections,
    })
    for (const { class: label, ap, instances } of c.per_class) {
      const got = result.classes[label]!
      t.equal(got.instances, instances, `${c.name}: lesions of class ${label}`)
      if (instances === 0) t.equal(got.ap, null, 'undefined without lesions')
      else same(got.ap!, ap, `${c.name} class ${label}`)
    }
    if (typeof c.map === 'number') same(result.map!, c.map, `${c.name} map`)
    if (typeof c.map_weighted === 'number') same(result.weighted!, c.map_weighted, `${c.name} weighted map`)
  }
  for (const { name, tp_by_descending_score, ground_truth, ap } of oracle.compute_ap)
    if (ground_truth > 0)
      same(averagePrecision(Uint8Array.from(tp_by_descending_score, Number), ground_truth), ap, name)
  t.comment(`largest difference ${worst}`)
})
