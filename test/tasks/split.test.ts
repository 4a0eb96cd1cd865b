// `data split` and the sweeps' splits as tasks: patients that a run trained on, and what they leave for the parts.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { defaultConfig } from '../../lib/config/load.js'
import { optimizeAnchors } from '../../lib/tasks/anchors.js'
import { splitDataset } from '../../lib/tasks/split.js'
import { preparedFixture } from '../train/prepared-fixture.js'

async function runThatTrainedOn(folder: string, patients: readonly string[]): Promise<string> {
  await mkdir(join(folder, 'data'), { recursive: true })
  const train = patients.map((patient) => ({ id: `other/${patient}`, patient, sha256: '' }))
  await writeFile(join(folder, 'data', 'split.json'), JSON.stringify({ method: 'holdout', train, val: [], test: [] }))
  return folder
}

t.test('patients that a run trained on are in no part', async (t) => {
  const dir = t.testdir()
  const folder = await preparedFixture(join(dir, 'p'), { train: 6, val: 3, test: 3 })
  const runs = [
    await runThatTrainedOn(join(dir, 'a'), ['p0', 'p3', 'p99']),
    await runThatTrainedOn(join(dir, 'b'), ['p4']),
  ]
  const { split, leaks } = await splitDataset(folder, { excludeRuns: runs, ratio: [0.5, 0.5, 0], method: 'holdout' })
  t.strictSame(split.unused, ['synth/000', 'synth/003', 'synth/004'])
  const { train, val, test } = split.folds[0]!
  t.equal(train.length + val.length, 9, 'everything else is in a part')
  t.notOk([...train, ...val].some((id) => split.unused.includes(id)))
  t.strictSame(test, [])
  t.strictSame(leaks, [[]])
  t.strictSame(JSON.parse(await readFile(join(folder, 'split.json'), 'utf8')).unused, split.unused)
  await t.rejects(splitDataset(folder, { excludeRuns: [dir] }), {
    code: 'ERR_MAMMO_ARGUMENT',
    message: /data\/split\.json/,
  })
})

t.test('anchors are searched on the training part, another only when asked for', async (t) => {
  const folder = await preparedFixture(join(t.testdir(), 'p'), { train: 5, val: 3, test: 2, negativeEvery: 0 })
  const config = defaultConfig()
  const search = (part?: 'train' | 'val' | 'all') =>
    optimizeAnchors(folder, { config, scales: 1, ratios: 1, ...(part === undefined ? {} : { part }) })
  t.match(await search(), { part: 'train', boxes: 5 })
  t.match(await search('val'), { part: 'val', boxes: 3 })
  t.match(await search('all'), { part: 'all', boxes: 10 })
  await splitDataset(folder, { method: 'kfold', folds: 5 })
  await t.rejects(search(), { code: 'ERR_MAMMO_ARGUMENT', message: /one of the 5 folds/ })
  config.data.fold = 1
  t.match(await search(), { part: 'train', boxes: 6 })
})
