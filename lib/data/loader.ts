// Reads the windows of planned batches ahead of the consumer and hands over values ready for the device. The queue is bounded:
// reading pauses while it is full. How long the consumer waited is measured, the number that tells a slow disk from a slow step.
import { UsageError } from '../errors.js'
import type { SampleBatch, SampleTargets } from './batch.js'
import type { WindowReader } from './cache.js'
import type { PlannedBatch, SamplePlan, Sampler } from './sampler.js'

export interface LoadedBatch {
  batch: SampleBatch
  targets: SampleTargets
  ids: string[]
  plans: SamplePlan[]
}

export interface LoaderTimes {
  /** Seconds the consumer waited for a batch. */
  waitSeconds: number
  /** Seconds since the first request. */
  totalSeconds: number
  /** waitSeconds / totalSeconds, 0 before the first request. The wait for the very first batch is in `firstSeconds` instead. */
  share: number
  firstSeconds: number
  batches: number
  bytes: number
}

export interface Loader extends AsyncIterable<LoadedBatch> {
  times(): LoaderTimes
}

export interface LoaderOptions {
  epoch: number
  /** Batches in the queue, being read or ready. */
  ahead: number
  /** Skip this many batches of the epoch (resume). */
  from?: number
  signal?: AbortSignal
}

/** Loads `planned` batches in order; may be iterated once. A reading error surfaces at the batch it belongs to. */
export function loadBatches(
  sampler: Sampler,
  planned: readonly PlannedBatch[],
  reader: WindowReader,
  options: LoaderOptions,
): Loader {
  if (!Number.isInteger(options.ahead) || options.ahead < 1) {
    throw new UsageError('ARGUMENT', `expected data.readAhead as an integer of at least 1, got ${options.ahead}`)
  }
  let [waited, first, started, batches, bytes, used] = [0, 0, 0, 0, 0, false]
  async function* iterate(): AsyncGenerator<LoadedBatch> {
    if (used) throw new UsageError('BUSY', 'expected a loader to be iterated once, got a second iteration')
    used = true
    const queue: Promise<LoadedBatch>[] = []
    let next = options.from ?? 0
    const fill = () => {
      while (queue.length < options.ahead && next < planned.length) {
        const loading = loadBatch(sampler, planned[next++]!, reader, options.epoch)
        // The error is thrown when the consumer arrives at this batch; without a handler Node would end the process before.
        loading.catch(() => undefined)
        queue.push(loading)
      }
    }
    started = performance.now()
    fill()
    try {
      while (queue.length > 0) {
        options.signal?.throwIfAborted()
        const before = performance.now()
        const loaded = await queue.shift()!
        const seconds = (performance.now() - before) / 1000
        if (batches === 0) first = seconds
        else waited += seconds
        batches++
        bytes += loaded.batch.windows.pixels.byteLength
        fill()
        yield loaded
      }
    } finally {
      await Promise.allSettled(queue)
    }
  }
  return {
    [Symbol.asyncIterator]: iterate,
    times() {
      const totalSeconds = started === 0 ? 0 : (performance.now() - started) / 1000
      const share = totalSeconds === 0 ? 0 : waited / totalSeconds
      return { waitSeconds: waited, totalSeconds, share, firstSeconds: first, batches, bytes }
    },
  }
}

/** Plans and reads one batch. */
export async function loadBatch(
  sampler: Sampler,
  planned: PlannedBatch,
  reader: WindowReader,
  epoch: number,
): Promise<LoadedBatch> {
  const plans = planned.indices.map((index) => sampler.plan(epoch, index))
  return { ...(await readPlans(plans, planned.canvas, reader)), plans }
}

/** Reads the windows of the given plans and lays them out as one batch on `canvas` (height, width). */
export async function readPlans(
  plans: readonly SamplePlan[],
  canvas: readonly [number, number],
  reader: WindowReader,
): Promise<Omit<LoadedBatch, 'plans'>> {
  const n = plans.length
  const areas = plans.map(({ window: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1))
  const windows = {
    pixels: new Uint16Array(areas.reduce((sum, area) => sum + area, 0)),
    shapes: new Int32Array(2 * n),
    affines: new Float64Array(6 * n),
    reduce: Int32Array.from(plans, (plan) => plan.reduce),
    normalise: Float32Array.from(plans.flatMap((plan) => plan.normalise)),
    intensity: Float32Array.from(plans.flatMap((plan) => plan.intensity)),
    noiseSeed: Uint32Array.from(plans, (plan) => plan.noiseSeed),
    ...(plans.every(({ elastic }) => elastic === null) ? {} : { elastic: packElastic(plans) }),
  }
  const sizes = new Int32Array(2 * n)
  let offset = 0
  for (const [i, plan] of plans.entries()) {
    const [x1, y1, x2, y2] = plan.window
    windows.shapes.set([y2 - y1, x2 - x1], 2 * i)
    windows.affines.set(plan.affine, 6 * i)
    sizes.set(plan.size, 2 * i)
    const area = areas[i]!
    // Image after image: the windows of a batch are few and large, and the disk serves them best one at a time.
    await reader.read(plan.id, plan.window, windows.pixels.subarray(offset, offset + area))
    offset += area
  }
  return {
    batch: { canvas: [canvas[0], canvas[1]], sizes, windows },
    targets: packTargets(plans),
    ids: plans.map((plan) => plan.id),
  }
}

/** [n,3] amplitude, spacing, seed. */
function packElastic(plans: readonly SamplePlan[]): Float64Array {
  return Float64Array.from(
    plans.flatMap(({ elastic }) => (elastic === null ? [0, 0, 0] : [elastic.amplitude, elastic.spacing, elastic.seed])),
  )
}

function packTargets(plans: readonly SamplePlan[]): SampleTargets {
  const offsets = (count: (plan: SamplePlan) => number) => {
    const result = new Int32Array(plans.length + 1)
    for (const [i, plan] of plans.entries()) result[i + 1] = result[i]! + count(plan)
    return result
  }
  return {
    boxes: Float32Array.from(plans.flatMap((plan) => plan.targets.boxes.flat())),
    labels: Int32Array.from(plans.flatMap((plan) => plan.targets.labels)),
    boxOffsets: offsets((plan) => plan.targets.boxes.length),
    ignore: Float32Array.from(plans.flatMap((plan) => plan.targets.ignore.flat())),
    ignoreOffsets: offsets((plan) => plan.targets.ignore.length),
  }
}
