// `info --cost` and the memory line of `train`: what a configuration costs at an image size, and whether it fits.
import { readFileSync } from 'node:fs'
import { native } from '../binding/session.js'
import { detectorConfig, padMultiple } from '../config/detector.js'
import type { Phase } from '../config/phases.js'
import type { Config } from '../config/schema.js'
import { UsageError } from '../errors.js'
import { readMachine } from '../machine.js'
import { type Cost, type CostSetting, smallerSteps, stepCost } from '../train/cost.js'
import { engineThreads } from '../train/environment.js'
import type { StepTimes } from '../train/profile.js'

/** Where `stepCost` knows which maps share memory. */
const isCounted = (backbone: string) => /^resnet\d+$/.test(backbone)

/** What `stepCost` needs, of a configuration. Needs the addon. Rejects with UsageError ARGUMENT for a backbone that is no ResNet. */
export async function costSetting(
  config: Config,
  size: readonly [number, number],
  phase?: Phase,
): Promise<CostSetting> {
  const detector = detectorConfig(config)
  if (!isCounted(detector.model.backbone))
    throw new UsageError(
      'ARGUMENT',
      `the cost of a step is counted for ResNets only, got "${detector.model.backbone}"`,
      {
        fix: 'measure other backbones with npm run bench -- backbones',
      },
    )
  const multiple = padMultiple(config)
  const pad = (n: number) => Math.ceil(n / multiple) * multiple
  const model = phase
    ? { ...detector.model, frozenStages: phase.frozenStages, checkpointActivations: phase.checkpointActivations }
    : detector.model
  return {
    model,
    backbone: await native().describeBackbone(detector.model),
    anchorsPerCell: config.anchors.scales.length * config.anchors.ratios.length,
    height: pad(size[0]),
    width: pad(size[1]),
    batch: phase?.batchSize ?? config.data.batchSize,
    optimizer: config.train.optimizer,
  }
}

export interface Ceilings {
  /** Of a 3x3 convolution with 256 channels at 128 x 128, the best of ten. */
  gflopPerSecond: number
  threads: number
}

/** Measures what the machine can do at best; about a second. Needs the addon. */
export async function measureCeilings(threads: number): Promise<Ceilings> {
  const engine = native()
  await engine.configure(threads)
  const { gflop, seconds } = await engine.runOp('convolution', { channels: 256, height: 128, width: 128, repeat: 10 })
  return { gflopPerSecond: (gflop as number) / Math.min(...(seconds as Float64Array)), threads }
}

export interface CostReport {
  setting: { height: number; width: number; batch: number }
  cost: Cost
  ceilings: Ceilings
  /** Shortest possible seconds at the measured ceiling. */
  floor: { forward: number; step: number }
}

export async function describeCost(config: Config, size: readonly [number, number]): Promise<CostReport> {
  const setting = await costSetting(config, size)
  const cost = stepCost(setting)
  const ceilings = await measureCeilings(engineThreads(config.run.threads).count)
  const { backbone, neck, classification, box } = cost.macs
  const seconds = (macs: number) => (2e-9 * macs) / ceilings.gflopPerSecond
  return {
    setting: { height: setting.height, width: setting.width, batch: setting.batch },
    cost,
    ceilings,
    floor: { forward: seconds(backbone + neck + classification + box), step: seconds(cost.stepMacs) },
  }
}

