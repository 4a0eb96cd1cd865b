// Puts runs beside each other: what differs in their configurations and their environments, their best, last and late numbers, their histories by group, and
// whether they may be compared at all. Works on what runs left behind, handed in as data; paired tests are lib/evaluate/compare.ts.
import { leaves, valueAt } from '../config/load.js'
import type { Config } from '../config/schema.js'
import { UsageError } from '../errors.js'
import { type MeanEstimate, meanInterval } from './mean.js'
import { type Summary, summarise } from './sweep.js'

export interface ComparedRun {
  name: string
  status: string
  config: Config
  /** What run.json says of software, host, devices and variables; null without a record. */
  environment: Record<string, unknown> | null
  /** Rows of results.csv. */
  history: Record<string, number>[]
  splitHash: string | null
  fold: number | null
  /** Images and masses of the part that the history was scored on; null when unknown. */
  images: number | null
  masses: number | null
}

/** Places and speed: they change no result. */
const NO_DIFFERENCE = new Set(['run.root', 'run.name', 'run.logEvery', 'run.timeHours', 'data.root', 'data.readAhead'])

export interface Difference {
  key: string
  /** One text per run. */
  values: string[]
}

/** Keys whose values are not the same in all runs, in the order of the schema. */
export function configDifferences(runs: readonly Pick<ComparedRun, 'config'>[]): Difference[] {
  const keys = new Set(runs.flatMap((run) => leaves(run.config as never)))
  return [...keys]
    .filter((key) => !NO_DIFFERENCE.has(key))
    .map((key) => ({ key, values: runs.map((run) => shown(valueAt(run.config, key))) }))
    .filter(({ values }) => new Set(values).size > 1)
}

/** Entries of the environment whose values are not the same in all runs. Differences of hardware and software can change numbers and times. */
export function environmentDifferences(runs: readonly ComparedRun[]): Difference[] {
  const known = runs.map((run) => (run.environment === null ? new Map() : flat(run.environment)))
  const keys = new Set(known.flatMap((entries) => [...entries.keys()]))
  return [...keys]
    .map((key) => ({ key, values: known.map((entries) => shown(entries.get(key))) }))
    .filter(({ values }) => new Set(values).size > 1)
}

/** Dotted key -> value. */
function flat(tree: object, prefix = ''): Map<string, unknown> {
  return new Map(
    Object.entries(tree).flatMap(([name, value]): [string, unknown][] =>
      typeof value === 'object' && value !== null ? [...flat(value, `${prefix}${name}.`)] : [[prefix + name, value]],
    ),
  )
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? 'not set')
}

/** Mean sensitivity over the numbers of false positives per image of a row: one number for a FROC curve. */
export const FROC_SCORE = 'FROC score'

/** The history with the FROC score as a column. */
export function withFrocScore(history: readonly Record<string, number>[]): Record<string, number>[] {
  return history.map((row) => {
    const values = Object.entries(row).filter(([name]) => name.startsWith('val/sens@'))
    const sum = values.reduce((total, [, value]) => total + value, 0)
    return { ...row, [FROC_SCORE]: values.length === 0 ? Number.NaN : sum / values.length }
  })
}

export interface MetricLine extends Summary {
  run: string
  group: string
  metric: string
  epochs: number
  split: string
  images: number | null
  masses: number | null
}

/** Best, last and mean of the last ten evaluated epochs of each run and metric. */
export function metricLines(
  runs: readonly ComparedRun[],
  metrics: readonly string[],
  by: readonly string[] = [],
): MetricLine[] {
  return metrics.flatMap((metric) =>
    runs.map((run) => {
      const { splitHash, fold, images, masses } = run
      const split = splitHash === null ? 'unknown' : `${splitHash.slice(0, 8)}${fold === null ? '' : ` fold ${fold}`}`
      const history = withFrocScore(run.history)
      return {
        run: run.name,
        group: groupOf(run, by),
        metric,
        epochs: history.length,
        ...summarise(history, metric),
        split,
        images,
        masses,
      }
    }),
  )
}

