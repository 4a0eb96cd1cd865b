import t from 'tap'
import {
  type CheckedRecord,
  checkDataset,
  exclusionList,
  fixPlan,
  formatCheck,
  parsePlan,
} from '../../lib/data/check.js'
import type { Problem } from '../../lib/data/types.js'
import { lesion, record } from './fixtures.js'

function cached(item: CheckedRecord, sha256: string, runs: number[]): CheckedRecord {
  const tissue = { cell: 32, rows: 4, columns: 3, runs }
  const cache = {
    file: '',
    crop: [0, 0, 96, 128] as [number, number, number, number],
    sha256,
    source: '',
    instance: null,
  }
  return { ...item, cache: { ...cache, n: '1', S: '1', Q: '1', dhash: '', mirrored: '', tissue } }
}

const LEFT = [0, 1, 2, 1, 2, 1, 2, 1, 2]

t.test('counts, sizes, plan', async (t) => {
  const records = [
    record('a', {
      patient: 'p',
      density: 'B',
      spacingMm: [0.1, 0.2],
      lesions: [lesion([0, 0, 10, 20]), lesion([0, 0, 9, 9], { id: '1', class: 'calcification' })],
    }),
    record('b', { patient: 'p', laterality: 'R', biRads: '4a' }),
    record('c', { annotated: false, view: null, width: 300, height: 200 }),
  ]
  const report = checkDataset({ records, problems: [] })
  t.match(report, { images: 3, patients: 2, positive: 1, negative: 1, unannotated: 1, exitCode: 0, rules: [] })
  t.same(report.counts.view, { CC: 2, unknown: 1 })
  t.same(report.counts.side, { L: 2, R: 1 })
  t.same(report.counts.lesionClass, { calcification: 1, mass: 1 })
  t.same(report.lesionsPerImage, { 0: 1, 1: 1 })
  t.equal(report.sizesPx!.height.median, 20)
  t.ok(Math.abs(report.sizesMm!.median - 2) < 1e-12, 'sqrt(10 * 0.2 * 20 * 0.1)')
  t.match(report.plan.largestImage, { id: 'c', canvas: [256, 384], inputBytes: 256 * 384 * 4 })
  const text = formatCheck(report)
  t.match(text, /3 images of 2 patients: 1 positive, 1 negative, 1 not annotated/)
  t.match(text, /rules: nothing found/)
})

t.test('problems are counted by rule; errors fail, warnings only when strict', async (t) => {
  const problem = (level: 'error' | 'warning', rule: string, target?: string): Problem => {
    return {
      rule,
      level,
      message: `m ${rule}`,
      where: 'w',
      fix: 'f',
      ...(target === undefined ? {} : { details: { target } }),
    }
  }
  const warnings = [problem('warning', 'box/tiny', 'a#0'), problem('warning', 'box/tiny')]
  t.equal(checkDataset({ records: [], problems: warnings }).exitCode, 0)
  t.equal(checkDataset({ records: [], problems: warnings }, { strict: true }).exitCode, 3)
  const report = checkDataset({ records: [], problems: [...warnings, problem('error', 'box/empty', 'b#1')] })
  t.equal(report.exitCode, 3)
  t.match(report.rules, [
    { rule: 'box/empty', level: 'error', count: 1 },
    { rule: 'box/tiny', level: 'warning', count: 2 },
  ])
  t.same(exclusionList(report), ['b#1'], 'a tiny lesion is a lesion')
  t.same(parsePlan(fixPlan(report)), ['b#1'])
  t.match(fixPlan(report), /# look box\/tiny: m box\/tiny \(w\) -> f\n# look/)
  t.match(formatCheck(report), /error {3}box\/empty +1 {2}m box\/empty/)
})

t.test('duplicates, leaks and a breast at the wrong edge', async (t) => {
  const records = [
    cached(record('a', { patient: 'p' }), 'x', LEFT),
    cached(record('b', { patient: 'q', laterality: 'R' }), 'x', LEFT),
    cached(record('c', { patient: 'p' }), 'y', LEFT),
  ]
  const fold = { train: ['a'], val: [], test: ['b', 'c'] }
  const split = {
    schema: 'mammo-retinanet/split@1' as const,
    method: 'holdout' as const,
    seed: 0,
    ratio: null,
    folds: [fold],
    unused: [],
  }
  const report = checkDataset({ records, problems: [], split })
  t.same(report.duplicates, [['a', 'b']])
  t.same(
    report.leaks.map(({ rule }) => rule),
    ['leak/patient', 'leak/pixels'],
  )
  t.equal(report.rules.find(({ rule }) => rule === 'image/side')?.count, 1)
  t.equal(report.exitCode, 3)
})

t.test("a patient in two of the source's parts is a warning where the split mends it", async (t) => {
  const records = ['a', 'b', 'c', 'd'].map((id, n) =>
    record(id, { patient: n < 2 ? 'p' : id, split: n === 1 ? 'test' : 'train' }),
  )
  const report = checkDataset({ records, problems: [] })
  t.match(report.rules, [{ rule: 'leak/patient', level: 'warning', count: 1 }])
  t.equal(report.exitCode, 0)
})
