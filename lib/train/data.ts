// The prepared folder as training and evaluation use it: which images, the statistics they are normalised with, a sampler and a
// reader per phase. All choices follow from the configuration; lib/data does the work.

import { padMultiple } from '../config/detector.js'
import type { Phase } from '../config/phases.js'
import type { Config } from '../config/schema.js'
import type { WindowReader } from '../data/cache.js'
import { findLeaks, refuseLeaks } from '../data/leak.js'
import { type LoadedBatch, loadBatches } from '../data/loader.js'
import {
  leakImagesOf,
  openPrepared,
  openReader,
  type PreparedRecord,
  type PreparedSet,
  partIds,
  samplerImages,
} from '../data/prepared.js'
import { createSampler, type SamplePlan, type Sampler, type SamplerOptions } from '../data/sampler.js'
import type { Part } from '../data/split.js'
import { ConfigError, DataError } from '../errors.js'
import { median } from './progress.js'
import type { PhaseData, TrainingBatch } from './trainer.js'

export interface Dataset {
  set: PreparedSet
  reader: WindowReader
  /** What every image is normalised with when `input.normalise` is `dataset`. */
  statistics: { mean: number; std: number }
  /** Sentences about what is unusual: leaks that are allowed, look-alike images. */
  warnings: string[]
  /** Patients, objects or pixels occur in several parts, and `data.allowLeak` let it pass. */
  leak: boolean
  close(): Promise<void>
}

/** Opens `data.root` and checks the split for leaks. Throws ConfigError without a root, DataError for a damaged folder or a leak. */
export async function openDataset(config: Config): Promise<Dataset> {
  const { root, fold, allowLeak } = config.data
  if (root === null) {
    throw new ConfigError([{ key: 'data.root', message: 'data.root is null, expected a prepared folder' }], {
      fix: 'run `mammo-retinanet data prepare DIR --out FOLDER`, then --set data.root=FOLDER',
    })
  }
  const set = await openPrepared(root)
  partIds(set, 'train', fold)
  const leaks = findLeaks(set.split.folds[fold ?? 0]!, leakImagesOf(set.records))
  const errors = leaks.filter((leak) => leak.level === 'error')
  if (!allowLeak) refuseLeaks(leaks, `${root}/split.json`)
  const warnings = leaks
    .filter((leak) => leak.level === 'warning')
    .map((leak) => `images of ${leak.parts.join(' and ')} look alike: ${leak.ids.join(', ')}`)
  if (errors.length > 0) {
    warnings.unshift(
      `${errors.length} patients or images occur in several parts (data.allowLeak): results are too good`,
    )
  }
  const measured = set.header.statistics[fold ?? 0]!
  const { mean, std } = config.input
  const reader = openReader(set)
  return {
    set,
    reader,
    statistics: mean !== null && std !== null ? { mean, std } : { mean: measured.mean, std: measured.std },
    warnings,
    leak: errors.length > 0,
    close: () => reader.close(),
  }
}

/** Training images: all of the part, or with `data.limit` the first ones, those with lesions first. */
export function trainingIds(dataset: Dataset, config: Config): string[] {
  const ids = partIds(dataset.set, 'train', config.data.fold)
  if (ids.length === 0) throw emptyPart(dataset, 'train')
  if (config.data.limit === null || config.data.limit >= ids.length) return ids
  const records = new Map(dataset.set.records.map((record) => [record.id, record]))
  const positive = (id: string) => trueLesions(records.get(id)!, config).length > 0
  return [...ids.filter(positive), ...ids.filter((id) => !positive(id))].slice(0, config.data.limit)
}

export function emptyPart(dataset: Dataset, part: Part): DataError {
  return new DataError('MANIFEST', `expected at least one image in part ${part} of the split, got none`, {
    where: `${dataset.set.folder}/split.json`,
    fix: 'run `mammo-retinanet data split` with other ratios, or add images',
    details: { rule: 'split/empty' },
  })
}

export function trueLesions(record: PreparedRecord, config: Config): PreparedRecord['lesions'] {
  return record.lesions.filter((lesion) => config.data.classes.includes(lesion.class) && lesion.ignore !== true)
}

/** Samplers of all phases over the training images. */
export function trainingPhases(
  dataset: Dataset,
  config: Config,
  phases: readonly Phase[],
): { data: PhaseData[]; samplers: Sampler[] } {
  const ids = trainingIds(dataset, config)
  requireLesions(dataset, config, ids)
  const samplers = phases.map((phase) => samplerOf(dataset, config, ids, phase.strategy, phase.augment))
  const data = phases.map((phase, i): PhaseData => {
    const sampler = samplers[i]!
    const batchesPerPass = sampler.batches(0, phase.batchSize, false).length
    if (batchesPerPass === 0) {
      const message = `phase ${phase.name} has no samples: no lesions and data.patch.negativesPerImage 0`
      throw new ConfigError([{ key: 'data.patch', message }])
    }
    return {
      batchesPerPass,
      read: (pass, from) => readTraining(dataset, config, sampler, phase, i * PHASE_PASSES + pass, from),
    }
  })
  return { data, samplers }
}

