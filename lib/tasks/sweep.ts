// `sweep`: trains the trials of a specification or of a study, each in a process of its own, and ranks them. The search, its order and its
// files are lib/experiments/sweep.ts; here a trial becomes a configuration, a prepared folder and a `train` process.
import { spawn } from 'node:child_process'
import { createWriteStream, existsSync } from 'node:fs'
import { mkdir, readdir, readFile, symlink } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import { stringify } from 'yaml'
import { writeFileAtomic } from '../atomic-write.js'
import { loadConfig } from '../config/load.js'
import type { Config } from '../config/schema.js'
import { openPrepared, splitImagesOf, writeSplit } from '../data/prepared.js'
import { splitImages } from '../data/split.js'
import { DeviceError, UsageError } from '../errors.js'
import { studies } from '../experiments/studies.js'
import {
  type Job,
  mergeSweeps,
  type Outcome,
  type RankedSetting,
  rankSettings,
  readSweep,
  runSweep,
  type Shard,
  sweepCsv,
  type TrialRunner,
} from '../experiments/sweep.js'
import {
  checkSpec,
  type Method,
  parseSpec,
  planSweep,
  type Selection,
  type SweepPlan,
  type SweepSpec,
  type Trial,
} from '../experiments/sweep-spec.js'
import { packageRoot } from '../package-root.js'
import { engineThreads } from '../train/environment.js'
import { parseResults } from '../train/results.js'
import { readRunRecord } from '../train/run-folder.js'

export type { Shard } from '../experiments/sweep.js'
export { METHODS, SELECTIONS } from '../experiments/sweep-spec.js'

export interface SweepTaskOptions {
  /** Keys that every trial changes, beyond those of the specification. */
  set?: Record<string, unknown>
  /** Configuration file that every trial starts from; wins over the preset of the specification. */
  file?: string
  method?: Method
  trials?: number
  seeds?: number[]
  rankBy?: string
  select?: Selection
  /** Trials at a time; each gets its share of the threads. */
  jobs?: number
  shard?: Shard
  /** Folder of the sweep; default `runs/sweep/NAME`. The same command goes on with it. */
  out?: string
  /** Folders of shards that ran elsewhere: their results are copied in. Nothing is trained then. */
  merge?: readonly string[]
  /** Stops the trials with their checkpoints. */
  signal?: AbortSignal
  onLine?: (line: string) => void
  /** Trains a trial; default a `train` process. */
  run?: TrialRunner
}

export interface SweepResult {
  directory: string
  csv: string
  plan: SweepPlan
  ranked: RankedSetting[]
  /** Trials that no shard has finished. */
  missing: number
  warnings: string[]
}

/** Names and questions of the studies that come with the package. */
export function listStudies(): { name: string; about: string }[] {
  return Object.entries(studies).map(([name, { about }]) => ({ name, about: about ?? '' }))
}

/**
 * Runs a specification file or a study until it is complete, or until its shard is. Rejects with ConfigError or UsageError before anything
 * is trained when the specification or a trial's configuration is wrong.
 */
export async function sweep(target: string, options: SweepTaskOptions = {}): Promise<SweepResult> {
  const plan = planSweep(await specOf(target, options))
  const configs = await trialConfigs(plan, options)
  const root = configs.values().next().value!.run.root
  const directory = resolve(options.out ?? join(root, 'sweep', plan.spec.name))
  const say = options.onLine ?? (() => undefined)
  const warnings = warningsOf(plan, configs)
  for (const warning of warnings) say(`warning: ${warning}`)
  if (options.merge !== undefined) {
    say(`${await mergeSweeps(plan, directory, options.merge)} results copied`)
  } else {
    const { jobs, shard, signal } = options
    await runSweep(plan, {
      folder: directory,
      run: options.run ?? trainProcess(plan, configs, directory, jobs ?? 1),
      ...(jobs === undefined ? {} : { jobs }),
      ...(shard === undefined ? {} : { shard }),
      ...(signal === undefined ? {} : { signal }),
      onTrial: (job, outcome) => say(trialLine(plan, job, outcome)),
    })
  }
  const state = await readSweep(plan, directory)
  const ranked = rankSettings(plan, state)
  const csv = join(directory, 'sweep.csv')
  await writeFileAtomic(csv, sweepCsv(plan, ranked))
  return { directory, csv, plan, ranked, missing: state.missing.length, warnings }
}

