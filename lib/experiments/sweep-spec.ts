// What a sweep is: a starting configuration, axes over configuration keys, a search method, seeds. Reads it from YAML and makes the list
// of trials, which depends on nothing but the specification. Not the running (sweep.ts), not the studies that come with the package.
import { createHash } from 'node:crypto'
import { parse } from 'yaml'
import { z } from 'zod'
import { ConfigError, UsageError } from '../errors.js'
import { type Axis, gridPoints, type Point, randomPoints, sobolPoints } from './designs.js'

export const METHODS = ['grid', 'random', 'sobol', 'halving'] as const
export type Method = (typeof METHODS)[number]
/** Number of a run that stands for it: its best epoch, its last, or the mean of its last ten evaluated epochs. */
export const SELECTIONS = ['best', 'last', 'mean10'] as const
export type Selection = (typeof SELECTIONS)[number]

const assignments = z.record(z.string(), z.unknown())
const range = z.strictObject({
  min: z.number(),
  max: z.number(),
  log: z.boolean().default(false),
  integer: z.boolean().default(false),
})
const ratio = z
  .tuple([z.number().min(0), z.number().min(0), z.number().min(0)])
  .refine((r) => Math.abs(r[0] + r[1] + r[2] - 1) < 1e-6, { message: 'expected three shares that add up to 1' })

const specSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9._-]+$/)
    .describe('name of the folder'),
  about: z.string().default('').describe('the question'),
  base: z.string().nullable().default(null).describe('preset that every trial starts from'),
  set: assignments.default({}).describe('keys that every trial changes'),
  arms: z.record(z.string().min(1), assignments).default({}).describe('named settings of several keys'),
  space: z
    .record(z.string(), z.union([z.array(z.unknown()).min(1), range]))
    .default({})
    .describe('key -> list of values, or range'),
  splitRatios: z
    .record(z.string().min(1), ratio)
    .default({})
    .describe('named shares of train, val, test: the only way to vary the split'),
  splitSeed: z.number().int().min(0).default(0),
  method: z.enum(METHODS).default('grid'),
  trials: z.number().int().positive().nullable().default(null).describe('settings of random, sobol and halving'),
  seed: z.number().int().min(0).max(0xffffffff).default(0).describe('seed of the search'),
  seeds: z.array(z.number().int().min(0)).min(1).default([0]).describe('run.seed of the repeats of each setting'),
  halving: z
    .strictObject({
      eta: z.number().int().min(2).default(3).describe('1 of eta settings goes on'),
      minEpochs: z.number().int().positive(),
      maxEpochs: z.number().int().positive(),
    })
    .nullable()
    .default(null),
  rankBy: z.string().default('val/AP50').describe('column of results.csv'),
  select: z.enum(SELECTIONS).default('best'),
})

export type SweepSpec = z.output<typeof specSchema>
export type SweepSpecInput = z.input<typeof specSchema>

/** Axis of the named split ratios, and of the arms. */
const SPLIT = 'split'
const ARM = 'arm'

export interface Trial {
  /** Position in the plan; shard i of n takes those with index % n = i - 1. */
  index: number
  /** Setting: repeats with other seeds share it. */
  setting: number
  seed: number
  /** Axis -> value, for tables. */
  labels: Record<string, string>
  /** Configuration keys beyond the base, run.seed included. */
  set: Record<string, unknown>
  /** Shares of train, val and test that this trial's split is made with; null: the split of the prepared folder. */
  splitRatio: [number, number, number] | null
}

export interface SweepPlan {
  spec: SweepSpec
  axes: readonly string[]
  trials: readonly Trial[]
  /** Epochs of each round; [null]: one round of the configured length. */
  rungs: readonly (number | null)[]
  /** Identity of the trials: equal for equal work, whatever it is ranked by. */
  hash: string
}

/** Reads a YAML or JSON text. Throws ConfigError with every fault. */
export function parseSpec(text: string, file: string): SweepSpec {
  let tree: unknown
  try {
    tree = parse(text)
  } catch (cause) {
    throw new ConfigError([{ key: '', message: (cause as Error).message, file }], { cause })
  }
  return checkSpec(tree, file)
}

/** Fills in the defaults. Throws ConfigError with every fault. */
export function checkSpec(tree: unknown, file = 'sweep'): SweepSpec {
  const parsed = specSchema.safeParse(tree)
  if (parsed.success) return parsed.data
  throw new ConfigError(
    parsed.error.issues.map((issue) => ({
      key: issue.path.join('.'),
      message: `${issue.path.join('.') || 'sweep'}: ${issue.message}`,
      file,
    })),
    { fix: `keys of a sweep: ${Object.keys(specSchema.shape).join(', ')}` },
  )
}

/** Keys that would compare results on different images without saying so. */
const FIXED = ['data.root', 'data.fold', 'data.allowLeak', 'evaluate.split', 'run.root', 'run.name', 'run.seed']