/** Without a lesion of the classes there is nothing to learn: most likely their names are not those of the dataset. */
function requireLesions(dataset: Dataset, config: Config, ids: readonly string[]): void {
  const wanted = new Set(ids)
  const { records, folder } = dataset.set
  if (records.some((record) => wanted.has(record.id) && trueLesions(record, config).length > 0)) return
  const known = [...new Set(records.flatMap((record) => record.lesions.map((lesion) => lesion.class)))].sort()
  throw new DataError(
    'ANNOTATION',
    `expected training images with lesions of ${config.data.classes.join(', ')}, got none; classes of the dataset: ${known.join(', ') || 'none'}`,
    { where: folder, fix: 'name classes of the dataset in data.classes', details: { rule: 'data/classes' } },
  )
}

/** Passes are numbered over the whole run, each phase in a range of its own: no two draw the same windows and changes. */
const PHASE_PASSES = 1_000_000

async function* readTraining(
  dataset: Dataset,
  config: Config,
  sampler: Sampler,
  phase: Phase,
  epoch: number,
  from: number,
): AsyncIterableIterator<TrainingBatch> {
  const planned = sampler.batches(epoch, phase.batchSize, true)
  const loader = loadBatches(sampler, planned, dataset.reader, { epoch, ahead: config.data.readAhead, from })
  for await (const { batch, targets, ids, plans } of loader) yield { ids, plan: plans, images: batch, targets }
}

/** The plans of the first batches of a phase (by its index), as they are trained on. */
export function firstPlans(sampler: Sampler, phase: Phase, index: number, count: number): SamplePlan[] {
  const epoch = index * PHASE_PASSES
  const indices = sampler.batches(epoch, phase.batchSize, true).flatMap((batch) => batch.indices)
  return indices.slice(0, count).map((sample) => sampler.plan(epoch, sample))
}

/** Images of a part as they are scored: unaugmented, whole, at the scale of the strategy. */
export function scoringSampler(
  dataset: Dataset,
  config: Config,
  ids: readonly string[],
  strategy: Phase['strategy'],
  view?: SamplerOptions['view'],
): Sampler {
  return samplerOf(dataset, config, ids, strategy === 'crops' ? 'full' : strategy, false, view)
}

/** Reads all batches of a scoring sampler once, in a fixed order. */
export async function* readScoring(
  dataset: Dataset,
  config: Config,
  sampler: Sampler,
): AsyncIterableIterator<LoadedBatch> {
  const planned = sampler.batches(0, config.data.evalBatchSize, false)
  yield* loadBatches(sampler, planned, dataset.reader, { epoch: 0, ahead: config.data.readAhead })
}

function samplerOf(
  dataset: Dataset,
  config: Config,
  ids: readonly string[],
  strategy: Phase['strategy'],
  augment: boolean,
  view?: SamplerOptions['view'],
): Sampler {
  const { classes } = config.data
  const { normalise } = config.input
  const images = samplerImages(dataset.set, ids, { classes, normalise, statistics: dataset.statistics })
  return createSampler(images, {
    strategy,
    seed: config.run.seed,
    multiple: padMultiple(config),
    data: config.data,
    augment: augment ? config.augment : null,
    ...(view === undefined ? {} : { view }),
  })
}

/** Boxes of the canvas (flat xyxy) in pixels of the whole source image. Scoring plans only scale, mirror and shift. */
export function toImageBoxes(
  boxes: Float32Array,
  plan: Pick<SamplePlan, 'toImage'>,
): [number, number, number, number][] {
  const [sx, , tx, , sy, ty] = plan.toImage
  // Mirrored, the right side of the canvas is the left one of the image.
  const [left, right] = sx < 0 ? [2, 0] : [0, 2]
  return Array.from({ length: boxes.length / 4 }, (_, i) => [
    boxes[4 * i + left]! * sx + tx,
    boxes[4 * i + 1]! * sy + ty,
    boxes[4 * i + right]! * sx + tx,
    boxes[4 * i + 3]! * sy + ty,
  ])
}

/** Median spacing [row, column] in mm of the training images that have one, in the network's input; null when none has. */
export function trainingSpacing(dataset: Dataset, config: Config): [number, number] | null {
  const wanted = new Set(trainingIds(dataset, config))
  const spacings = dataset.set.records.flatMap((r) => (wanted.has(r.id) && r.spacingMm !== null ? [r.spacingMm] : []))
  if (spacings.length === 0) return null
  return [median(spacings.map(([row]) => row)), median(spacings.map(([, column]) => column))]
}
