// How many workers and threads a predictor uses when nobody says: together no more than the cores that the machine offers.
import { UsageError } from '../errors.js'
import { chooseThreads, readMachine } from '../machine.js'

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
