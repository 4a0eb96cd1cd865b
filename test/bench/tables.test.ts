// The generated tables: the documents hold what the committed result files say, and a goal is judged by its numbers. Nothing is measured here.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type AblationResults, ablationTable } from '../../bench/ablation.js'
import { allTable, judge, readAll } from '../../bench/all.js'
import { type CoverageResults, coverageText } from '../../bench/coverage.js'
import { type GrowthResults, growthText } from '../../bench/growth.js'
import { type InferResults, inferTable } from '../../bench/infer-table.js'
import { betweenMarkers, secondsText } from '../../bench/markdown.js'
import type { Summary } from '../../bench/run-side.js'
import { powerLaw } from '../../bench/statistics.js'
import { packageRoot } from '../../lib/package-root.js'

const text = (...path: string[]) => readFileSync(join(packageRoot(), ...path), 'utf8')
const results = (name: string) => join(packageRoot(), 'bench', 'results', `${name}.json`)
const measured = (name: string) => ({
  skip: !existsSync(results(name)) && `bench/results/${name}.json was not measured`,
})

t.test('README holds the table of bench/results/all.json', measured('all'), async (t) => {
  t.equal(betweenMarkers(text('README.md'), 'bench all'), allTable(readAll(results('all'))!))
})

t.test('README holds the table of bench/results/infer.json', measured('infer'), async (t) => {
  const json = readFileSync(results('infer'), 'utf8')
  t.equal(betweenMarkers(text('README.md'), 'bench infer'), inferTable(JSON.parse(json) as InferResults))
})

const inBench: [string, (json: string) => string][] = [
  ['ablation', (json) => ablationTable(JSON.parse(json) as AblationResults)],
  ['growth', (json) => growthText(JSON.parse(json) as GrowthResults)],
  ['coverage', (json) => coverageText(JSON.parse(json) as CoverageResults)],
]
for (const [name, render] of inBench) {
  t.test(`bench/README.md holds the table of bench/results/${name}.json`, measured(name), async (t) => {
    const json = readFileSync(results(name), 'utf8')
    t.equal(betweenMarkers(text('bench', 'README.md'), `bench ${name}`), render(json))
  })
}

const summary = (medianSeconds: number, peakBytes: number): Summary => ({
  ...{ medianSeconds, minSeconds: medianSeconds, maxSeconds: medianSeconds, runs: 1, peakBytes, baseBytes: 100 },
  extra: { waiting: 2 },
})

t.test('a goal compares with the side that it names', async (t) => {
  const ours = summary(1, 200)
  const peers = { shipped: summary(1.6, 400), kept: { failed: 'out of memory' } }
  const faster = (than: 'shipped' | 'kept', atLeast: number) => judge({ kind: 'faster', than, atLeast }, ours, peers)
  t.equal(faster('shipped', 1.6).reached, true)
  t.equal(faster('shipped', 1.61).reached, false)
  t.equal(faster('kept', 1).reached, undefined, 'nothing to compare with')
  t.equal(judge({ kind: 'memory', of: 'shipped', atMost: 0.34 }, ours, peers).reached, true)
  t.equal(judge({ kind: 'memory', of: 'shipped', atMost: 0.33 }, ours, peers).reached, false)
  t.equal(judge({ kind: 'peak', atMostBytes: 199 }, ours, peers).reached, false)
  t.equal(judge({ kind: 'seconds', below: 1 }, ours, peers).reached, false)
  t.equal(judge({ kind: 'number', of: 'waiting', below: 3, unit: '%' }, ours, peers).reached, true)
  t.equal(judge({ kind: 'seconds', below: 1 }, { failed: 'out of memory' }, peers).reached, false)
})

t.test('the exponent of a power law', async (t) => {
  const { exponent, steepest } = powerLaw([1, 2, 4, 8], [3, 6, 12, 24])
  t.ok(Math.abs(exponent - 1) < 1e-12)
  t.ok(Math.abs(steepest - 1) < 1e-12)
  t.ok(powerLaw([1, 2, 4], [1, 4, 16]).exponent > 1.99)
  t.equal(powerLaw([1, 2, 4], [1, 1, 4]).steepest, 2)
})

t.test('seconds with three digits', async (t) => {
  t.same([1.055e-7, 7.1e-4, 0.0184, 0.999, 8.4, 130.04].map(secondsText), [
    '0.105 us',
    '710 us',
    '18.4 ms',
    '999 ms',
    '8.40 s',
    '130 s',
  ])
})
