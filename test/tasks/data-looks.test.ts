// The tasks that look at data: pictures with stored predictions, anchors, statistics. What is drawn is proven in test/data.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { defaultConfig } from '../../lib/config/load.js'
import { prepareRecords } from '../../lib/data/prepare.js'
import { anchorReport, optimizeAnchors } from '../../lib/tasks/anchors.js'
import { datasetStats } from '../../lib/tasks/stats.js'
import { viewDataset } from '../../lib/tasks/view.js'
import { lesion, record, writeImages } from '../data/fixtures.js'

async function prepared(dir: string): Promise<string> {
  const records = [
    record('a', { lesions: [lesion([10, 50, 40, 80])], spacingMm: [0.1, 0.1] }),
    record('b', { lesions: [lesion([12, 40, 20, 48])], spacingMm: [0.1, 0.1] }),
    record('c'),
  ]
  await writeImages(dir, records)
  const input = { root: dir, adapter: 'made-up', tool: 'test', labelRules: {}, records, headerLine: '{}' }
  const out = join(dir, 'p')
  await prepareRecords(input, { out, workers: 0, crop: false, split: { ratio: [1, 0, 0] } })
  return out
}

t.test('hits, misses and false positives change the picture', async (t) => {
  const dir = t.testdir()
  const folder = await prepared(dir)
  const config = defaultConfig()
  const draw = async (name: string, bbox: number[]) => {
    const predictions = join(dir, `${name}.json`)
    await writeFile(predictions, JSON.stringify([{ image_id: 'a', category_id: 1, bbox, score: 0.9 }]))
    const paths = await viewDataset(folder, { out: join(dir, name), config, ids: ['a'], predictions, anchors: true })
    t.equal(paths.length, 1)
    return readFile(paths[0]!)
  }
  const hit = await draw('hit', [12, 52, 26, 26])
  const miss = await draw('miss', [60, 100, 26, 26])
  t.not(Buffer.compare(hit, miss), 0)
  await t.rejects(viewDataset(folder, { out: dir, config, ids: ['x'] }), { code: 'ERR_MAMMO_ARGUMENT' })
  const both = { out: dir, config, augment: true, predictions: 'x' }
  await t.rejects(viewDataset(folder, both), { message: /either --augment or --predictions/ })
})

t.test('anchors: sizes, missed lesions, both settings under one objective', async (t) => {
  const folder = await prepared(t.testdir())
  const config = defaultConfig()
  const report = await anchorReport(folder, { config })
  t.match(report.sizes, [{ from: 0, to: 32, boxes: 2, covered: 1, recall: 0.5 }])
  t.match(report.missed, [{ id: 'b', sizeMm: 0.8 }])
  const search = await optimizeAnchors(folder, { config, scales: 1, ratios: 1 })
  t.match(search, { boxes: 2, objective: 'focal', configured: { ratios: [0.5, 1, 2] } })
  t.equal(search.optimised[0]!.scales.length, 1)
  await t.rejects(optimizeAnchors(folder, { config, top: 0 }), { code: 'ERR_MAMMO_ARGUMENT' })
  const other = { ...config, data: { ...config.data, classes: ['cyst'] } }
  await t.rejects(anchorReport(folder, { config: other }), { code: 'ERR_MAMMO_ANNOTATION' })
})

t.test('statistics: sizes in mm, intensities of all images and of each', async (t) => {
  const stats = await datasetStats(await prepared(t.testdir()))
  t.match(stats, { images: 3, positive: 2, negative: 1, plots: [] })
  t.ok(Math.abs(stats.sizesMm!.max - 3) < 1e-9)
  t.match(stats.sizeHistogram, { unit: 'mm', width: 1, counts: [1, 0, 0, 1] })
  const { mean, imageMean, imageMeans } = stats.intensities!
  t.equal(imageMeans.length, 3)
  t.ok(imageMean.min <= mean && mean <= imageMean.max)
})
