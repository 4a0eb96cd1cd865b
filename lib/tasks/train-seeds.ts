// `train --seeds`: the same configuration once per seed, under one folder, and what the runs say together. The spread between seeds is often
// larger than the gain one is after.
import { basename, dirname, join } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import type { Config } from '../config/schema.js'
import { UsageError } from '../errors.js'
import { type MeanEstimate, meanInterval } from '../experiments/mean.js'
import { createRunFolder } from '../train/run-folder.js'
import { type TrainOptions, type TrainResult, train } from './train.js'

export interface SeedsOptions extends Omit<TrainOptions, 'command' | 'resume' | 'existOk'> {
  onLine?: (line: string) => void
  /** Trains one run; handed in so that tests need no training. */
  runner?: (config: Config, options: TrainOptions) => Promise<TrainResult>
}

export interface SeedsResult {
  directory: string
  status: 'finished' | 'interrupted'
  /** Why it was interrupted. */
  stopped: string | null
  runs: ({ seed: number } & TrainResult)[]
  /** Over the runs, Student's 95 % interval: the best epoch of each (optimistic), and every column of the last epoch. */
  best: MeanEstimate
  last: Record<string, MeanEstimate>
}

/** Runs the seeds one after another; a run that stops early ends the series. Rejects with UsageError ARGUMENT for an empty or repeated seed. */
export async function trainSeeds(
  config: Config,
  seeds: readonly number[],
  options: SeedsOptions = {},
): Promise<SeedsResult> {
  const { onLine = () => undefined, runner = (c, o) => train(c, o).done, ...rest } = options
  const valid = seeds.every((seed) => Number.isInteger(seed) && seed >= 0 && seed <= 0xffffffff)
  if (seeds.length === 0 || !valid || new Set(seeds).size < seeds.length) {
    throw new UsageError('ARGUMENT', `expected different seeds from 0 to 4294967295, got ${seeds.join(',') || 'none'}`)
  }
  const directory = await createRunFolder(config.run.root, 'seeds', options.name ?? config.run.name ?? 'run')
  const runs: SeedsResult['runs'] = []
  let stopped: string | null = null
  for (const seed of seeds) {
    const seeded = { ...config, run: { ...config.run, seed, root: dirname(directory) } }
    onLine(`seed ${seed}: starts`)
    const run = await runner(seeded, { ...rest, command: basename(directory), name: `seed${seed}` })
    runs.push({ seed, ...run })
    if (run.best !== null)
      onLine(`seed ${seed}: best epoch ${run.best.epoch}, ${run.best.metric} ${run.best.value.toPrecision(4)}`)
    if (run.status === 'interrupted' && run.stopped !== 'time') {
      stopped = run.stopped
      break
    }
  }
  const columns = [...new Set(runs.flatMap((run) => Object.keys(run.final ?? {})))].filter((c) => c.includes('/'))
  const result: SeedsResult = {
    ...{ directory, status: stopped === null ? 'finished' : 'interrupted', stopped, runs },
    best: meanInterval(runs.map((run) => run.best?.value ?? null)),
    last: Object.fromEntries(columns.map((c) => [c, meanInterval(runs.map((run) => run.final?.[c] ?? null))])),
  }
  await writeFileAtomic(join(directory, 'results.json'), `${JSON.stringify(result, null, 1)}\n`)
  return result
}

/** The result as lines for people. */
export function describeSeeds({ runs, best, last }: SeedsResult): string[] {
  const text = ({ mean, deviation, interval, n }: MeanEstimate) =>
    mean === null
      ? 'undefined'
      : `${mean.toFixed(4)}${deviation === null ? '' : `, deviation ${deviation.toFixed(4)}`}${interval === null ? '' : `, 95 % interval ${interval[0].toFixed(4)} to ${interval[1].toFixed(4)}`} (${n} runs)`
  const shown = ['val/AP50', 'val/AP', 'val/loss', 'train/loss'].filter((column) => last[column] !== undefined)
  return [
    `best epoch (optimistic), ${runs[0]?.best?.metric ?? 'no metric'}: ${text(best)}`,
    ...shown.map((column) => `last epoch, ${column}: ${text(last[column]!)}`),
  ]
}
