// COCO AP and AR against pycocotools.
import t from 'tap'
import {
  type AreaRange,
  COCO_IOUS,
  type CocoDetection,
  type CocoTruth,
  cocoEvaluate,
  cocoMean,
  cocoStatistics,
  RECALL_POINTS,
} from '../../lib/evaluate/coco-ap.js'
import { oracleJson } from '../oracles.js'

type Xywh = [number, number, number, number]
interface Case {
  name: string
  images: number
  classes: number
  gt: { image: number; class: number; box_xywh: Xywh; crowd: number }[]
  dt: { image: number; class: number; box_xywh: Xywh; score: number }[]
  stats: Record<string, number> | null
  ap50_per_class?: number[]
  ap_per_iou?: number[]
  recall_per_iou?: number[]
  precision_iou50_class0_101_recalls?: number[]
  custom?: {
    iou: number[]
    max_dets: number[]
    area_ranges: string[]
    ap_iou_by_area_at_50: number[][]
    recall_iou_by_maxdet_all_areas: number[][]
  }
}

const areas: AreaRange[] = [
  { name: 'all', min: 0, max: 1e10 },
  { name: 'small', min: 0, max: 2500 },
  { name: 'medium', min: 2500, max: 22500 },
  { name: 'large', min: 22500, max: 1e10 },
]

t.test('COCO statistics', async (t) => {
  const oracle = await oracleJson<{ cases: Case[] }>(t, 'metrics_coco.json')
  if (oracle === undefined) return
  let worst = 0
  let compared = 0
  const same = (got: number | null, want: number, what: string) => {
    const difference = Math.abs((got ?? -1) - want)
    worst = Math.max(worst, difference)
    compared++
    if (!(difference <= 1e-9)) t.fail(`${what}: ${got}, expected ${want}`)
  }
  for (const c of oracle.cases) {
    const truth: CocoTruth[] = c.gt.map((g) => ({
      image: g.image,
      label: g.class,
      box: g.box_xywh,
      crowd: g.crowd === 1,
    }))
    const detections: CocoDetection[] = c.dt.map((d) => ({
      image: d.image,
      label: d.class,
      box: d.box_xywh,
      score: d.score,
    }))
    const result = cocoEvaluate(truth, detections, c)
    const statistics = cocoStatistics(result)
    if (c.stats === null) t.equal(statistics.AP, 0, `${c.name}: 0 for classes with boxes`)
    for (const [key, want] of Object.entries(c.stats ?? {}))
      same(statistics[key as keyof typeof statistics], want, `${c.name} ${key}`)
    const mean = (table: 'averagePrecision' | 'recall', iou: number) =>
      cocoMean(result, table, { iou, area: 0, limit: 2 })
    c.ap_per_iou?.forEach((want, i) => same(mean('averagePrecision', COCO_IOUS[i]!), want, `${c.name} AP[${i}]`))
    c.recall_per_iou?.forEach((want, i) => same(mean('recall', COCO_IOUS[i]!), want, `${c.name} AR[${i}]`))
    c.ap50_per_class?.forEach((want, label) =>
      same(
        cocoMean(result, 'averagePrecision', { iou: 0.5, label, area: 0, limit: 2 }),
        want,
        `${c.name} AP50 of class ${label}`,
      ),
    )
    c.precision_iou50_class0_101_recalls?.forEach((want, r) =>
      same(result.precision[result.index(0, 0, 0, 2) * RECALL_POINTS + r]!, want, `${c.name} precision at recall ${r}`),
    )
    if (c.custom === undefined) continue
    const custom = cocoEvaluate(truth, detections, {
      images: c.images,
      classes: c.classes,
      ious: c.custom.iou,
      areas,
      maxDetections: c.custom.max_dets,
    })
    c.custom.ap_iou_by_area_at_50.forEach((row, i) =>
      row.forEach((want, area) =>
        same(
          cocoMean(custom, 'averagePrecision', { iou: c.custom!.iou[i]!, area, limit: 2 }),
          want,
          `${c.name} custom AP ${i} ${area}`,
        ),
      ),
    )
    c.custom.recall_iou_by_maxdet_all_areas.forEach((row, i) =>
      row.forEach((want, limit) =>
        same(
          cocoMean(custom, 'recall', { iou: c.custom!.iou[i]!, area: 0, limit }),
          want,
          `${c.name} custom AR ${i} ${limit}`,
        ),
      ),
    )
  }
  t.ok(compared > 0 && worst <= 1e-9, `${compared} numbers, largest difference ${worst}`)
})
