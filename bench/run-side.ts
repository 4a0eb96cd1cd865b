// One side of a trial run once in a process of its own, and many runs as one summary. Knows nothing of tables.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { packageRoot } from '../lib/package-root.js'
import { median, spread } from './statistics.js'
import type { Measurement, Side } from './trials.js'

export interface Summary {
  medianSeconds: number
  minSeconds: number
  maxSeconds: number
  runs: number
  peakBytes: number
  baseBytes: number
  extra: Record<string, unknown>
}

/** A process that ended badly; `cause` is the last line that it wrote on its error stream. */
export class SideFailed extends Error {
  override readonly cause: string
  constructor(side: string, code: unknown, cause: string) {
    super(`${side} ended with ${code}: ${cause}`)
    this.cause = cause
  }
}

/** The Python of the peers; undefined when none is named. */
export const peerPython = process.env['MAMMO_PEER_PYTHON']

/**
 * Runs `side` once; the last line that it prints is its measurement. `limitBytes` is the most writable memory that the process may
 * map (Linux, util-linux' prlimit). Rejects with SideFailed.
 */
export async function runSide(
  side: Side,
  options: Record<string, unknown> & { threads: number },
  limitBytes?: number,
): Promise<Measurement> {
  const given = JSON.stringify({ ...options, ...side.options })
  const words =
    side.runtime === 'node'
      ? [process.execPath, join(packageRoot(), 'dist', 'bench', 'child.js'), side.script, given]
      : [peerPython!, join(packageRoot(), 'bench', 'peers', side.script), given]
  const [command, ...args] = limitBytes === undefined ? words : ['prlimit', `--data=${limitBytes}`, '--', ...words]
  const child = spawn(command!, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, OMP_NUM_THREADS: String(options.threads), ...side.env },
  })
  let text = ''
  let errors = ''
  child.stdout.on('data', (chunk) => {
    text += chunk
  })
  child.stderr.on('data', (chunk) => {
    errors = (errors + chunk).slice(-4000)
    process.stderr.write(chunk)
  })
  const code = await new Promise<unknown>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (status, signal) => resolve(status ?? signal))
  })
  const last = text.trim().split('\n').at(-1)
  if (code !== 0 || !last?.startsWith('{'))
    throw new SideFailed(side.name, code, errors.trim().split('\n').at(-1) ?? '')
  return JSON.parse(last) as Measurement
}

/** Medians over all timed runs; numbers of `extra` are medians over the processes, other values those of the first. */
export function summarise(runs: readonly Measurement[]): Summary {
  const seconds = runs.flatMap((run) => run.seconds)
  const [minSeconds, maxSeconds] = spread(seconds)
  const extra = Object.entries(runs[0]?.extra ?? {}).map(([key, value]) => [
    key,
    typeof value === 'number' ? median(runs.map((run) => run.extra[key] as number)) : value,
  ])
  return {
    ...{ medianSeconds: median(seconds), minSeconds, maxSeconds, runs: seconds.length },
    peakBytes: median(runs.map((run) => run.peakBytes)),
    baseBytes: median(runs.map((run) => run.baseBytes)),
    extra: Object.fromEntries(extra),
  }
}