export interface GroupLine {
  metric: string
  group: string
  best: MeanEstimate
  last: MeanEstimate
  mean10: MeanEstimate
}

/** Means over the runs of each group, with their intervals. */
export function groupLines(lines: readonly MetricLine[]): GroupLine[] {
  const keys = new Map(lines.map(({ metric, group }) => [`${metric} ${group}`, { metric, group }]))
  return [...keys.values()].map(({ metric, group }) => {
    const own = lines.filter((line) => line.metric === metric && line.group === group)
    const over = (name: 'best' | 'last' | 'mean10') => meanInterval(own.map((line) => line[name]))
    return { metric, group, best: over('best'), last: over('last'), mean10: over('mean10') }
  })
}

/** The value of the grouping keys, or the run itself without keys. Throws UsageError ARGUMENT for an unknown key. */
export function groupOf(run: ComparedRun, by: readonly string[]): string {
  if (by.length === 0) return run.name
  return by
    .map((key) => {
      const value = valueAt(run.config, key)
      if (value === undefined) {
        throw new UsageError('ARGUMENT', `--by: expected a configuration key, got ${key}`, {
          fix: '`mammo-retinanet config show` lists the keys, such as loss.gamma',
        })
      }
      return `${key} ${shown(value)}`
    })
    .join(', ')
}

export interface Curve {
  x: number[]
  y: number[]
}

export interface GroupHistory {
  group: string
  runs: ({ name: string } & Curve)[]
  /** Over the epochs that every run of the group has measured. */
  mean: Curve
}

/** One column of the histories, by group in the order of first appearance. Runs without a value are left out. */
export function groupHistories(runs: readonly ComparedRun[], column: string, by: readonly string[]): GroupHistory[] {
  const groups = new Map<string, GroupHistory['runs']>()
  for (const run of runs) {
    const rows = withFrocScore(run.history).filter((row) => Number.isFinite(row[column]))
    if (rows.length === 0) continue
    const group = groupOf(run, by)
    const curve = { name: run.name, x: rows.map((row) => row['epoch']!), y: rows.map((row) => row[column]!) }
    groups.set(group, [...(groups.get(group) ?? []), curve])
  }
  return [...groups].map(([group, members]) => ({ group, runs: members, mean: meanCurve(members) }))
}

function meanCurve(curves: readonly Curve[]): Curve {
  const x = curves[0]!.x.filter((epoch) => curves.every((curve) => curve.x.includes(epoch)))
  const at = (curve: Curve, epoch: number) => curve.y[curve.x.indexOf(epoch)]!
  return { x, y: x.map((epoch) => curves.reduce((sum, curve) => sum + at(curve, epoch), 0) / curves.length) }
}

/** Sentences about why the runs cannot simply be compared. */
export function comparisonWarnings(runs: readonly ComparedRun[]): string[] {
  const warnings: string[] = []
  const distinct = (of: (run: ComparedRun) => unknown) => new Set(runs.map((run) => JSON.stringify(of(run)))).size > 1
  if (distinct((run) => run.splitHash)) {
    warnings.push(
      'The splits differ: the runs were trained and scored on different images, so differences are not due to the settings alone.',
    )
  } else if (distinct((run) => run.fold)) {
    warnings.push('The folds differ: the runs were scored on different images.')
  }
  for (const key of ['evaluate.hit', 'evaluate.frocCredit', 'evaluate.split', 'evaluate.iou', 'data.classes']) {
    if (distinct((run) => valueAt(run.config, key))) warnings.push(`${key} differs: the metrics do not mean the same.`)
  }
  const open = runs.filter((run) => run.status !== 'finished')
  if (open.length > 0) {
    warnings.push(`Not finished: ${open.map((run) => `${run.name} (${run.status})`).join(', ')}.`)
  }
  return warnings
}
