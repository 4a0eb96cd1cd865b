// Runs the trials of a plan, any number at a time, and ranks the settings. Every finished trial leaves one small file, so that a killed
// sweep goes on where it was, shards of one plan can run anywhere and be merged, and ranking needs no training. How a trial trains is
// handed in. Validation numbers only: the test part never takes part.
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'csv-stringify/sync'
import { writeFileAtomic } from '../atomic-write.js'
import { UsageError } from '../errors.js'
import { type MeanEstimate, meanInterval } from './mean.js'
import { SELECTIONS, type Selection, type SweepPlan, type Trial } from './sweep-spec.js'

/** A trial to train up to the end of one round. */
export interface Job {
  trial: Trial
  rung: number
  /** null: as configured. */
  epochs: number | null
  /** Folder of the trial; the runner keeps its run in it and goes on with it. */
  folder: string
}

/** What is left of a trial's round. */
export interface Outcome {
  status: 'finished' | 'failed'
  /** Why it failed. */
  message?: string
  /** Run folder, relative to the sweep. */
  run: string
  /** Rows of results.csv: epoch and the val columns; null where not measured. */
  history: Record<string, number | null>[]
}

/** Trains a job to its end, going on with what the folder holds. Rejects when the trial has to be tried again (interrupted, no memory). */
export type TrialRunner = (job: Job, signal: AbortSignal) => Promise<Outcome>

export interface Shard {
  /** 1..count */
  index: number
  count: number
}

/** Outcomes by trial index, of each round. */
export type Outcomes = ReadonlyMap<number, Outcome>[]

export interface RunSweepOptions {
  folder: string
  run: TrialRunner
  /** Trials at a time. */
  jobs?: number
  shard?: Shard
  signal?: AbortSignal
  onTrial?: (job: Job, outcome: Outcome | 'started') => void
}

export interface SweepState {
  outcomes: Outcomes
  /** Trials of the current round that no one has finished; empty when the sweep is complete. */
  missing: Trial[]
}

const SCHEMA = 'mammo-retinanet/sweep@1'

/** Makes the folder of a sweep, or checks that it holds this plan. Throws UsageError RUN_EXISTS for another plan. */
export async function openSweep(folder: string, plan: SweepPlan): Promise<void> {
  const path = join(folder, 'sweep.json')
  if (existsSync(path)) await checkIdentity(folder, plan)
  await writeFileAtomic(path, `${JSON.stringify({ schema: SCHEMA, hash: plan.hash, spec: plan.spec }, null, 1)}\n`)
}

async function checkIdentity(folder: string, plan: SweepPlan): Promise<void> {
  const path = join(folder, 'sweep.json')
  const text = await readFile(path, 'utf8').catch(() => '{}')
  if ((JSON.parse(text) as { hash?: string }).hash === plan.hash) return
  throw new UsageError('RUN_EXISTS', 'expected a folder of this sweep, it holds another one (or none)', {
    where: path,
    fix: 'choose another --out or name, or run with the specification that the folder was made with',
  })
}

/** Trains what is missing, round after round, until the sweep is complete or only other shards' trials are missing. */
export async function runSweep(plan: SweepPlan, options: RunSweepOptions): Promise<SweepState> {
  const { folder, shard } = options
  await openSweep(folder, plan)
  for (;;) {
    const state = await readSweep(plan, folder)
    const own = state.missing.filter((t) => shard === undefined || t.index % shard.count === shard.index - 1)
    if (own.length === 0) return state
    const rung = state.outcomes.length - 1
    await runAll(
      own.map((trial) => ({ trial, rung, epochs: plan.rungs[rung]!, folder: trialFolder(folder, trial) })),
      options,
    )
  }
}