async function specOf(target: string, options: SweepTaskOptions): Promise<SweepSpec> {
  const file = existsSync(target)
  if (!file && studies[target] === undefined) {
    throw new UsageError('ARGUMENT', `expected a YAML file or a study, got ${target}`, {
      fix: `studies: ${Object.keys(studies).join(', ')}`,
    })
  }
  const spec = file ? parseSpec(await readFile(target, 'utf8'), target) : checkSpec(studies[target], target)
  const { method, trials, seeds, rankBy, select } = options
  return {
    ...spec,
    ...(method === undefined ? {} : { method }),
    ...(trials === undefined ? {} : { trials }),
    ...(seeds === undefined ? {} : { seeds }),
    ...(rankBy === undefined ? {} : { rankBy }),
    ...(select === undefined ? {} : { select }),
    base: options.file === undefined ? spec.base : null,
    // Parsed here, so that 5 and "5" name the same sweep.
    set: { ...spec.set, ...options.set },
  }
}

/** The configuration of every trial, checked before the first one starts. */
async function trialConfigs(plan: SweepPlan, options: SweepTaskOptions): Promise<Map<number, Config>> {
  const configs = new Map<number, Config>()
  for (const trial of plan.trials) {
    const { config } = await loadConfig({
      ...(options.file === undefined ? {} : { file: options.file }),
      ...(plan.spec.base === null ? {} : { preset: plan.spec.base }),
      set: trial.set,
    })
    if (config.data.root === null) {
      throw new UsageError('ARGUMENT', 'expected a prepared folder for the trials, data.root is null', {
        fix: 'add --set data.root=FOLDER, or data.root under `set` of the specification',
      })
    }
    if (config.evaluate.split === 'test') {
      throw new UsageError('ARGUMENT', 'a sweep never ranks on the test part, got evaluate.split=test')
    }
    if (plan.spec.method === 'halving' && config.train.phases !== null) {
      throw new UsageError('ARGUMENT', 'method halving trains by train.epochs, got train.phases', {
        fix: 'use grid, random or sobol for recipes of several phases',
      })
    }
    config.data.root = resolve(config.data.root)
    if (config.model.weights !== null) config.model.weights = resolve(config.model.weights)
    configs.set(trial.index, config)
  }
  return configs
}

function warningsOf(plan: SweepPlan, configs: ReadonlyMap<number, Config>): string[] {
  const warnings: string[] = []
  if (plan.spec.seeds.length < 2) {
    warnings.push('one seed per setting: differences between settings may be differences between seeds')
  }
  if (Object.keys(plan.spec.splitRatios).length > 0) {
    warnings.push(
      'settings with other split ratios are scored on other images: their numbers differ for that reason too',
    )
  }
  if ([...configs.values()].some((config) => config.evaluate.split === 'train')) {
    warnings.push('evaluate.split is train: settings are ranked on the images that they were trained on')
  }
  return warnings
}

function trialLine(plan: SweepPlan, { trial, epochs }: Job, outcome: Outcome | 'started'): string {
  const labels = plan.axes.map((axis) => `${axis} ${trial.labels[axis]}`).join(', ')
  const name = `trial ${trial.index + 1}/${plan.trials.length}: ${labels}, seed ${trial.seed}${epochs === null ? '' : `, ${epochs} epochs`}`
  if (outcome === 'started') return name
  return `${name}: ${outcome.status}${outcome.message === undefined ? '' : ` (${outcome.message})`}`
}

