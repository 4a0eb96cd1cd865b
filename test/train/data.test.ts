import { join } from 'node:path'
import t from 'tap'
import { defaultConfig } from '../../lib/config/load.js'
import { phasesOf } from '../../lib/config/phases.js'
import type { Config } from '../../lib/config/schema.js'
import { openDataset, toImageBoxes, trainingIds, trainingPhases, trainingSpacing } from '../../lib/train/data.js'
import type { TrainingBatch } from '../../lib/train/trainer.js'
import { preparedFixture } from './prepared-fixture.js'

const configFor = (root: string, change: (config: Config) => void = () => undefined) => {
  const config = structuredClone(defaultConfig())
  config.data.root = root
  config.data.batchSize = 2
  config.model.levels = [3, 4, 5]
  change(config)
  return config
}

async function take(batches: AsyncIterable<TrainingBatch>): Promise<TrainingBatch[]> {
  const list: TrainingBatch[] = []
  for await (const batch of batches) list.push(batch)
  return list
}

t.test('a pass is a pure function of its number; starting inside gives the same rest', async (t) => {
  const root = await preparedFixture(join(t.testdir(), 'p'))
  const config = configFor(root)
  const dataset = await openDataset(config)
  t.teardown(() => dataset.close())
  const { data } = trainingPhases(dataset, config, phasesOf(config))
  const phase = data[0]!
  t.equal(phase.batchesPerPass, 3)
  const whole = await take(phase.read(4, 0))
  t.equal(whole.length, 3)
  t.strictSame(await take(phase.read(4, 1)), whole.slice(1))
  t.strictSame(await take(phase.read(4, 0)), whole)
  const other = await take(phase.read(5, 0))
  t.notSame(
    other.map((b) => b.ids),
    whole.map((b) => b.ids),
    'another order',
  )
  const seen = whole.flatMap((b) => b.ids).sort()
  t.strictSame(seen, trainingIds(dataset, config), 'every image once')
})

t.test('phases draw different windows', async (t) => {
  const root = await preparedFixture(join(t.testdir(), 'p'))
  const config = configFor(root, (c) => {
    const phase = {
      ...{
        name: 'a',
        strategy: 'full' as const,
        epochs: 3,
        stepsPerEpoch: null,
        lr: null,
        batchSize: null,
        accumulate: null,
      },
      ...{ frozenStages: null, checkpointActivations: null, augment: null, schedule: null, earlyStop: null },
    }
    c.train.phases = [phase, { ...phase, name: 'b' }]
  })
  const dataset = await openDataset(config)
  t.teardown(() => dataset.close())
  const { data } = trainingPhases(dataset, config, phasesOf(config))
  const affines = async (phase: number) =>
    (await take(data[phase]!.read(0, 0))).map((b) => [...b.images.windows!.affines])
  t.notSame(await affines(0), await affines(1))
})

t.test('data.limit keeps images with lesions first', async (t) => {
  const root = await preparedFixture(join(t.testdir(), 'p'), { train: 8, negativeEvery: 2 })
  const config = configFor(root, (c) => {
    c.data.limit = 5
  })
  const dataset = await openDataset(config)
  t.teardown(() => dataset.close())
  t.strictSame(
    trainingIds(dataset, config),
    ['000', '002', '004', '006', '001'].map((n) => `synth/${n}`),
  )
})

t.test('normalisation: the fold statistics unless the configuration gives numbers', async (t) => {
  const root = await preparedFixture(join(t.testdir(), 'p'))
  const measured = await openDataset(configFor(root))
  t.teardown(() => measured.close())
  t.strictSame(measured.statistics, {
    mean: measured.set.header.statistics[0]!.mean,
    std: measured.set.header.statistics[0]!.std,
  })
  const given = await openDataset(
    configFor(root, (c) => {
      c.input.mean = 5
      c.input.std = 2
    }),
  )
  t.teardown(() => given.close())
  t.strictSame(given.statistics, { mean: 5, std: 2 })
  t.strictSame(trainingSpacing(given, configFor(root)), [0.1, 0.1])
})

t.test('no root, no prepared folder, a missing fold, an empty part', async (t) => {
  await t.rejects(openDataset(defaultConfig()), { code: 'ERR_MAMMO_CONFIG', exitCode: 2, fix: /data prepare/ })
  await t.rejects(openDataset(configFor(t.testdir())), { code: 'ERR_MAMMO_MANIFEST', exitCode: 3 })
  const root = await preparedFixture(join(t.testdir(), 'p'), { train: 1 })
  const inFold = configFor(root, (c) => {
    c.data.fold = 3
  })
  await t.rejects(openDataset(inFold), { code: 'ERR_MAMMO_MANIFEST' })
})

t.test('canvas boxes go back to the whole image', async (t) => {
  const boxes = Float32Array.of(0, 0, 10, 20, 5, 5, 6, 6)
  t.strictSame(toImageBoxes(boxes, { toImage: [2, 0, 100, 0, 4, 50] }), [
    [100, 50, 120, 130],
    [110, 70, 112, 74],
  ])
  t.strictSame(
    toImageBoxes(boxes, { toImage: [-2, 0, 100, 0, 4, 50] }),
    [
      [80, 50, 100, 130],
      [88, 70, 90, 74],
    ],
    'mirrored: left stays left of right',
  )
})
