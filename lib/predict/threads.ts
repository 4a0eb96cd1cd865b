// What of the machine a predictor uses when nobody says: workers and threads, together no more than the cores that it offers, and memory.
import { UsageError } from '../errors.js'
import { chooseThreads, readMachine } from '../machine.js'
import type { ModelManifest } from '../onnx/manifest.js'

export interface WorkerThreads {
  workers: number
  threadsPerWorker: number
}

/** One worker on all cores has the lowest latency; more workers share the cores. Throws UsageError ARGUMENT for counts below 1. */
export function fitThreads(
  workers: number | undefined,
  threadsPerWorker: number | undefined,
  cores = chooseThreads(readMachine()).intraOp,
): WorkerThreads {
  const count = workers ?? 1
  for (const [name, value] of Object.entries({ workers: count, threadsPerWorker: threadsPerWorker ?? 1 })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new UsageError('ARGUMENT', `expected ${name} as an integer of at least 1, got ${value}`)
    }
  }
  return { workers: count, threadsPerWorker: threadsPerWorker ?? Math.max(1, Math.floor(cores / count)) }
}

/** Inputs up to this many pixels let a worker keep its memory between tensors and images. */
const SMALL_PIXELS = 2 ** 21

/** True where inputs are known to be small: time counts there. Full-resolution films, and inputs of unknown size, take the least memory. */
export function keepsMemory({ shape, input }: Pick<ModelManifest, 'shape' | 'input'>): boolean {
  if (shape !== 'dynamic') return shape[0] * shape[1] <= SMALL_PIXELS
  return input.resize.rule === 'sides' && input.resize.minSide * input.resize.maxSide <= SMALL_PIXELS
}
