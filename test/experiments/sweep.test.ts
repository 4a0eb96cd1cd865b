// Sweeps with a trial runner that trains nothing: plans, refusals, killing and going on, shards and merging, halving, ranking.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { loadConfig } from '../../lib/config/load.js'
import { studies } from '../../lib/experiments/studies.js'
import {
  type Job,
  mergeSweeps,
  type Outcome,
  rankSettings,
  readSweep,
  runSweep,
  summarise,
  sweepCsv,
} from '../../lib/experiments/sweep.js'
import { checkSpec, parseSpec, planSweep, type SweepSpecInput } from '../../lib/experiments/sweep-spec.js'

const plan = (spec: Partial<SweepSpecInput>) =>
  planSweep(checkSpec({ name: 'x', space: { 'loss.gamma': [1, 2, 3, 4, 5, 6] }, ...spec }))

/** AP50 grows with gamma and a little with the seed, and with the epochs. */
const train =
  (seen: string[] = []) =>
  async ({ trial, epochs }: Job): Promise<Outcome> => {
    seen.push(`${trial.index}:${epochs}`)
    const gamma = trial.set['loss.gamma'] as number
    const history = Array.from({ length: epochs ?? 3 }, (_, e) => ({
      epoch: e + 1,
      'val/AP50': (gamma * 10 + trial.seed) / 1000 + e / 10_000,
      'val/loss': 10 - gamma,
    }))
    return { status: 'finished', run: `trials/${trial.index}`, history }
  }

t.test('plan: settings times seeds; what is refused', async (t) => {
  const { trials } = plan({ seeds: [0, 7], set: { 'train.lr': 1 } })
  t.equal(trials.length, 12)
  t.same(trials[3]!.set, { 'train.lr': 1, 'loss.gamma': 2, 'run.seed': 7 })
  t.same(plan({}).hash, plan({ rankBy: 'val/AP', select: 'last' }).hash, 'ranking is no part of the work')
  t.not(plan({}).hash, plan({ seeds: [1] }).hash)
  for (const bad of [
    { rankBy: 'test/AP50' },
    { set: { 'evaluate.split': 'test' } },
    { space: { 'data.root': ['a', 'b'] } },
    { arms: { a: { 'data.fold': 1 } } },
    { method: 'random' as const },
    { method: 'halving' as const },
    { space: {} },
  ])
    t.throws(() => plan(bad), { code: 'ERR_MAMMO_ARGUMENT' }, JSON.stringify(bad))
  t.throws(() => parseSpec('name: x\nspaec: {}\n', 'f.yaml'), { code: 'ERR_MAMMO_CONFIG' })
})

t.test('the studies are plans whose every trial is a valid configuration', async (t) => {
  for (const [name, study] of Object.entries(studies)) {
    const { trials, spec } = planSweep(checkSpec(study))
    t.ok(trials.length >= 6, name)
    for (const trial of trials) await loadConfig({ preset: spec.base!, set: trial.set })
  }
})

t.test('a killed sweep goes on where it was', async (t) => {
  const root = t.testdir()
  const folder = join(root, 'killed')
  const work = plan({})
  const seen: string[] = []
  const killed = runSweep(work, {
    folder,
    run: async (job) => {
      if (job.trial.index === 3) throw new Error('killed')
      return train(seen)(job)
    },
  })
  await t.rejects(killed, { message: 'killed' })
  t.same(seen, ['0:null', '1:null', '2:null'])
  const state = await runSweep(work, { folder, run: train(seen), jobs: 2 })
  t.same(state.missing, [])
  t.same(seen.slice(3), ['3:null', '4:null', '5:null'], 'nothing is trained twice')
  const other = await runSweep(work, { folder: join(root, 'whole'), run: train() })
  t.equal(sweepCsv(work, rankSettings(work, state)), sweepCsv(work, rankSettings(work, other)))
  await t.rejects(runSweep(plan({ seeds: [4] }), { folder, run: train() }), { code: 'ERR_MAMMO_RUN_EXISTS' })
})

