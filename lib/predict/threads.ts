// How many workers and threads a predictor uses when nobody says: together no more than the cores that the process may use.
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

export interface WorkerThreads {
  workers: number
  threadsPerWorker: number
}

/** One worker on all cores has the lowest latency; more workers share the cores. */
export function fitThreads(
  workers: number | undefined,
  threadsPerWorker: number | undefined,
  cores = usableCores(),
): WorkerThreads {
  const count = workers ?? 1
  return { workers: count, threadsPerWorker: threadsPerWorker ?? Math.max(1, Math.floor(cores / count)) }
}

/** Cores by affinity, limited by the container's quota (cgroup v2), at least 1. */
export function usableCores(read: (path: string) => string = (path) => readFileSync(path, 'utf8')): number {
  const cores = availableParallelism()
  let quota = cores
  try {
    const [limit, period] = read('/sys/fs/cgroup/cpu.max').trim().split(' ')
    if (limit !== 'max') quota = Math.floor(Number(limit) / Number(period))
  } catch {
    // No cgroup v2 here: affinity alone decides.
  }
  return Math.max(1, Math.min(cores, Number.isFinite(quota) ? quota : cores))
}
