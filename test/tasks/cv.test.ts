// Cross-validation with a runner that trains nothing: one run per fold, finished folds are not repeated, an interrupted one goes on.
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { defaultConfig } from '../../lib/config/load.js'
import { openPrepared, partIds } from '../../lib/data/prepared.js'
import { crossValidate, crossValidationConfig, type FoldRunner } from '../../lib/tasks/cv.js'
import { splitDataset } from '../../lib/tasks/split.js'
import { createRunFolder } from '../../lib/train/run-folder.js'
import { imageTruth } from '../../lib/train/validate.js'
import { preparedFixture } from '../train/prepared-fixture.js'
import { fakeRun, storeDetections } from './fake-runs.js'

t.test('folds, interruption, resume, pooled result', async (t) => {
  const root = t.testdir()
  const prepared = await preparedFixture(join(root, 'prepared'), { train: 6, val: 3, test: 3 })
  const config = defaultConfig()
  Object.assign(config.data, { root: prepared })
  Object.assign(config.run, { root: join(root, 'runs') })
  config.evaluate.bootstrap = 50
  await t.rejects(crossValidate(config), { code: 'ERR_MAMMO_ARGUMENT', fix: /data split/ }, 'a hold-out split')
  await splitDataset(prepared, { method: 'kfold', folds: 3 })
  await t.rejects(crossValidate(config, { folds: 5 }), { code: 'ERR_MAMMO_ARGUMENT' })

  const set = await openPrepared(prepared)
  const trained: string[] = []
  let interruptAt = 1
  const runner: FoldRunner = {
    async train(fold, { command, name, resume }) {
      trained.push(`${fold.data.fold}${resume === null ? '' : ' resumed'}`)
      const directory = resume ?? (await createRunFolder(fold.run.root, command, name))
      const stopped = fold.data.fold === interruptAt
      await fakeRun(directory, fold, { status: stopped ? 'interrupted' : 'finished' })
      if (stopped) {
        interruptAt = -1
        await mkdir(join(directory, 'checkpoints'), { recursive: true })
        await writeFile(join(directory, 'checkpoints', 'last.safetensors'), '')
      }
      const rest = { best: null, final: null, skipped: 0, step: 1 }
      return { directory, status: stopped ? 'interrupted' : 'finished', stopped: stopped ? 'SIGINT' : null, ...rest }
    },
    async score(run, part, out) {
      const fold = Number(/fold(\d)-/.exec(run)![1])
      const records = new Map(set.records.map((record) => [record.id, record]))
      const truth = partIds(set, part, fold).map((id) => imageTruth(records.get(id)!, ['mass']))
      await storeDetections(join(out, 'predictions.coco.json'), truth, 1, part)
      return [{ name: 'AP50', value: 0.5 + fold / 10, interval: null }]
    },
  }
  const first = await crossValidate(config, { runner, name: 'x' })
  t.match(first, { status: 'interrupted', stopped: 'SIGINT', pooled: null })
  t.same(trained, ['0', '1'])
  t.equal(first.folds.length, 1)
  const resumed = await crossValidationConfig(first.directory)
  const result = await crossValidate(resumed, { runner, resume: first.directory, folds: 3 })
  t.same(trained, ['0', '1', '1 resumed', '2'])
  t.equal(result.status, 'finished')
  t.equal(
    result.folds.reduce((sum, fold) => sum + fold.images, 0),
    12,
    'every image is in one test part',
  )
  t.ok(Math.abs(result.mean![0]!.mean! - 0.6) < 1e-12)
  t.ok(result.pooled!.find(({ name }) => name === 'sens@1')!.value === 1)
  t.equal(result.operatingPoints!.length, config.evaluate.fppi.length)
  t.match(result.remarks[0], /not on one scale/)
  for (const file of ['cv.json', 'results.json', 'pooled.coco.json', 'pooled-metrics.json'])
    t.ok(existsSync(join(result.directory, file)), file)
  await crossValidate(resumed, { runner, resume: first.directory })
  t.equal(trained.length, 4, 'nothing is trained again')
})
