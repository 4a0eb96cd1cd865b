import t from 'tap'
import { bootstrapValues, imageWeights, percentileIntervals, quantile } from '../../lib/evaluate/bootstrap.js'
import { cocoEvaluate, cocoMean, descending, judgeClass } from '../../lib/evaluate/coco-ap.js'
import { cocoDetections, cocoTruth } from '../../lib/evaluate/evaluate.js'
import { frocEvents, sensitivities, weightedFroc } from '../../lib/evaluate/froc.js'
import { groupImages, type ImageTruth } from '../../lib/evaluate/types.js'
import { vocAp } from '../../lib/evaluate/voc-ap.js'
import { judgedClasses, weightedAp } from '../../lib/evaluate/weighted-ap.js'
import { randomStream } from '../../lib/random.js'
import { simulate } from './simulate.js'

const share = (hits: readonly boolean[]) => (weights: Float64Array) =>
  Float64Array.of(hits.reduce((sum, hit, i) => sum + (hit ? weights[i]! : 0), 0) / hits.length)

t.test('a proportion: the interval agrees with the binomial quantiles', (t) => {
  const hits = Array.from({ length: 100 }, (_, i) => i < 80)
  const rows = bootstrapValues(100, share(hits), { draws: 20000, seed: 0 })
  // Resampled hits are Binomial(100, 0.8): its 2.5 % quantile is 72; its 97.5 % quantile is 88, but P(X <= 87) = 0.9747 is a near tie.
  const [interval] = percentileIntervals(rows)
  t.equal(interval!.low, 0.72)
  t.ok(interval!.high === 0.87 || interval!.high === 0.88, String(interval!.high))
  t.end()
})

t.test('the 95 % interval covers in 92 to 97 % of 1,000 simulations (100 patients, p = 0.8)', (t) => {
  let covered = 0
  for (let s = 0; s < 1000; s++) {
    const random = randomStream(7, s)
    const hits = Array.from({ length: 100 }, () => random.uniform() < 0.8)
    const [interval] = percentileIntervals(bootstrapValues(100, share(hits), { draws: 400, seed: s }))
    if (interval!.low <= 0.8 && 0.8 <= interval!.high) covered++
  }
  t.comment(`${covered} of 1000`)
  t.ok(covered >= 920 && covered <= 970, `covered ${covered}`)
  t.end()
})

t.test('draws are deterministic, do not depend on their number, and are redrawn when refused', (t) => {
  const draw = (draws: number, seed: number) => bootstrapValues(9, (w) => w, { draws, seed })
  t.same(draw(5, 3), draw(9, 3).slice(0, 5))
  t.notSame(draw(5, 3), draw(5, 4))
  t.ok(draw(5, 0).every((weights) => weights.reduce((sum, w) => sum + w, 0) === 9))
  const kept = bootstrapValues(9, (w) => w, { draws: 50, seed: 0, accept: (w) => w[0]! > 0 })
  t.ok(kept.length === 50 && kept.every((w) => w[0]! > 0))
  t.same(
    bootstrapValues(9, (w) => w, { draws: 5, seed: 0, accept: () => false }),
    [],
  )
  t.same(
    bootstrapValues(0, (w) => w, { draws: 5, seed: 0 }),
    [],
  )
  t.same(percentileIntervals([]), [])
  t.equal(quantile([1, 2, 4], 0.75), 3)
  t.end()
})

t.test('weights say what copying the images says: FROC, AP of keras-retinanet, AP of COCO', (t) => {
  const { truth, detections } = simulate(25, 5)
  const groups = groupImages(truth)
  const fppi = [0.1, 0.5, 1, 2]
  const voc = vocAp(truth, detections, { classes: 1, iou: 0.5, scoreThreshold: 0, maxDetections: 100 })
  const vocWeighted = weightedAp(judgedClasses(truth, voc)[0]!, 'every-recall')
  const judged = judgeClass(
    cocoTruth(truth),
    cocoDetections(truth, detections),
    0,
    truth.length,
    [0.5],
    [{ name: 'all', min: 0, max: 1e10 }],
    100,
  )
  const order = descending(judged.scores)
  const cocoWeighted = weightedAp(
    {
      hits: Uint8Array.from(order, (i) => judged.status[0]![i]!),
      images: Int32Array.from(order, (i) => judged.image[i]!),
      lesions: judged.lesions[0]!,
    },
    '101-points',
  )
  const froc = { all: frocEvents(truth, detections, { criterion: 'centre', credit: 'all' }) }
  const near = (a: number | null, b: number, what: string) =>
    t.ok(a !== null && Math.abs(a - b) < 1e-12, `${what}: ${a} ${b}`)
  for (const weights of bootstrapValues(25, (w) => w, { draws: 10, seed: 1 })) {
    const copies: ImageTruth[] = []
    const found = new Map(detections)
    const ofImage = imageWeights(weights, groups.patient, new Float64Array(truth.length))
    truth.forEach((image, i) => {
      for (let c = 0; c < ofImage[i]!; c++) {
        copies.push({ ...image, id: `${image.id}#${c}` })
        found.set(`${image.id}#${c}`, detections.get(image.id)!)
      }
    })
    for (const where of ['all', 'mass-free'] as const)
      t.same(
        Array.from(weightedFroc(froc.all, fppi, where)(ofImage)),
        sensitivities(frocEvents(copies, found, { criterion: 'centre', credit: 'all' }), fppi, where),
      )
    near(
      vocAp(copies, found, { classes: 1, iou: 0.5, scoreThreshold: 0, maxDetections: 100 }).map,
      vocWeighted(ofImage),
      'AP',
    )
    const coco = cocoEvaluate(cocoTruth(copies), cocoDetections(copies, found), { images: copies.length, classes: 1 })
    near(cocoMean(coco, 'averagePrecision', { iou: 0.5, area: 0, limit: 2 }), cocoWeighted(ofImage), 'COCO AP50')
  }
  t.end()
})