/** Works through the jobs in order. After the first rejection no job starts and those under way are asked to stop; then it rejects. */
async function runAll(jobs: readonly Job[], options: RunSweepOptions): Promise<void> {
  const abort = new AbortController()
  const signal = options.signal === undefined ? abort.signal : AbortSignal.any([abort.signal, options.signal])
  const waiting = [...jobs]
  const lane = async () => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      signal.throwIfAborted()
      options.onTrial?.(job, 'started')
      const outcome = await options.run(job, signal)
      await writeFileAtomic(rungFile(job.folder, job.rung), `${JSON.stringify(outcome)}\n`)
      options.onTrial?.(job, outcome)
    }
  }
  const lanes = Array.from({ length: Math.min(options.jobs ?? 1, jobs.length) }, () =>
    lane().catch((error: unknown) => {
      waiting.length = 0
      abort.abort(error)
      throw error
    }),
  )
  const failed = (await Promise.allSettled(lanes)).find((end) => end.status === 'rejected')
  if (failed !== undefined) throw abort.signal.reason
}

export function trialFolder(sweep: string, trial: Trial): string {
  return join(sweep, 'trials', String(trial.index).padStart(4, '0'))
}

function rungFile(folder: string, rung: number): string {
  return join(folder, `round-${rung + 1}.json`)
}

/** What the folder holds so far. */
export async function readSweep(plan: SweepPlan, folder: string): Promise<SweepState> {
  const outcomes: Map<number, Outcome>[] = []
  let alive = plan.trials
  for (let rung = 0; rung < plan.rungs.length; rung++) {
    const found = new Map<number, Outcome>()
    for (const trial of alive) {
      const path = rungFile(trialFolder(folder, trial), rung)
      if (existsSync(path)) found.set(trial.index, JSON.parse(await readFile(path, 'utf8')) as Outcome)
    }
    outcomes.push(found)
    const missing = alive.filter((trial) => !found.has(trial.index))
    if (missing.length > 0) return { outcomes, missing }
    alive = survivors(plan, alive, found)
  }
  return { outcomes, missing: [] }
}

/** Trials of the best 1/eta of the settings (at least one): those that the next round trains on. */
function survivors(plan: SweepPlan, alive: readonly Trial[], outcomes: ReadonlyMap<number, Outcome>): readonly Trial[] {
  const eta = plan.spec.halving?.eta ?? 1
  const settings = [...new Set(alive.map((trial) => trial.setting))]
  const value = new Map(settings.map((s) => [s, settingValue(plan, s, alive, outcomes).mean]))
  const order = settings.toSorted((a, b) => better(plan.spec.rankBy, value.get(a)!, value.get(b)!) || a - b)
  const kept = new Set(order.slice(0, Math.max(1, Math.floor(settings.length / eta))))
  return alive.filter((trial) => kept.has(trial.setting))
}

/** Copies the outcomes of other folders of the same plan (shards that ran elsewhere). Resolves to the number of outcomes copied. */
export async function mergeSweeps(plan: SweepPlan, folder: string, others: readonly string[]): Promise<number> {
  await openSweep(folder, plan)
  let copied = 0
  for (const other of others) {
    await checkIdentity(other, plan)
    for (const trial of plan.trials) {
      const [from, to] = [trialFolder(other, trial), trialFolder(folder, trial)]
      if (!existsSync(from)) continue
      for (const name of (await readdir(from)).filter((file) => /^round-\d+\.json$/.test(file))) {
        if (existsSync(join(to, name))) continue
        await writeFileAtomic(join(to, name), await readFile(join(from, name)))
        copied++
      }
    }
  }
  return copied
}

/** The best epoch, the last, and the mean of the last ten evaluated epochs of one column. */
export interface Summary {
  best: number | null
  bestEpoch: number | null
  last: number | null
  mean10: number | null
}

export function lowerIsBetter(column: string): boolean {
  return /loss/.test(column)
}

/** Summary of a history; undefined epochs are left out, of equal ones the first is best. */
export function summarise(history: readonly Record<string, number | null>[], column: string): Summary {
  const rows = history.filter((row) => typeof row[column] === 'number' && Number.isFinite(row[column]))
  if (rows.length === 0) return { best: null, bestEpoch: null, last: null, mean10: null }
  const values = rows.map((row) => row[column]!)
  const top = lowerIsBetter(column) ? Math.min(...values) : Math.max(...values)
  const last = values.slice(-10)
  return {
    best: top,
    bestEpoch: rows[values.indexOf(top)]!['epoch'] ?? null,
    last: last.at(-1)!,
    mean10: last.reduce((sum, value) => sum + value, 0) / last.length,
  }
}

