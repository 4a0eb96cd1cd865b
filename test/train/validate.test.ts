import { join } from 'node:path'
import t from 'tap'
import type { Detections, ImageBatch, StepResult } from '../../lib/binding/types.js'
import { defaultConfig } from '../../lib/config/load.js'
import { phasesOf } from '../../lib/config/phases.js'
import type { Config } from '../../lib/config/schema.js'
import { openDataset } from '../../lib/train/data.js'
import { evaluationPost, openValidator, truthOf } from '../../lib/train/validate.js'
import { preparedFixture } from './prepared-fixture.js'

/** An engine that finds exactly what `boxesOf` says, in canvas pixels, image after image. */
function engine(boxesOf: (image: number) => number[][]) {
  let image = 0
  return {
    async detect(batch: ImageBatch): Promise<Detections> {
      const n = batch.sizes.length / 2
      const found = Array.from({ length: n }, () => boxesOf(image++))
      return {
        boxes: Float32Array.from(found.flat(2)),
        scores: Float32Array.from(found.flat(), () => 0.9),
        labels: new Int32Array(found.flat().length),
        offsets: Int32Array.from([0, ...found.map((_, i) => found.slice(0, i + 1).flat().length)]),
        seconds: { forward: 1 },
      }
    },
    evaluateLoss: async () => ({ loss: 0.25 }) as StepResult,
  }
}

async function opened(
  t: { testdir(): string; teardown(f: () => unknown): void },
  change: (config: Config) => void = () => undefined,
) {
  const config = structuredClone(defaultConfig())
  config.data.root = await preparedFixture(join(t.testdir(), 'p'), { val: 3, negativeEvery: 0 })
  Object.assign(config.data.resize, { rule: 'sides', minSide: 192, maxSide: 400 })
  change(config)
  const dataset = await openDataset(config)
  t.teardown(() => dataset.close())
  const ids = dataset.set.split.folds[0]!.val
  return { config, dataset, truth: truthOf(dataset, config, ids) }
}

t.test('what is found at the right place at double scale scores 1', async (t) => {
  const { config, dataset, truth } = await opened(t)
  const perfect = engine((image) => truth[image]!.boxes.map(({ box }) => box.map((v) => 2 * v)))
  const validator = openValidator(perfect, dataset, config, phasesOf(config))
  const result = await validator.run(0, () => false)
  t.match(result, {
    split: 'val',
    loss: 0.25,
    AP50: 1,
    AP: 1,
    hit: 'centre',
    credit: 'all',
    sens: config.evaluate.fppi.map(() => 1),
  })
  t.equal(validator.predictions().size, 3)
  const [first] = validator.predictions().get(truth[0]!.id)!
  t.ok(
    first!.box.every((v, i) => Math.abs(v - truth[0]!.boxes[0]!.box[i]!) < 1e-4),
    'stored in full-image pixels',
  )
})

t.test('nothing found scores 0; without images there is nothing to say', async (t) => {
  const { config, dataset } = await opened(t)
  const result = await openValidator(
    engine(() => []),
    dataset,
    config,
    phasesOf(config),
  ).run(0, () => false)
  t.match(result, { AP50: 0, AP: 0 })
  dataset.set.split.folds[0]!.val = []
  const empty = openValidator(
    engine(() => []),
    dataset,
    config,
    phasesOf(config),
  )
  t.ok(empty.empty)
  t.equal(await empty.run(0, () => false), undefined)
})

t.test('a stop request ends between images', async (t) => {
  const { config, dataset } = await opened(t)
  let asked = 0
  const seen: number[] = []
  const noting = engine((image) => {
    seen.push(image)
    return []
  })
  t.equal(await openValidator(noting, dataset, config, phasesOf(config)).run(0, () => ++asked > 1), 'stopped')
  t.equal(seen.length, 1)
})

t.test('the test part is never scored during training', async (t) => {
  const { config, dataset } = await opened(t, (c) => {
    c.evaluate.split = 'test'
  })
  const result = await openValidator(
    engine(() => []),
    dataset,
    config,
    phasesOf(config),
  ).run(0, () => false)
  t.match(result, { split: 'val' })
})

t.test('scoring keeps lower scores than users see', async (t) => {
  const post = evaluationPost(defaultConfig())
  t.equal(post.scoreThreshold, 0.01)
  t.equal(post.maxDetections, 100)
  t.ok(post.minSize > 0)
})
