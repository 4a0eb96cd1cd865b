// Weighted boxes fusion against ensemble-boxes.
import t from 'tap'
import type { Box } from '../../lib/geometry/boxes.js'
import { type FusionOptions, fuseBoxes, type ScoredBox } from '../../lib/geometry/fusion.js'
import { oracleJson } from '../oracles.js'

interface Case {
  name: string
  settings: {
    weights: number[] | null
    iou_thr: number
    skip_box_thr: number
    conf_type: string
    allows_overflow?: boolean
  }
  boxes: Box[][] | null
  scores: number[][] | null
  labels: number[][] | null
  fused_boxes: Box[]
  fused_scores: number[]
  fused_labels: number[]
}

const rules: Record<string, FusionOptions['score']> = {
  avg: 'average',
  max: 'max',
  box_and_model_avg: 'modelAverage',
  absent_model_aware_avg: 'absentAware',
}

t.test('weighted boxes fusion', async (t) => {
  const oracle = await oracleJson<{ cases: Case[] }>(t, 'wbf.json')
  if (oracle === undefined) return
  const inputs = new Map<string, ScoredBox[][]>()
  let worst = 0
  for (const c of oracle.cases) {
    if (c.boxes !== null)
      inputs.set(
        c.name,
        c.boxes.map((boxes, s) => boxes.map((box, i) => ({ box, score: c.scores![s]![i]!, label: c.labels![s]![i]! }))),
      )
    const { settings } = c
    const fused = fuseBoxes(inputs.get(c.name)!, {
      ...(settings.weights === null ? {} : { weights: settings.weights }),
      iou: settings.iou_thr,
      minScore: settings.skip_box_thr,
      score: rules[settings.conf_type]!,
      overflow: settings.allows_overflow ?? false,
    })
    const left = c.fused_boxes.map((box, i) => ({ box, score: c.fused_scores[i]!, label: c.fused_labels[i]! }))
    t.equal(fused.length, left.length, `${c.name} ${settings.conf_type}: number of boxes`)
    // The reference's order among equal scores is that of an unstable sort: match as sets.
    for (const got of fused) {
      const distance = (want: ScoredBox) =>
        Math.max(Math.abs(want.score - got.score), ...want.box.map((v, k) => Math.abs(v - got.box[k]!)))
      let nearest = -1
      left.forEach((want, i) => {
        if (want.label === got.label && (nearest < 0 || distance(want) < distance(left[nearest]!))) nearest = i
      })
      if (nearest < 0) {
        t.fail(`${c.name} ${settings.conf_type}: nothing like ${JSON.stringify(got)}`)
        continue
      }
      worst = Math.max(worst, distance(left[nearest]!))
      left.splice(nearest, 1)
    }
    t.ok(
      fused.every((box, i) => i === 0 || fused[i - 1]!.score >= box.score),
      'descending scores',
    )
  }
  t.ok(worst <= 1e-6, `largest difference of boxes and scores ${worst}`)
})