t.test('shards that ran elsewhere, merged, equal the whole', async (t) => {
  const root = t.testdir()
  const work = plan({ seeds: [0, 1] })
  const whole = await runSweep(work, { folder: join(root, 'whole'), run: train() })
  const shards = [1, 2, 3].map((index) => ({ index, count: 3 }))
  const seen: string[] = []
  for (const shard of shards) await runSweep(work, { folder: join(root, `s${shard.index}`), run: train(seen), shard })
  t.equal(seen.length, 12)
  const first = await readSweep(work, join(root, 's1'))
  t.equal(first.missing.length, 8)
  t.equal(rankSettings(work, first)[0]!.rank, null, 'a setting without all its seeds has no rank')
  const folders = shards.map(({ index }) => join(root, `s${index}`))
  t.equal(await mergeSweeps(work, join(root, 'all'), folders), 12)
  const merged = await readSweep(work, join(root, 'all'))
  t.equal(sweepCsv(work, rankSettings(work, merged)), sweepCsv(work, rankSettings(work, whole)))
})

t.test('halving: a third goes on, three times as long; shards wait for each other', async (t) => {
  const root = t.testdir()
  const work = plan({
    space: { 'loss.gamma': [1, 2, 3, 4, 5, 6, 7, 8, 9] },
    method: 'halving',
    halving: { eta: 3, minEpochs: 1, maxEpochs: 9 },
  })
  t.same(work.rungs, [1, 3, 9])
  const seen: string[] = []
  const state = await runSweep(work, { folder: join(root, 'a'), run: train(seen) })
  t.same(seen.slice(9).toSorted(), ['6:3', '7:3', '8:3', '8:9'])
  const ranked = rankSettings(work, state)
  t.same(
    ranked.map(({ labels }) => labels['loss.gamma']),
    ['9', '8', '7', '6', '5', '4', '3', '2', '1'],
  )
  t.same(
    ranked.map(({ round }) => round),
    [3, 2, 2, 1, 1, 1, 1, 1, 1],
  )
  const folder = join(root, 'shards')
  const one = { folder, run: train(), shard: { index: 1, count: 2 } }
  t.equal((await runSweep(work, one)).missing.length, 4, 'round 1 waits for the other shard')
  for (let turn = 0; turn < 3; turn++)
    for (const index of [2, 1]) await runSweep(work, { ...one, shard: { index, count: 2 } })
  t.equal(sweepCsv(work, rankSettings(work, await readSweep(work, folder))), sweepCsv(work, ranked))
})

t.test('ranking: loss upside down, failures last, seeds with an interval', async (t) => {
  const root = t.testdir()
  const work = plan({ seeds: [0, 10], rankBy: 'val/loss' })
  const state = await runSweep(work, {
    folder: root,
    run: async (job) =>
      job.trial.index === 11 ? { status: 'failed', message: 'NaN', run: '', history: [] } : train()(job),
  })
  const ranked = rankSettings(work, state)
  t.equal(ranked[0]!.labels['loss.gamma'], '5', 'gamma 6 has the lowest loss, but a seed failed')
  t.equal(ranked.at(-1)!.failed, 1)
  const byAp = rankSettings(plan({ seeds: [0, 10] }), state)[0]!
  t.ok(Math.abs(byAp.value.mean! - 0.0552) < 1e-12, String(byAp.value.mean))
  t.equal(byAp.value.n, 2)
  t.match(await readFile(join(root, 'sweep.json'), 'utf8'), '"hash"')
})

t.test('best, last and the mean of the last ten; undefined epochs are left out', async (t) => {
  const history = Array.from({ length: 15 }, (_, i) => ({ epoch: i + 1, a: i === 7 ? null : i === 3 ? 99 : i }))
  t.same(summarise(history, 'a'), {
    best: 99,
    bestEpoch: 4,
    last: 14,
    mean10: (4 + 5 + 6 + 8 + 9 + 10 + 11 + 12 + 13 + 14) / 10,
  })
  t.same(summarise([], 'a'), { best: null, bestEpoch: null, last: null, mean10: null })
})
