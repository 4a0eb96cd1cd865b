// How many workers and threads a predictor uses when nobody says: together no more than the cores that the machine offers.
import { chooseThreads, readMachine } from '../machine.js'

export interface WorkerThreads {
  workers: number
  threadsPerWorker: number
}

/** One worker on all cores has the lowest latency; more workers share the cores. */
export function fitThreads(
  workers: number | undefined,
  threadsPerWorker: number | undefined,
  cores = chooseThreads(readMachine()).intraOp,
): WorkerThreads {
  const count = workers ?? 1
  return { workers: count, threadsPerWorker: threadsPerWorker ?? Math.max(1, Math.floor(cores / count)) }
}
