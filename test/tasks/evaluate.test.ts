import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { defaultConfig } from '../../lib/config/load.js'
import { openPrepared } from '../../lib/data/prepared.js'
import type { Detection } from '../../lib/evaluate/types.js'
import { evaluate } from '../../lib/tasks/evaluate.js'
import { writePredictions } from '../../lib/train/predictions.js'
import { preparedFixture } from '../train/prepared-fixture.js'

/** A prepared folder and predictions of its test part: the true boxes with falling scores, and one false positive above the last. */
async function setting(folder: string) {
  const root = await preparedFixture(join(folder, 'p'), { test: 6 })
  const set = await openPrepared(root)
  const ids = set.split.folds[0]!.test
  const detections = new Map<string, Detection[]>()
  let score = 0.95
  for (const id of ids) {
    const lesion = set.records.find((r) => r.id === id)!.lesions[0]
    if (lesion) score -= 0.1
    detections.set(id, lesion ? [{ box: lesion.box, score, label: 0 }] : [])
  }
  const lesions = [...detections.values()].flat().length
  detections.get(ids[0]!)!.push({ box: [0, 0, 4, 4], score: score + 0.05, label: 0 })
  const path = join(folder, 'predictions.json')
  await writePredictions(path, { info: { scoreThreshold: 0.5 }, detections }, ['mass'])
  const config = structuredClone(defaultConfig())
  config.data.root = root
  return { path, config, ids, lesions }
}

t.test('stored predictions need neither addon nor model', async (t) => {
  const folder = t.testdir()
  const { path, config, ids, lesions } = await setting(folder)
  const out = join(folder, 'out')
  const result = await evaluate(path, { config, split: 'test', bootstrap: 50, out })
  t.equal(result.kind, 'predictions')
  t.equal(result.images, ids.length)
  t.equal(result.details.counts.lesions, lesions)
  // Precision 1 until the false positive, which stands before the last lesion.
  const ap = (lesions - 1) / lesions + (1 / lesions) * (lesions / (lesions + 1))
  t.ok(Math.abs(result.metrics.ap50! - ap) < 1e-9)
  const sens = Object.fromEntries(result.metrics.sensitivity.map(({ fppi, value }) => [fppi, value]))
  t.equal(sens[0.1], (lesions - 1) / lesions)
  t.equal(sens[0.2], 1)
  const row = result.rows.find((r) => r.name === 'AP50')!
  t.ok(row.interval![0] <= row.value! && row.value! <= row.interval![1])
  t.match(result.warnings, [/scores above 0\.5 only/])
  const metrics = JSON.parse(readFileSync(join(out, 'metrics.json'), 'utf8'))
  t.match(metrics, { split: 'test', images: ids.length, counts: { lesions } })
  const froc = readFileSync(join(out, 'froc.csv'), 'utf8').trim().split('\n')
  t.equal(froc[0], 'threshold,fppi,sensitivity,found,falsePositives')
  t.equal(froc.length, 1 + lesions + 1)
  const perImage = readFileSync(join(out, 'perImage.csv'), 'utf8').trim().split('\n')
  t.equal(perImage.length, 1 + ids.length)
  t.match(perImage[1], /^synth\/\d+,CC,1,1,0\.85,2,1,/)
})

t.test('thresholds that must hold are data, not an error', async (t) => {
  const { path, config } = await setting(t.testdir())
  const result = await evaluate(path, {
    config,
    split: 'test',
    bootstrap: 0,
    failUnder: { AP50: 0.5, 'sens@0.1': 0.99 },
  })
  t.match(result.failed, [{ name: 'sens@0.1', least: 0.99 }])
  t.equal(result.directory, null)
  const unknown = evaluate(path, { config, split: 'test', bootstrap: 0, failUnder: { nonsense: 1 } })
  await t.rejects(unknown, { code: 'ERR_MAMMO_ARGUMENT', message: /unknown metric/, fix: /^use one of AP50/ })
})

t.test('images without an entry count as without detections, and it is said', async (t) => {
  const folder = t.testdir()
  const { config, ids } = await setting(folder)
  const path = join(folder, 'few.json')
  await writePredictions(
    path,
    {
      info: {},
      detections: new Map([
        [ids[0]!, []],
        ['other', []],
      ]),
    },
    ['mass'],
  )
  const result = await evaluate(path, { config, split: 'test', bootstrap: 0 })
  t.equal(result.metrics.ap50, 0)
  t.match(result.warnings, [/5 of 6 images have no entry/, /1 images of the file are not in this part/])
})

t.test('stored predictions have no further views', async (t) => {
  const { path, config } = await setting(t.testdir())
  await t.rejects(evaluate(path, { config, split: 'test', tta: ['hflip'] }), {
    ...{ code: 'ERR_MAMMO_ARGUMENT', message: /predicted again/, fix: /sweep infer/ },
  })
})

t.test('what cannot be scored', async (t) => {
  const folder = t.testdir()
  const { path, config } = await setting(folder)
  await t.rejects(evaluate(join(folder, 'nothing')), { code: 'ERR_MAMMO_ARGUMENT' })
  await t.rejects(evaluate(path, { split: 'test' }), { code: 'ERR_MAMMO_CONFIG', message: /data\.root/ })
  await t.rejects(evaluate(path, { config, set: { 'evaluate.hitt': 'x' } }), {
    code: 'ERR_MAMMO_CONFIG',
    message: /evaluate\.hit/,
  })
  const root = await preparedFixture(join(folder, 'empty'), { test: 0 })
  const empty = { ...config, data: { ...config.data, root } }
  await t.rejects(evaluate(path, { config: empty, split: 'test' }), {
    code: 'ERR_MAMMO_MANIFEST',
    message: /part test/,
  })
  t.notOk(existsSync(join(folder, 'eval')))
})
