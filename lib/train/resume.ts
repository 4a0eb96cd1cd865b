// Whether a run may go on with a configuration: every key that changes the result must be as it was. Data is compared by its
// hashes, not by its place. The file that holds the state is chosen in checkpoints.ts.
import { leaves, valueAt } from '../config/load.js'
import type { Config } from '../config/schema.js'
import { ConfigError, DataError } from '../errors.js'
import type { DatasetIdentity } from './checkpoints.js'

/** Keys that may change on resume: length, logging, places, speed of reading, intervals that are computed afterwards. */
const FREE = new Set([
  'run.root',
  'run.name',
  'run.logEvery',
  'run.pictures',
  'run.timeHours',
  'data.root',
  'data.readAhead',
  'model.weights',
  'train.epochs',
  'train.checkpointMinutes',
  'train.keepEvery',
  'train.onNonFinite',
  'evaluate.bootstrap',
])
/** Sections that take no part in training. */
const FREE_SECTIONS = ['export.']

/** Throws ConfigError that lists each key of `now` that differs from `saved` and changes the result. */
export function refuseOtherConfig(saved: Config, now: Config): void {
  const keys = new Set([...leaves(saved as never), ...leaves(now as never)])
  const changed = [...keys].filter(
    (key) => !FREE.has(key) && !FREE_SECTIONS.some((s) => key.startsWith(s)) && !same(key, saved, now),
  )
  if (changed.length === 0) return
  throw new ConfigError(
    changed.map((key) => ({
      key,
      message: `${key} was ${JSON.stringify(valueAt(saved, key))} in the run, now it is ${JSON.stringify(valueAt(now, key))}`,
    })),
    { fix: 'resume with the values of the run (its config.resolved.yaml), or start a new run with --init CHECKPOINT' },
  )
}

function same(key: string, saved: Config, now: Config): boolean {
  const [a, b] = [valueAt(saved, key), valueAt(now, key)]
  if (key !== 'train.phases') return JSON.stringify(a) === JSON.stringify(b)
  // Phases may get longer, like train.epochs.
  const withoutLength = (phases: unknown) =>
    JSON.stringify((phases as { epochs: number }[] | null)?.map((p) => ({ ...p, epochs: 0 })))
  return withoutLength(a) === withoutLength(b)
}

/** Throws DataError MANIFEST when the prepared folder holds other data than the run was trained on. */
export function refuseOtherData(saved: DatasetIdentity, now: DatasetIdentity, where: string): void {
  const what = (['cacheHash', 'splitHash'] as const).find((hash) => saved[hash] !== now[hash])
  if (what === undefined && saved.fold === now.fold) return
  const name = what === 'cacheHash' ? 'images and boxes' : what === 'splitHash' ? 'split' : 'fold'
  throw new DataError('MANIFEST', `expected the ${name} that the run was trained on, got others`, {
    where,
    fix: 'give the same prepared folder with --set data.root=FOLDER, or start a new run with --init CHECKPOINT',
    details: { rule: 'resume/data', saved: { ...saved }, now: { ...now } },
  })
}
