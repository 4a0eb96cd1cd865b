// The report of a sweep: made from trials that were not trained but left what trials leave.
import { mkdir, readFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import t from 'tap'
import { writeFileAtomic } from '../../lib/atomic-write.js'
import { defaultConfig } from '../../lib/config/load.js'
import { openPrepared } from '../../lib/data/prepared.js'
import type { TrialRunner } from '../../lib/experiments/sweep.js'
import { sweep } from '../../lib/tasks/sweep.js'
import { sweepReport } from '../../lib/tasks/sweep-report.js'
import { imageTruth } from '../../lib/train/validate.js'
import { preparedFixture } from '../train/prepared-fixture.js'
import { fakeRun, storeDetections } from './fake-runs.js'

t.test('a page with every trial, its interval and what differs', async (t) => {
  const root = t.testdir()
  const prepared = await preparedFixture(join(root, 'prepared'), { train: 2, val: 12, test: 2 })
  const set = await openPrepared(prepared)
  const truth = set.split.folds[0]!.val.map((id) => imageTruth(set.records.find((r) => r.id === id)!, ['mass']))
  const out = join(root, 'focal')
  const spec = join(root, 'focal.yaml')
  await writeFileAtomic(
    spec,
    `name: focal\nabout: does gamma matter?\nset: { data.root: ${prepared} }\nspace: { loss.gamma: [2, 5] }\nseeds: [0, 1]\n`,
  )
  const run: TrialRunner = async ({ trial, folder }) => {
    if (trial.setting === 1 && trial.seed === 1) return { status: 'failed', run: '', history: [] }
    const config = defaultConfig()
    config.data.root = prepared
    config.run.seed = trial.seed
    config.loss.gamma = trial.set['loss.gamma'] as number
    const runFolder = join(folder, 'train', 'run-1')
    await mkdir(runFolder, { recursive: true })
    const quality = trial.setting === 0 ? 1 : 0.3
    await fakeRun(runFolder, config, { ap50: [quality] })
    await storeDetections(join(runFolder, 'eval', 'predictions.coco.json'), truth, quality)
    return { status: 'finished', run: relative(out, runFolder), history: [{ epoch: 1, 'val/AP50': quality }] }
  }
  await sweep(spec, { out, run })
  const result = await sweepReport(out, { out: join(root, 'docs'), bootstrap: 100, commands: ['sweep it'] })
  t.equal(result.missing, 1)
  t.strictSame(
    result.trials.map(({ setting, seed, images }) => [setting, seed, images]),
    [
      ['2', 0, 12],
      ['2', 1, 12],
      ['5', 0, 12],
    ],
  )
  t.equal(result.trials[0]!.difference, null)
  const worse = result.trials[2]!.difference!
  t.ok(worse.value! < 0 && worse.interval!.low <= worse.value! && worse.value! <= worse.interval!.high)
  const page = await readFile(result.page, 'utf8')
  for (const text of ['does gamma matter?', '| loss.gamma | 2 | 5 |', '(focal.svg)', '100 resamples', 'sweep it'])
    t.ok(page.includes(text), text)
  t.match(page, /1 trials were not run/)
  t.match(await readFile(result.figure, 'utf8'), /aria-label="focal: AP50.*2, seed 1/)
  await t.rejects(sweepReport(root), { code: 'ERR_MAMMO_ARGUMENT', message: /sweep\.json/ })
})
