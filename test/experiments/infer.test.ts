// Tuning on stored detections: what a setting does to an image, and that the search finds the setting that is best by construction.
import t from 'tap'
import { combineStored, inferSettings, tuneInference } from '../../lib/experiments/infer.js'
import type { Box } from '../../lib/geometry/boxes.js'
import { simulate } from '../evaluate/simulate.js'

const rules = {
  ...{ classes: ['mass'], iou: 0.5, scoreThreshold: 0.01, maxDetections: 100, fppi: [0.5, 1] },
  ...{ criteria: ['centre' as const], credit: 'all' as const },
}
const at = (box: Box, score: number) => ({ box, score, label: 0 })

t.test('suppression and fusion of two sources', async (t) => {
  const a = [at([0, 0, 10, 10], 0.8), at([50, 50, 60, 60], 0.05)]
  const b = [at([1, 0, 11, 10], 0.4)]
  t.same(combineStored([a, b], { combination: 'nms', iou: 0.5, scoreThreshold: 0.1 }), [a[0]])
  t.equal(combineStored([a, b], { combination: 'nms', iou: 0.9, scoreThreshold: 0.1 }).length, 2)
  const [fused] = combineStored([a, b], { combination: 'average', iou: 0.5, scoreThreshold: 0.1 })
  t.ok(Math.abs(fused!.score - 0.6) < 1e-12)
  t.ok(Math.abs(fused!.box[0] - 1 / 3) < 1e-12)
})

t.test('the search finds what suppression mends, and states the gain', async (t) => {
  const { truth, detections } = simulate(40, 2)
  // Every detection twice, slightly moved: only suppression removes the copies, which cost AP.
  const twice = new Map(
    [...detections].map(([id, list]) => [
      id,
      list.flatMap((d) => [d, { ...d, score: d.score * 0.99, box: d.box.map((v) => v + 2) as Box }]),
    ]),
  )
  const options = { method: 'grid' as const, trials: 0, seed: 0, rules, bootstrap: { draws: 100, seed: 0 } }
  const found = tuneInference(truth, [twice], { ...options, rankBy: 'AP50' })
  t.ok(found.rows[0]!.metrics['AP50']! > found.stored.metrics['AP50']! + 0.02)
  t.ok(found.gain!.ap.interval!.low > 0)
  t.same(tuneInference(truth, [twice], { ...options, rankBy: 'AP50' }).rows, found.rows, 'deterministic')
  const fewest = tuneInference(truth, [twice], { ...options, rankBy: 'FP/image' })
  t.ok(fewest.rows[0]!.metrics['FP/image']! <= fewest.rows.at(-1)!.metrics['FP/image']!)
  t.throws(() => tuneInference(truth, [twice], { ...options, rankBy: 'AP51' }), { code: 'ERR_MAMMO_ARGUMENT' })
})

t.test('settings of a method', async (t) => {
  t.equal(inferSettings({ method: 'grid', trials: 0, seed: 0, rules }).length, 4 * 5 * 7)
  const sobol = inferSettings({ method: 'sobol', trials: 32, seed: 1, rules })
  t.equal(sobol.length, 32)
  t.ok(sobol.every(({ scoreThreshold, iou }) => scoreThreshold >= 0.01 && iou >= 0.05 && iou <= 0.6))
  t.same(new Set(sobol.map(({ combination }) => combination)).size, 4)
})