/**
 * The trials. Throws UsageError ARGUMENT for an empty search, a key that must stay fixed, a missing number of trials, or ranking on the
 * test part.
 */
export function planSweep(spec: SweepSpec): SweepPlan {
  refuse(spec)
  const axes = axesOf(spec)
  const settings = pointsOf(spec, axes)
  const trials = settings.flatMap((point, setting) =>
    spec.seeds.map((seed): Omit<Trial, 'index'> => {
      const split = point.find((_, i) => axes[i]!.name === SPLIT)
      return {
        ...{ setting, seed },
        labels: Object.fromEntries(point.map((choice, i) => [axes[i]!.name, choice.label])),
        set: { ...spec.set, ...Object.assign({}, ...point.map((choice) => choice.set)), 'run.seed': seed },
        splitRatio: split === undefined ? null : spec.splitRatios[split.label]!,
      }
    }),
  )
  const { rankBy: _, select: __, about: ___, ...work } = spec
  return {
    spec,
    axes: axes.map((axis) => axis.name),
    trials: trials.map((trial, index) => ({ index, ...trial })),
    rungs: rungsOf(spec),
    hash: createHash('sha256').update(JSON.stringify(work)).digest('hex'),
  }
}

function refuse(spec: SweepSpec): void {
  if (!/^val\//.test(spec.rankBy)) {
    throw new UsageError('ARGUMENT', `expected a column of the validation part to rank by, got ${spec.rankBy}`, {
      fix: 'rank by val/AP50, val/AP, val/loss or val/sens@F; settings chosen on the test part make its result worthless',
    })
  }
  if (spec.set['evaluate.split'] === 'test') {
    throw new UsageError('ARGUMENT', 'a sweep never ranks on the test part, got evaluate.split=test', {
      fix: 'leave evaluate.split out; score the winner with `mammo-retinanet evaluate RUN --split test`',
    })
  }
  const varied = [...Object.keys(spec.space), ...Object.values(spec.arms).flatMap((set) => Object.keys(set))]
  const fixed = varied.find((key) => FIXED.includes(key))
  if (fixed !== undefined) {
    throw new UsageError('ARGUMENT', `${fixed} must be the same in every trial`, {
      fix: 'seeds vary run.seed, splitRatios the split; put other fixed keys under `set`',
    })
  }
}

function axesOf(spec: SweepSpec): Axis[] {
  const axes: Axis[] = []
  const arms = Object.entries(spec.arms)
  if (arms.length > 0) axes.push({ name: ARM, choices: arms.map(([label, set]) => ({ label, set })) })
  const ratios = Object.keys(spec.splitRatios)
  if (ratios.length > 0) axes.push({ name: SPLIT, choices: ratios.map((label) => ({ label, set: {} })) })
  for (const [name, values] of Object.entries(spec.space)) {
    if (Array.isArray(values)) {
      axes.push({ name, choices: values.map((value) => ({ label: labelOf(value), set: { [name]: value } })) })
    } else {
      if (!(values.min < values.max) || (values.log && values.min <= 0)) {
        throw new UsageError(
          'ARGUMENT',
          `${name}: expected min < max, and min > 0 with log, got ${values.min}, ${values.max}`,
        )
      }
      axes.push({ name, ...values })
    }
  }
  if (axes.length === 0) throw new UsageError('ARGUMENT', 'expected at least one of arms, space and splitRatios')
  return axes
}

function labelOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}

function pointsOf(spec: SweepSpec, axes: readonly Axis[]): Point[] {
  if (spec.method === 'grid') return gridPoints(axes)
  const discrete = axes.every((axis) => 'choices' in axis)
  // Halving over lists tries them all; random and Sobol's points need a number.
  if (spec.trials === null && spec.method === 'halving' && discrete) return gridPoints(axes)
  if (spec.trials === null) {
    throw new UsageError('ARGUMENT', `method ${spec.method}: expected a number of trials`, { fix: 'give --trials N' })
  }
  return spec.method === 'sobol'
    ? sobolPoints(axes, spec.trials, spec.seed)
    : randomPoints(axes, spec.trials, spec.seed)
}

/** Epochs per round of successive halving (Jamieson and Talwalkar, 2016): each round trains eta times as long as the one before. */
function rungsOf({ method, halving }: SweepSpec): (number | null)[] {
  if (method !== 'halving') return [null]
  if (halving === null || halving.minEpochs > halving.maxEpochs) {
    throw new UsageError(
      'ARGUMENT',
      'method halving: expected halving.minEpochs <= halving.maxEpochs in the specification',
    )
  }
  const { eta, minEpochs, maxEpochs } = halving
  const rungs: number[] = []
  for (let epochs = minEpochs; epochs * eta <= maxEpochs; epochs *= eta) rungs.push(epochs)
  return [...rungs, maxEpochs]
}
