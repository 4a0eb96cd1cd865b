// From the download layout of INbreast to k-fold manifests, on phantoms: adapter, preparation, split, statistics, loader.
import { join } from 'node:path'
import t from 'tap'
import { checkDataset } from '../../lib/data/check.js'
import { readDataset } from '../../lib/data/formats/index.js'
import { findLeaks } from '../../lib/data/leak.js'
import { loadBatches } from '../../lib/data/loader.js'
import { headerLine } from '../../lib/data/manifest.js'
import { prepareRecords } from '../../lib/data/prepare.js'
import { leakImagesOf, openPrepared, openReader, samplerImages } from '../../lib/data/prepared.js'
import { createSampler } from '../../lib/data/sampler.js'
import { synthesize } from '../../lib/data/synth.js'
import { config } from './fixtures.js'

t.setTimeout(600_000)
/** 410 is the size of INbreast. */
const COUNT = Number(process.env['MAMMO_PHANTOMS'] ?? 40)

t.test(`${COUNT} phantoms with quirks`, { timeout: 600_000 }, async (t) => {
  const root = join(t.testdir(), 'phantoms')
  const made = await synthesize({ out: root, count: COUNT, height: 416, width: 320, seed: 1, quirks: true })
  const dataset = await readDataset(root, { adapter: 'inbreast' })
  const errors = dataset.problems.filter((problem) => problem.level === 'error')
  t.same(errors, [])
  t.equal(dataset.records.length, COUNT)
  const masses = dataset.records.flatMap((record) => record.lesions.filter((lesion) => lesion.class === 'mass'))
  t.equal(masses.length, made.masses)
  t.equal(new Set(dataset.records.map((record) => record.patient)).size, made.patients)

  const { root: source, header, records } = dataset
  const out = join(root, '..', 'prepared')
  const input = { root: source, adapter: header.adapter, tool: 'test', labelRules: header.labelRules, records }
  const summary = await prepareRecords(
    { ...input, headerLine: headerLine(header) },
    { out, workers: 2, split: { method: 'kfold', folds: 5, seed: 0 } },
  )
  t.equal(summary.images, COUNT)
  t.same(summary.skipped, [])
  const crops = summary.warnings.filter((warning) => warning.rule === 'prepare/crop-extended')
  t.comment(`${crops.length} crops widened, ${(100 * summary.meanRemoved).toFixed(1)} % of the pixels removed`)
  t.ok(crops.length <= COUNT / 20)
  const set = await openPrepared(out, { verify: 'full' })
  t.equal(set.header.statistics.length, 5)
  const reader = openReader(set)
  for (const [k, fold] of set.split.folds.entries()) {
    t.same(
      findLeaks(fold, leakImagesOf(set.records)).filter((leak) => leak.level === 'error'),
      [],
    )
    const view = { classes: ['mass'], normalise: 'dataset' as const, statistics: set.header.statistics[k]! }
    const images = samplerImages(set, fold.train, view)
    const data = { ...config.data, patch: { ...config.data.patch, size: 128 } }
    const sampler = createSampler(images, { strategy: 'crops', seed: k, multiple: 128, data, augment: config.augment })
    let boxes = 0
    for await (const { targets } of loadBatches(sampler, sampler.batches(0, 4, true), reader, { epoch: 0, ahead: 4 })) {
      boxes += targets.labels.length
    }
    t.ok(boxes >= sampler.counts.positive * 0.8, `fold ${k}: ${boxes} boxes in ${sampler.length} patches`)
  }
  await reader.close()
  const report = checkDataset({ records: set.records, problems: dataset.problems, split: set.split })
  t.equal(report.exitCode, 0)
  t.equal(report.positive, made.positive)
  t.ok(report.sizesMm !== null)
  t.same(report.counts.view['FB'], 1)
})
