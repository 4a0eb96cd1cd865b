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
    for (const [i, want] of (c.ap_per_iou ?? []).entries())
      same(mean('averagePrecision', COCO_IOUS[i]!), want, `${c.name} AP[${i}]`)
    for (const [i, want] of (c.recall_per_iou ?? []).entries())
      same(mean('recall', COCO_IOUS[i]!), want, `${c.name} AR[${i}]`)
    for (const [label, want] of (c.ap50_per_class ?? []).entries()) {
      const got = cocoMean(result, 'averagePrecision', { iou: 0.5, label, area: 0, limit: 2 })
      same(got, want, `${c.name} AP50 of class ${label}`)
    }
    for (const [r, want] of (c.precision_iou50_class0_101_recalls ?? []).entries())
      same(result.precision[result.index(0, 0, 0, 2) * RECALL_POINTS + r]!, want, `${c.name} precision at recall ${r}`)
    if (c.custom === undefined) continue
    const { iou: ious, max_dets, ap_iou_by_area_at_50, recall_iou_by_maxdet_all_areas } = c.custom
    const sizes = { images: c.images, classes: c.classes }
    const custom = cocoEvaluate(truth, detections, { ...sizes, ious, areas, maxDetections: max_dets })
    for (const [i, iou] of ious.entries()) {
      for (const [area, want] of ap_iou_by_area_at_50[i]!.entries())
        same(cocoMean(custom, 'averagePrecision', { iou, area, limit: 2 }), want, `${c.name} custom AP ${iou} ${area}`)
      for (const [limit, want] of recall_iou_by_maxdet_all_areas[i]!.entries())
        same(cocoMean(custom, 'recall', { iou, area: 0, limit }), want, `${c.name} custom AR ${iou} ${limit}`)
    }
  }
  t.ok(compared > 0 && worst <= 1e-9, `${compared} numbers, largest difference ${worst}`)
})
