// `cv`: trains and scores one run per fold of a k-fold split under one folder, and reports the folds together. A finished fold is not
// repeated, an interrupted one goes on. What the folds say together is lib/experiments/cross-validation.ts.
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { stringify } from 'yaml'
import { writeFileAtomic } from '../atomic-write.js'
import { loadConfig } from '../config/load.js'
import type { Config } from '../config/schema.js'
import { partIds } from '../data/prepared.js'
import { UsageError } from '../errors.js'
import { evaluateDetections } from '../evaluate/evaluate.js'
import {
  type FoldScores,
  foldMeans,
  type HeldOutPoint,
  heldOutPoints,
  MEAN_REMARK,
  POOLED_REMARK,
  poolFolds,
} from '../experiments/cross-validation.js'
import type { MeanEstimate } from '../experiments/mean.js'
import { checkpointPath } from '../train/checkpoints.js'
import { openDataset } from '../train/data.js'
import { readPredictions, writePredictions } from '../train/predictions.js'
import { createRunFolder, readRunRecord } from '../train/run-folder.js'
import { evaluationRules, truthOf } from '../train/validate.js'
import { evaluate, type MetricRow, metricRows } from './evaluate.js'
import { type DisplayOptions, runConfig, type TrainResult, train } from './train.js'

/** What is done for one fold; handed in so that tests need no training. */
export interface FoldRunner {
  /** Trains to the end, or goes on with `resume`. */
  train(config: Config, place: { command: string; name: string; resume: string | null }): Promise<TrainResult>
  /** Scores a part and writes predictions.coco.json to `out`. */
  score(run: string, part: 'val' | 'test', out: string): Promise<MetricRow[]>
}

export interface CrossValidateOptions {
  name?: string
  /** Goes on with this folder. */
  resume?: string
  /** Number of folds that the prepared folder must have. */
  folds?: number
  signal?: AbortSignal
  handleSignals?: boolean
  display?: DisplayOptions
  argv?: string[]
  runner?: FoldRunner
  onLine?: (line: string) => void
}

export interface FoldSummary {
  fold: number
  run: string
  images: number
  masses: number
  rows: MetricRow[]
}

export interface CrossValidateResult {
  directory: string
  status: 'finished' | 'interrupted'
  stopped: string | null
  folds: FoldSummary[]
  /** null until every fold is finished. */
  mean: ({ name: string } & MeanEstimate)[] | null
  pooled: MetricRow[] | null
  operatingPoints: HeldOutPoint[] | null
  remarks: string[]
}

/**
 * Cross-validation with a configuration. Rejects with UsageError ARGUMENT when the prepared folder has no k-fold split of that many folds.
 */
export async function crossValidate(config: Config, options: CrossValidateOptions = {}): Promise<CrossValidateResult> {
  const say = options.onLine ?? (() => undefined)
  const runner = options.runner ?? defaultRunner(options)
  const count = await countFolds(config, options.folds)
  const name = options.name ?? config.run.name ?? 'cv'
  const directory =
    options.resume === undefined ? await createRunFolder(config.run.root, 'cv', name) : resolve(options.resume)
  if (options.resume === undefined) {
    await writeFileAtomic(join(directory, 'config.resolved.yaml'), stringify(config, { lineWidth: 0 }))
    await writeFileAtomic(
      join(directory, 'cv.json'),
      `${JSON.stringify({ schema: 'mammo-retinanet/cv@1', folds: count })}\n`,
    )
  }
  say(directory)
  const folds: FoldSummary[] = []
  const rest = { mean: null, pooled: null, operatingPoints: null, remarks: [POOLED_REMARK, MEAN_REMARK] }
  for (let fold = 0; fold < count; fold++) {
    const done = await runFold(config, directory, fold, runner, say)
    if (typeof done === 'string') return { directory, status: 'interrupted', stopped: done, folds, ...rest }
    folds.push(done)
    say(`fold ${fold}: ${done.rows.slice(0, 1).map((row) => `${row.name} ${row.value?.toFixed(4) ?? 'undefined'}`)}`)
  }
  const together = await reportFolds(config, directory, folds)
  const result: CrossValidateResult = { directory, status: 'finished', stopped: null, folds, ...rest, ...together }
  await writeFileAtomic(join(directory, 'results.json'), `${JSON.stringify(result, null, 1)}\n`)
  return result
}

/** The configuration that a cross-validation was started with. */
export async function crossValidationConfig(folder: string): Promise<Config> {
  const file = join(folder, 'config.resolved.yaml')
  if (!existsSync(join(folder, 'cv.json'))) {
    throw new UsageError('ARGUMENT', 'expected the folder of a cross-validation, there is no cv.json', {
      where: folder,
      fix: 'give the folder that `cv` printed first, such as runs/cv/NAME-1',
    })
  }
  return (await loadConfig({ file, hasWeights: true })).config
}

async function countFolds(config: Config, wanted: number | undefined): Promise<number> {
  const dataset = await openDataset({ ...config, data: { ...config.data, fold: 0 } })
  await dataset.close()
  const { method, folds } = dataset.set.split
  if (method !== 'kfold' || (wanted !== undefined && folds.length !== wanted)) {
    const have = method === 'kfold' ? `${folds.length} folds` : `a ${method} split`
    throw new UsageError('ARGUMENT', `expected a split of ${wanted ?? 'several'} folds by patient, got ${have}`, {
      where: join(dataset.set.folder, 'split.json'),
      fix: `run \`mammo-retinanet data split ${dataset.set.folder} --folds ${wanted ?? 5}\` first`,
    })
  }
  return folds.length
}

