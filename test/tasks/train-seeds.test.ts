import { existsSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import t from 'tap'
import { defaultConfig } from '../../lib/config/load.js'
import type { Config } from '../../lib/config/schema.js'
import type { TrainOptions, TrainResult } from '../../lib/tasks/train.js'
import { describeSeeds, trainSeeds } from '../../lib/tasks/train-seeds.js'

function configIn(root: string): Config {
  const config = structuredClone(defaultConfig())
  config.run.root = root
  return config
}

const ended = (value: number): TrainResult => ({
  ...{ directory: '', status: 'finished', stopped: null, skipped: 0, step: 4 },
  best: { metric: 'val/AP50', value, epoch: 1, step: 2 },
  final: { epoch: 2, 'val/AP50': value / 2, 'val/AP': Number.NaN },
})

t.test('one run per seed under one folder, and their mean', async (t) => {
  const root = t.testdir()
  const seen: [number, string, TrainOptions][] = []
  const result = await trainSeeds(configIn(root), [3, 0, 7], {
    name: 'x',
    runner: async (config, options) => {
      seen.push([config.run.seed, config.run.root, options])
      return ended(0.1 * seen.length)
    },
  })
  t.equal(result.directory, join(root, 'seeds', 'x-1'))
  t.strictSame(
    seen.map(([seed, at, o]) => [seed, at, o.command, o.name]),
    [3, 0, 7].map((seed) => [seed, join(root, 'seeds'), basename(result.directory), `seed${seed}`]),
  )
  t.ok(Math.abs(result.best.mean! - 0.2) < 1e-12)
  t.ok(Math.abs(result.best.deviation! - 0.1) < 1e-12)
  t.ok(Math.abs(result.last['val/AP50']!.mean! - 0.1) < 1e-12)
  t.equal(result.last['val/AP']!.n, 0, 'undefined numbers are left out')
  t.notOk('epoch' in result.last)
  t.match(JSON.parse(readFileSync(join(result.directory, 'results.json'), 'utf8')), { runs: [{ seed: 3 }, {}, {}] })
  t.match(
    describeSeeds(result)[0],
    /val\/AP50: 0\.2000, deviation 0\.1000, 95 % interval -0\.0484 to 0\.4484 \(3 runs\)/,
  )
})

t.test('an interrupted run ends the series; one whose time is over does not', async (t) => {
  const run = async (stopped: string) => {
    let count = 0
    const runner = async (): Promise<TrainResult> => ({ ...ended(++count), status: 'interrupted', stopped })
    const { status, runs } = await trainSeeds(configIn(t.testdir()), [1, 2], { runner })
    return [status, runs.length]
  }
  t.strictSame(await run('SIGINT'), ['interrupted', 1])
  t.strictSame(await run('time'), ['finished', 2])
})

t.test('bad seeds', async (t) => {
  const config = configIn(t.testdir())
  for (const seeds of [[], [1, 1], [-1], [1.5]]) {
    await t.rejects(trainSeeds(config, seeds, { runner: async () => ended(1) }), { code: 'ERR_MAMMO_ARGUMENT' })
  }
  t.notOk(existsSync(join(config.run.root, 'seeds')))
})