/** Lines for a terminal. */
export function costText({ setting, cost, ceilings, floor }: CostReport): string[] {
  const giga = (n: number) => (n / 1e9).toFixed(2).padStart(9)
  const moved = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0).padStart(7)} MiB read and written`
  const gib = (n: number) => `${(n / 2 ** 30).toFixed(2)} GiB`
  return [
    `one step on ${setting.batch} x ${setting.height} x ${setting.width}`,
    ...Object.entries(cost.macs).map(
      ([part, macs]) =>
        `  ${part.padEnd(16)} ${giga(macs)} GMAC forward ${moved(cost.traffic[part as keyof Cost['traffic']])}`,
    ),
    ...Object.entries(cost.headMacsByLevel).map(
      ([level, macs]) =>
        `  ${`heads at P${level}`.padEnd(16)} ${giga(macs)} GMAC forward ${moved(cost.headTrafficByLevel[Number(level)]!)}`,
    ),
    `  training step    ${giga(cost.stepMacs)} GMAC (box tower on windows only: not counted)`,
    `  parameters       ${(cost.parameters.all / 1e6).toFixed(2)} M, ${(cost.parameters.trained / 1e6).toFixed(2)} M trained`,
    `  memory of a step ${gib(cost.bytes.step)}: activations ${gib(cost.bytes.activations)} (worst: ${cost.worst}), gradients and moments ${gib(cost.bytes.optimizer)}`,
    `  ceiling          ${ceilings.gflopPerSecond.toFixed(0)} GFLOP/s measured, ${ceilings.threads} threads: at least ${floor.forward.toFixed(2)} s forward, ${floor.step.toFixed(2)} s a training step`,
  ]
}

export interface Achieved {
  /** Multiply-adds of the steps in GFLOP: what they really did, the box tower on its windows left out. */
  gflop: number
  gflopPerSecond: number
  /** Of the measured convolution ceiling. */
  share: number
  ceilings: Ceilings
}

/** How near steps came to what the machine can do at best; undefined for a backbone that is not counted, for a GPU and for no steps. */
export async function achievedFraction(config: Config, steps: readonly StepTimes[]): Promise<Achieved | undefined> {
  if (!isCounted(config.model.backbone) || config.run.device !== 'cpu' || steps.length === 0) return undefined
  const known = new Map<string, number>()
  let gflop = 0
  for (const { phase, inputs } of steps) {
    for (const { images, height, width } of inputs) {
      const key = `${phase.name} ${images} ${height} ${width}`
      if (!known.has(key)) {
        const setting = await costSetting(config, [height, width], { ...phase, batchSize: images })
        known.set(key, 2e-9 * stepCost(setting).stepMacs)
      }
      gflop += known.get(key)!
    }
  }
  const ceilings = await measureCeilings(engineThreads(config.run.threads).count)
  const gflopPerSecond = gflop / steps.reduce((sum, { seconds }) => sum + seconds, 0)
  return { gflop, gflopPerSecond, share: gflopPerSecond / ceilings.gflopPerSecond, ceilings }
}

/** The line of `train --profile`. */
export function achievedText({ gflopPerSecond, share, ceilings }: Achieved): string {
  return `achieved: ${gflopPerSecond.toFixed(1)} GFLOP/s, ${(100 * share).toFixed(0)}% of this machine's convolutions (${ceilings.gflopPerSecond.toFixed(0)} GFLOP/s, ${ceilings.threads} threads)`
}

/**
 * Whether a phase fits into the memory of the machine or container, said before its first step; undefined for a backbone that is not
 * counted and for a GPU. `resident` is what the process holds now.
 */
export async function memoryPlan(
  config: Config,
  phase: Phase,
  size: readonly [number, number],
  resident: number,
): Promise<{ fits: boolean; message: string } | undefined> {
  if (!isCounted(config.model.backbone) || config.run.device !== 'cpu') return undefined
  const setting = await costSetting(config, size, phase)
  const peak = resident + stepCost(setting).bytes.step
  const { memoryBytes, memoryLimitBytes } = readMachine()
  const limit = Math.min(memoryLimitBytes ?? memoryBytes, resident + available(memoryBytes))
  const gib = (n: number) => `${(n / 2 ** 30).toFixed(1)} GiB`
  const base = `${phase.name}: about ${gib(peak)} at ${setting.batch} x ${setting.height} x ${setting.width}, of ${gib(limit)}`
  if (peak <= limit) return { fits: true, message: base }
  const ways = smallerSteps(setting).map(({ change, stepBytes }) => `${change} (${gib(resident + stepBytes)})`)
  return { fits: false, message: `${base}: this will not fit${ways.length > 0 ? `; try ${ways.join(', ')}` : ''}` }
}

/** What the system can still give, without swapping. */
function available(fallback: number): number {
  try {
    return Number(/^MemAvailable:\s*(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))![1]) * 1024
  } catch {
    return fallback
  }
}