/** Trains trials with `train` in child processes. */
function trainProcess(
  plan: SweepPlan,
  configs: ReadonlyMap<number, Config>,
  directory: string,
  jobs: number,
): TrialRunner {
  return async (job, signal) => {
    const config = structuredClone(configs.get(job.trial.index)!)
    config.run.root = job.folder
    if (jobs > 1 && config.run.threads === null) {
      config.run.threads = Math.max(1, Math.floor(engineThreads(null).count / jobs))
    }
    if (job.epochs !== null) config.train.epochs = job.epochs
    if (job.trial.splitRatio !== null) {
      config.data.root = await splitFolder(directory, config.data.root!, job.trial, plan.spec.splitSeed)
    }
    const run = await newestRun(join(job.folder, 'train'))
    const status = run === null ? null : (await readRunRecord(run)).status
    // A round that was trained and not recorded, because the process ended between the two, is not trained again.
    const done = status === 'finished' && (await epochsOf(run!)) >= (job.epochs ?? 0)
    if (!done) {
      const goesOn = run !== null && existsSync(join(run, 'checkpoints', 'last.safetensors'))
      const file = join(job.folder, 'trial.yaml')
      await writeFileAtomic(file, stringify(config, { lineWidth: 0 }))
      const epochs = job.epochs === null ? [] : ['--set', `train.epochs=${job.epochs}`]
      const args = goesOn ? ['--resume', run, ...epochs] : ['--config', file, '--name', 'run']
      const code = await trainChild([...args, '--no-build'], join(job.folder, 'log.txt'), signal)
      signal.throwIfAborted()
      if (code === 5) return { status: 'failed', message: 'numbers were not finite', ...(await result(job, directory)) }
      if (code !== 0) {
        throw new DeviceError('WORKER_LOST', `trial ${job.trial.index} ended with exit code ${code}`, {
          where: join(job.folder, 'log.txt'),
          fix: 'read the log; the same command goes on with the sweep',
        })
      }
    }
    return { status: 'finished', ...(await result(job, directory)) }
  }
}

async function trainChild(args: readonly string[], log: string, signal: AbortSignal): Promise<number | null> {
  await mkdir(join(log, '..'), { recursive: true })
  const script = join(packageRoot(), 'bin', 'mammo-retinanet.js')
  const child = spawn(process.execPath, [script, 'train', ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
  const stream = createWriteStream(log, { flags: 'a' })
  child.stderr.pipe(stream)
  const stop = () => child.kill('SIGINT')
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await new Promise((done, fail) => {
      child.once('error', fail)
      child.once('close', (code) => done(code))
    })
  } finally {
    signal.removeEventListener('abort', stop)
    stream.end()
  }
}

/** The newest run of a trial; earlier ones ended before their first checkpoint. */
async function newestRun(folder: string): Promise<string | null> {
  const names = (await readdir(folder).catch(() => [])).filter((name) => /^run-\d+$/.test(name))
  const newest = names.sort((a, b) => Number(b.slice(4)) - Number(a.slice(4)))[0]
  return newest === undefined || !existsSync(join(folder, newest, 'run.json')) ? null : join(folder, newest)
}

async function epochsOf(run: string): Promise<number> {
  return parseResults(await readFile(join(run, 'results.csv'), 'utf8').catch(() => '')).length
}

async function result(job: Job, directory: string): Promise<Pick<Outcome, 'run' | 'history'>> {
  const run = await newestRun(join(job.folder, 'train'))
  if (run === null) return { run: '', history: [] }
  const rows = parseResults(await readFile(join(run, 'results.csv'), 'utf8').catch(() => ''))
  const history = rows.map((row) =>
    Object.fromEntries(
      Object.entries(row)
        .filter(([name]) => name === 'epoch' || name.startsWith('val/'))
        .map(([name, value]) => [name, Number.isFinite(value) ? value : null]),
    ),
  )
  return { run: relative(directory, run), history }
}

/**
 * The prepared folder with another split: records and pixels are linked, the split is its own. Made once per ratio; two trials that make it
 * at the same time write the same bytes.
 */
async function splitFolder(directory: string, source: string, trial: Trial, seed: number): Promise<string> {
  const ratio = trial.splitRatio!
  const folder = join(directory, 'splits', `${ratio.map((share) => Math.round(share * 1000)).join('-')}-seed${seed}`)
  if (existsSync(join(folder, 'prepared.json'))) return folder
  const { header, records, split: own } = await openPrepared(source)
  await mkdir(folder, { recursive: true })
  for (const name of ['manifest.jsonl', 'pixels']) {
    await symlink(join(source, name), join(folder, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
  }
  const split = splitImages(splitImagesOf(records, header.classes), {
    ...{ method: 'holdout', ratio, seed },
    // What the folder keeps out of every part stays out.
    exclude: new Set(own.unused),
  })
  await writeSplit(folder, header, records, split)
  return folder
}
