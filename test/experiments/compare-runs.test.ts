// Runs beside each other: differences, tables, groups, warnings.
import t from 'tap'
import { defaultConfig } from '../../lib/config/load.js'
import {
  type ComparedRun,
  comparisonWarnings,
  configDifferences,
  environmentDifferences,
  FROC_SCORE,
  groupHistories,
  groupLines,
  metricLines,
} from '../../lib/experiments/compare-runs.js'

function run(name: string, gamma: number, values: number[], change: Partial<ComparedRun> = {}): ComparedRun {
  const config = defaultConfig()
  config.loss.gamma = gamma
  config.run.name = name
  const history = values.map((v, i) => ({ epoch: i + 1, 'val/AP50': v, 'val/sens@1': v, 'val/sens@2': v + 0.2 }))
  return {
    name,
    status: 'finished',
    config,
    history,
    environment: null,
    splitHash: 'abcdef0123',
    fold: null,
    images: 4,
    masses: 3,
    ...change,
  }
}
const runs = [run('a', 2, [0.1, 0.3, 0.2]), run('b', 5, [0.2, 0.4]), run('c', 5, [0.4, Number.NaN, 0.6])]

t.test('what differs, without names and places', async (t) => {
  t.same(configDifferences(runs), [{ key: 'loss.gamma', values: ['2', '5', '5'] }])
})

t.test('what differs between the machines, by entry', async (t) => {
  const at = (node: string, threads: number) => ({
    host: { node, flags: ['avx2'] },
    devices: [{ name: 'cpu', threads }],
  })
  const machines = [run('a', 2, [], { environment: at('v20', 1) }), run('b', 2, [], { environment: at('v20', 2) })]
  t.same(environmentDifferences(machines), [{ key: 'devices.0.threads', values: ['1', '2'] }])
  const unknown = environmentDifferences([machines[0]!, run('c', 2, [])])
  t.match(unknown[0], { key: 'host.node', values: ['v20', 'not set'] })
  t.same(environmentDifferences(runs), [])
})

t.test('best, last and late numbers with split and masses', async (t) => {
  const [a] = metricLines(runs, ['val/AP50', FROC_SCORE], ['loss.gamma'])
  t.match(a, {
    run: 'a',
    group: 'loss.gamma 2',
    best: 0.3,
    bestEpoch: 2,
    last: 0.2,
    split: 'abcdef01',
    images: 4,
    masses: 3,
  })
  t.ok(Math.abs(a!.mean10! - 0.2) < 1e-12)
  const froc = metricLines(runs, [FROC_SCORE])[0]!
  t.ok(Math.abs(froc.best! - 0.4) < 1e-12)
})

t.test('groups: repeats together, the mean where all have a value', async (t) => {
  const [two, five] = groupHistories(runs, 'val/AP50', ['loss.gamma'])
  t.same(two!.mean, { x: [1, 2, 3], y: [0.1, 0.3, 0.2] })
  t.same(
    five!.runs.map(({ name }) => name),
    ['b', 'c'],
  )
  t.same(five!.mean.x, [1])
  t.ok(Math.abs(five!.mean.y[0]! - 0.3) < 1e-12)
  t.same(
    groupHistories(runs, 'val/AP50', []).map(({ group }) => group),
    ['a', 'b', 'c'],
  )
  t.throws(() => groupHistories(runs, 'val/AP50', ['loss.gama']), { code: 'ERR_MAMMO_ARGUMENT' })
})

t.test('warnings', async (t) => {
  t.same(comparisonWarnings(runs), [])
  t.match(comparisonWarnings([runs[0]!, run('d', 2, [], { splitHash: 'other' })]), [/^The splits differ/])
  t.match(comparisonWarnings([runs[0]!, run('d', 2, [], { fold: 1 })]), [/^The folds differ/])
  t.match(comparisonWarnings([runs[0]!, run('d', 2, [], { status: 'interrupted' })]), [/d \(interrupted\)/])
})

t.test('means over repeats', async (t) => {
  const [two, five] = groupLines(metricLines(runs, ['val/AP50'], ['loss.gamma']))
  t.match(two, { group: 'loss.gamma 2', best: { n: 1, mean: 0.3, interval: null } })
  t.equal(five!.best.n, 2)
  t.ok(Math.abs(five!.best.mean! - 0.5) < 1e-12)
})
