// Comparison of run folders: warnings, paired tests on stored detections, and a page that asks the network for nothing.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { defaultConfig } from '../../lib/config/load.js'
import { openPrepared } from '../../lib/data/prepared.js'
import { compareRuns } from '../../lib/tasks/compare.js'
import { sweepInfer } from '../../lib/tasks/sweep-infer.js'
import { imageTruth } from '../../lib/train/validate.js'
import { preparedFixture } from '../train/prepared-fixture.js'
import { fakeRun, storeDetections } from './fake-runs.js'

const root = t.testdir()
const prepared = await preparedFixture(join(root, 'prepared'), { train: 2, val: 10, test: 2 })
const set = await openPrepared(prepared)
const truth = set.split.folds[0]!.val.map((id) => imageTruth(set.records.find((record) => record.id === id)!, ['mass']))

async function make(name: string, gamma: number, seed: number, quality: number, splitHash = 'split') {
  const config = defaultConfig()
  Object.assign(config.data, { root: prepared })
  Object.assign(config.loss, { gamma })
  Object.assign(config.run, { seed, name })
  const folder = join(root, 'train', name)
  const ap50 = [1, 2, 3, 4].map((epoch) => (quality * epoch) / 5 + seed / 50)
  await fakeRun(folder, config, { ap50, splitHash })
  await storeDetections(join(folder, 'eval', 'predictions.coco.json'), truth, quality)
  return folder
}
const a = await make('a-1', 2, 0, 0.5)
const b = await make('b-1', 5, 0, 1)
const c = await make('c-1', 5, 1, 1)

t.test('numbers, pairs and page', async (t) => {
  await symlink('c-1', join(root, 'train', 'latest'))
  const out = join(root, 'compare.html')
  const targets = [a, b, c, join(root, 'train', 'latest')]
  const result = await compareRuns(targets, { by: ['loss.gamma'], out, bootstrap: 100 })
  t.equal(result.runs.length, 3, 'a link is no run of its own')
  t.same(result.warnings, [])
  t.match(result.differences, [{ key: 'run.seed' }, { key: 'loss.gamma', values: ['2', '5', '5'] }])
  t.match(result.metrics[0], { run: 'a-1', metric: 'val/AP50', best: 0.4, bestEpoch: 4, images: 10 })
  t.equal(
    result.metrics[0]!.masses,
    truth.reduce((sum, image) => sum + image.boxes.length, 0),
  )
  t.equal(result.paired.length, 2)
  t.ok(result.paired[0]!.comparison.ap.difference! > 0)
  const page = await readFile(out, 'utf8')
  for (const text of ['loss.gamma 5', 'Training loss', 'FROC score', 'b-1 against a-1']) t.match(page, text)
  t.notMatch(page.replace(/xmlns(:\w+)?="[^"]*"/g, ''), /<script|(href|src)="(?!#|data:)|url\((?!#|data:)|https?:/)
})

t.test(
  'the page in a browser: drawn, and nothing that its content policy refuses',
  { skip: !existsSync('/usr/bin/chromium') && 'needs /usr/bin/chromium' },
  async (t) => {
    const args = ['--headless', '--no-sandbox', '--disable-gpu', '--enable-logging=stderr']
    const page = pathToFileURL(join(root, 'compare.html')).href
    const { stdout, stderr } = spawnSync(
      '/usr/bin/chromium',
      [...args, `--user-data-dir=${join(root, 'profile')}`, '--dump-dom', page],
      {
        encoding: 'utf8',
        timeout: 60_000,
      },
    )
    t.match(stdout, '<h2')
    t.equal(stdout.match(/<svg /g)?.length, 4)
    t.notMatch(stderr, /CONSOLE/)
  },
)

t.test('runs of different splits are compared with a warning; one run is refused', async (t) => {
  const d = await make('d-1', 2, 0, 1, 'other')
  const result = await compareRuns([a, d], { out: null })
  t.match(result.warnings, [/^The splits differ/])
  t.equal(result.page, null)
  await t.rejects(compareRuns([a]), { code: 'ERR_MAMMO_ARGUMENT' })
  await t.rejects(compareRuns([a, join(root, 'nothing')]), { code: 'ERR_MAMMO_ARGUMENT' })
})

t.test('recall by side; parts are paired together only where both runs have stored them', async (t) => {
  const own = (await compareRuns([a, b], { out: null, bootstrap: 50, sides: [8, 16] })).paired[0]!.recall
  t.equal(own.length, 8)
  t.ok(own[0]!.difference! > 0 && own[0]!.interval!.low <= own[0]!.difference!)
  t.equal(own[1]!.lesions + own[2]!.lesions + own[3]!.lesions, own[0]!.lesions)
  const parts = { out: null, bootstrap: 50, parts: ['val', 'test'] as const }
  const before = await compareRuns([a, b], parts)
  t.same(before.paired, [], 'no detections of the test part are stored')
  const tested = set.split.folds[0]!.test.map((id) =>
    imageTruth(set.records.find((record) => record.id === id)!, ['mass']),
  )
  for (const folder of [a, b])
    await storeDetections(join(folder, 'eval', 'test', 'predictions.coco.json'), tested, 1, 'test')
  t.equal((await compareRuns([a, b], parts)).paired[0]!.images, 12)
  t.equal((await compareRuns([a, b], { ...parts, parts: ['test'] })).paired[0]!.images, 2)
})

t.test('sweep infer on a run: the threshold that removes the false ones; never on the test part', async (t) => {
  const result = await sweepInfer([b], { bootstrap: 50, rankBy: 'F1' })
  t.equal(result.images, 10)
  t.equal(result.rows[0]!.metrics['F1'], 1)
  t.equal(result.fragment!['predict.scoreThreshold'], 0.4)
  t.match(await readFile(result.csv, 'utf8'), /^rank,combination,iou,scoreThreshold,AP50,/)
  const path = join(root, 'test.coco.json')
  const tested = set.split.folds[0]!.test.map((id) =>
    imageTruth(set.records.find((record) => record.id === id)!, ['mass']),
  )
  await storeDetections(path, tested, 1, 'val')
  const config = defaultConfig()
  config.data.root = prepared
  await t.rejects(sweepInfer([path], { config }), {
    code: 'ERR_MAMMO_ARGUMENT',
    message: /never chosen on the test part, got 2/,
  })
})