function settingValue(
  { spec }: SweepPlan,
  setting: number,
  trials: readonly Trial[],
  outcomes: ReadonlyMap<number, Outcome>,
): MeanEstimate {
  const own = trials.filter((trial) => trial.setting === setting)
  const values = own.map((trial) => {
    const outcome = outcomes.get(trial.index)
    return outcome?.status === 'finished' ? summarise(outcome.history, spec.rankBy)[spec.select] : null
  })
  const estimate = meanInterval(values)
  // A setting that fails with one of its seeds is not as good as its other seeds.
  return estimate.n < own.length ? { ...estimate, mean: null, interval: null } : estimate
}

/** Order of two values, best first, undefined last. */
function better(column: string, a: number | null, b: number | null): number {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1
  return lowerIsBetter(column) ? a - b : b - a
}

export interface RankedSetting {
  /** From 1; null while the setting's trials are not complete. */
  rank: number | null
  setting: number
  labels: Record<string, string>
  /** Round that the setting reached, from 1. */
  round: number
  /** Over seeds. */
  value: MeanEstimate
  failed: number
  trials: { trial: Trial; outcome: Outcome | null; summary: Summary }[]
}

/** Settings from best to worst: those that reached a later round first, then by value. */
export function rankSettings(plan: SweepPlan, { outcomes }: SweepState): RankedSetting[] {
  const settings = [...new Set(plan.trials.map((trial) => trial.setting))].map((setting) => {
    const own = plan.trials.filter((trial) => trial.setting === setting)
    const reached = outcomes.findLastIndex((found) => own.some((trial) => found.has(trial.index)))
    const found = outcomes[Math.max(0, reached)]!
    const trials = own.map((trial) => {
      const outcome = found.get(trial.index) ?? null
      return { trial, outcome, summary: summarise(outcome?.history ?? [], plan.spec.rankBy) }
    })
    return {
      ...{ rank: null, setting, labels: own[0]!.labels, round: reached + 1, trials },
      value: settingValue(plan, setting, own, found),
      failed: trials.filter(({ outcome }) => outcome?.status === 'failed').length,
    }
  })
  const complete = (s: RankedSetting) => s.trials.every(({ outcome }) => outcome !== null)
  const order = settings.toSorted(
    (a, b) =>
      Number(complete(b)) - Number(complete(a)) ||
      b.round - a.round ||
      better(plan.spec.rankBy, a.value.mean, b.value.mean) ||
      a.setting - b.setting,
  )
  return order.map((setting, i) => ({ ...setting, rank: complete(setting) ? i + 1 : null }))
}

/** sweep.csv: one row per trial, settings from best to worst. Equal outcomes give equal bytes. */
export function sweepCsv(plan: SweepPlan, ranked: readonly RankedSetting[]): string {
  const columns = ['rank', 'setting', 'trial', 'seed', 'round', 'epochs', 'status', ...plan.axes]
  const numbers = [...SELECTIONS.slice(0, 1), 'bestEpoch', ...SELECTIONS.slice(1)] as (Selection | 'bestEpoch')[]
  const head = [...columns, ...numbers, 'mean', 'low', 'high', 'run']
  const rows = ranked.flatMap(({ rank, setting, labels, round, value, trials }) =>
    trials.map(({ trial, outcome, summary }) => [
      ...[rank, setting, trial.index, trial.seed, round, outcome?.history.length ?? null, outcome?.status ?? 'missing'],
      ...plan.axes.map((axis) => labels[axis]!),
      ...numbers.map((name) => summary[name]),
      ...[value.mean, value.interval?.[0] ?? null, value.interval?.[1] ?? null, outcome?.run ?? ''],
    ]),
  )
  return stringify([head, ...rows], { cast: { number: (value) => String(Number(value.toPrecision(6))) } })
}