/** Trains and scores a fold as far as it is not yet; resolves to the reason when the run was interrupted. */
async function runFold(
  base: Config,
  directory: string,
  fold: number,
  runner: FoldRunner,
  say: (line: string) => void,
): Promise<FoldSummary | string> {
  const summary = join(directory, `fold-${fold}.json`)
  if (existsSync(summary)) {
    say(`fold ${fold}: finished before`)
    return JSON.parse(await readFile(summary, 'utf8')) as FoldSummary
  }
  // Runs of a fold are directory/foldK-1, -2: a later one follows a run that ended before its first checkpoint.
  const name = `fold${fold}`
  const earlier = await newestRun(directory, name)
  let run = earlier
  if (earlier === null || (await readRunRecord(earlier)).status !== 'finished') {
    const resume = earlier !== null && existsSync(checkpointPath(earlier, 'last')) ? earlier : null
    const config = resume === null ? foldConfig(base, directory, fold) : await runConfig(resume)
    say(`fold ${fold}: ${resume === null ? 'starts' : `goes on with ${resume}`}`)
    const trained = await runner.train(config, { command: basename(directory), name, resume })
    if (trained.status !== 'finished') return trained.stopped ?? 'stop'
    run = trained.directory
  }
  await runner.score(run!, 'val', join(run!, 'eval', 'val'))
  const rows = await runner.score(run!, 'test', join(run!, 'eval', 'test'))
  const scores = await readScores(base, run!, fold)
  const { truth } = scores.test
  const masses = truth.reduce((sum, image) => sum + image.boxes.filter((box) => !box.ignore).length, 0)
  const done: FoldSummary = { fold, run: run!, images: truth.length, masses, rows }
  await writeFileAtomic(summary, `${JSON.stringify(done)}\n`)
  return done
}

function foldConfig(base: Config, directory: string, fold: number): Config {
  const config = structuredClone(base)
  config.data.fold = fold
  config.run.root = dirname(directory)
  return config
}

async function newestRun(directory: string, name: string): Promise<string | null> {
  const pattern = new RegExp(`^${name}-(\\d+)$`)
  const numbers = (await readdir(directory)).flatMap((entry) => pattern.exec(entry)?.[1] ?? []).map(Number)
  const folder = join(directory, `${name}-${Math.max(0, ...numbers)}`)
  return existsSync(join(folder, 'run.json')) ? folder : null
}

async function readScores(base: Config, run: string, fold: number): Promise<FoldScores> {
  const config = { ...base, data: { ...base.data, fold } }
  const dataset = await openDataset(config)
  try {
    const part = async (name: 'val' | 'test') => {
      const truth = truthOf(dataset, config, partIds(dataset.set, name, fold))
      const { detections } = await readPredictions(
        join(run, 'eval', name, 'predictions.coco.json'),
        config.data.classes,
      )
      return { truth, detections }
    }
    return { fold, val: await part('val'), test: await part('test') }
  } finally {
    await dataset.close()
  }
}

async function reportFolds(
  config: Config,
  directory: string,
  folds: readonly FoldSummary[],
): Promise<Pick<CrossValidateResult, 'mean' | 'pooled' | 'operatingPoints'>> {
  const scores: FoldScores[] = []
  for (const { fold, run } of folds) scores.push(await readScores(config, run, fold))
  const { truth, detections } = poolFolds(scores)
  const rules = evaluationRules(config)
  const { bootstrap: draws, scoreThreshold } = config.evaluate
  const bootstrap = draws === 0 ? null : { draws, seed: config.run.seed }
  const details = evaluateDetections(truth, detections, { ...rules, bootstrap })
  const info = { split: 'test', source: 'out-of-fold detections of every fold', scoreThreshold }
  const file = { info, detections: new Map([...detections].map(([id, list]) => [id, [...list]])) }
  await writePredictions(join(directory, 'pooled.coco.json'), file, config.data.classes)
  await writeFileAtomic(
    join(directory, 'pooled-metrics.json'),
    `${JSON.stringify({ remark: POOLED_REMARK, ...details }, null, 1)}\n`,
  )
  return {
    mean: foldMeans(folds.map(({ rows }) => rows)),
    pooled: metricRows(details),
    operatingPoints: heldOutPoints(scores, rules, bootstrap),
  }
}

function defaultRunner(options: CrossValidateOptions): FoldRunner {
  const { signal, handleSignals, display, argv } = options
  return {
    train: (config, { command, name, resume }) =>
      train(config, {
        ...{ command, name },
        ...(resume === null ? {} : { resume }),
        ...(signal === undefined ? {} : { signal }),
        ...(handleSignals === undefined ? {} : { handleSignals }),
        ...(display === undefined ? {} : { display }),
        ...(argv === undefined ? {} : { argv }),
      }).done,
    score: async (run, part, out) => (await evaluate(run, { split: part, out })).rows,
  }
}
