// Starts training processes for tests, interrupts them at a given record, and compares what they leave behind.
import { type ChildProcess, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { defaultConfig } from '../../lib/config/load.js'
import type { Config, PhaseConfig } from '../../lib/config/schema.js'
import type { TrainOptions, TrainResult } from '../../lib/tasks/train.js'
import { checkpointPath } from '../../lib/train/checkpoints.js'
import type { RunEvent } from '../../lib/train/events.js'
import { openSafetensors } from '../../lib/weights/safetensors.js'

/**
 * A run of 10 updates of a tiny detector that passes through every state that resuming must restore: patches, then whole images with a
 * frozen backbone; accumulation with a short last group; augmentation; plateau; moving normaliser; moments; early-stop counters.
 */
export function tinyRun(root: string, runs: string): Config {
  const config = structuredClone(defaultConfig())
  config.data.root = root
  config.data.patch.size = 64
  config.data.patch.positivesPerLesion = 1
  config.data.patch.negativesPerImage = 1
  Object.assign(config.run, { root: runs, threads: 1, seed: 3 })
  Object.assign(config.model, { backbone: 'resnet18', stemWidth: 8, fpnChannels: 16, levels: [3, 4, 5] })
  Object.assign(config.anchors, { sizes: [16, 32, 64], strides: [8, 16, 32] })
  config.augment.noise = 0.05
  config.train.lr = 2e-3
  config.train.earlyStop.patience = 50
  const phase = (change: Partial<PhaseConfig>): PhaseConfig => ({
    ...{ name: 'patches', strategy: 'crops', epochs: 2, stepsPerEpoch: null, lr: null, batchSize: 2, accumulate: null },
    ...{ frozenStages: null, checkpointActivations: null, augment: null, earlyStop: null },
    schedule: { ...config.train.schedule, kind: 'cosine', warmupSteps: 2 },
    ...change,
  })
  const plateau = { ...config.train.schedule, kind: 'plateau' as const, warmupSteps: 0, patience: 1, factor: 0.5 }
  config.train.phases = [
    phase({}),
    phase({
      ...{ name: 'full size', strategy: 'full', batchSize: 1, accumulate: 4, frozenStages: 5 },
      schedule: plateau,
      checkpointActivations: true,
    }),
  ]
  return config
}

export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  /** What the process printed on stdout, parsed: a TrainResult, or code and message of its error. */
  output: Partial<TrainResult> & { code?: string; message?: string }
  events: RunEvent[]
  /** Lines on stderr that are no records. */
  noise: string[]
}

/** Signals that the process sends to itself with the record of an update: none comes late because this process was busy. */
export interface SelfSignals {
  step: number
  /** The second one a millisecond after the first. */
  signals: NodeJS.Signals[]
}

let files = 0

/** Runs a process to its end; a function `interrupt` sees every record as it comes and may send signals. */
export async function runTrainingProcess(
  folder: string,
  config: Config,
  options: TrainOptions = {},
  interrupt: SelfSignals | ((event: RunEvent, child: ChildProcess) => void) = () => undefined,
): Promise<Ended> {
  const job = join(folder, `job-${files++}.json`)
  const [watch, self] = typeof interrupt === 'function' ? [interrupt, null] : [() => undefined, interrupt]
  writeFileSync(job, JSON.stringify({ config, options, self }))
  // The same extension as this file: compiled in the test run, source in development.
  const script = fileURLToPath(new URL(`./train-child${import.meta.url.slice(-3)}`, import.meta.url))
  const child = spawn(process.execPath, [...process.execArgv, script, job], { stdio: ['ignore', 'pipe', 'pipe'] })
  const events: RunEvent[] = []
  const noise: string[] = []
  let out = ''
  child.stdout.on('data', (chunk) => {
    out += chunk
  })
  const lines = createInterface({ input: child.stderr })
  lines.on('line', (line) => {
    if (!line.startsWith('{')) return noise.push(line)
    const event = JSON.parse(line) as RunEvent
    events.push(event)
    watch(event, child)
    return undefined
  })
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) =>
    child.on('close', (...how) => resolve(how)),
  )
  return { code, signal, output: out === '' ? {} : JSON.parse(out), events, noise }
}

/** Every tensor of a run's last checkpoint as hex text by name: weights, moments, normaliser, random stream. */
export async function lastTensors(run: string): Promise<Record<string, string>> {
  const file = await openSafetensors(checkpointPath(run, 'last'))
  const tensors: Record<string, string> = {}
  for (const name of file.tensors.keys()) {
    const { data } = await file.read(name)
    tensors[name] = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('hex')
  }
  await file.close()
  return tensors
}

/** Names whose bits differ, for a readable failure. */
export function differing(a: Record<string, string>, b: Record<string, string>): string[] {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((name) => a[name] !== b[name])
}
