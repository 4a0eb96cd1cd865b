// Folds together, on detections whose numbers can be counted by hand.
import t from 'tap'
import { evaluateDetections } from '../../lib/evaluate/evaluate.js'
import type { Detection, ImageTruth } from '../../lib/evaluate/types.js'
import { type FoldScores, foldMeans, heldOutPoints, poolFolds } from '../../lib/experiments/cross-validation.js'
import type { Box } from '../../lib/geometry/boxes.js'

const rules = {
  ...{ classes: ['mass'], iou: 0.5, scoreThreshold: 0, maxDetections: 100, fppi: [0.5, 1] },
  ...{ criteria: ['centre' as const], credit: 'all' as const },
}
const lesion: Box = [0, 0, 10, 10]
const away: Box = [50, 50, 60, 60]

/** One image per patient, each with a lesion; `hit` and `miss` are scores of a detection on it and beside it. */
function part(name: string, images: [hit: number | null, miss: number | null][]) {
  const truth: ImageTruth[] = images.map((_, i) => ({
    id: `${name}${i}`,
    patient: `${name}${i}`,
    boxes: [{ box: lesion, label: 0 }],
  }))
  const found = (score: number | null, box: Box): Detection[] => (score === null ? [] : [{ box, score, label: 0 }])
  const detections = new Map(
    images.map(([hit, miss], i) => [`${name}${i}`, [...found(hit, lesion), ...found(miss, away)]]),
  )
  return { truth, detections }
}

const folds: FoldScores[] = [
  // Scores of the second fold are a tenth of the first one's: not on one scale.
  {
    fold: 0,
    val: part('a', [
      [0.9, null],
      [0.8, 0.5],
    ]),
    test: part('b', [
      [0.9, 0.6],
      [0.4, null],
    ]),
  },
  {
    fold: 1,
    val: part('c', [
      [0.09, 0.03],
      [0.08, null],
    ]),
    test: part('d', [
      [0.095, null],
      [0.05, 0.01],
    ]),
  },
]

t.test('pooled: all test images, each once', async (t) => {
  const { truth, detections } = poolFolds(folds)
  t.same(
    truth.map(({ id }) => id),
    ['b0', 'b1', 'd0', 'd1'],
  )
  const metrics = evaluateDetections(truth, detections, { ...rules, bootstrap: null })
  t.equal(metrics.counts.lesions, 4)
  // By score: hit .9, false .6, hits .4 .095 .05, false .01: at 0.5 false positives per image (2 of 4 images) all four are found.
  const [half] = metrics.froc[0]!.points
  t.equal(half!.sensitivity.value, 1)
  // Precision 1 up to recall 1/4, then 2/3, 3/4, 4/5: made monotone 4/5.
  t.ok(Math.abs(metrics.voc.map.value! - (1 / 4 + (3 / 4) * (4 / 5))) < 1e-12)
  t.throws(() => poolFolds([folds[0]!, folds[0]!]), { code: 'ERR_MAMMO_INTERNAL' })
})

t.test('thresholds come from the validation part of each fold', async (t) => {
  const [half] = heldOutPoints(folds, rules, { draws: 200, seed: 0 })
  // The lowest validation score with at most one false positive on two images: .5 and .03.
  t.same(half!.thresholds, [0.5, 0.03])
  t.equal(half!.threshold, 0.265)
  // Test at those: fold 0 finds one of two with one false positive; fold 1 both with none.
  t.match(half, {
    found: 3,
    lesions: 4,
    falsePositives: 1,
    images: 4,
    sensitivity: { value: 0.75 },
    falsePositivesPerImage: { value: 0.25 },
  })
  t.ok(half!.sensitivity.interval!.low < 0.75 && half!.sensitivity.interval!.high > 0.75)
  const changed = [
    {
      ...folds[0]!,
      test: part('b', [
        [0.9, 0.99],
        [0.99, 0.98],
      ]),
    },
    folds[1]!,
  ]
  t.same(heldOutPoints(changed, rules, null)[0]!.thresholds, half!.thresholds, 'the test part moves no threshold')
})

t.test('mean over folds', async (t) => {
  const rows = (a: number | null) => [{ name: 'AP50', value: a }]
  t.match(foldMeans([rows(0.2), rows(0.4), rows(null)]), [{ name: 'AP50', n: 2 }])
  t.ok(Math.abs(foldMeans([rows(0.2), rows(0.4)])[0]!.mean! - 0.3) < 1e-12)
})
