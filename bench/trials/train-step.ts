// One update of the whole detector, or one part of it.
import { native } from '../../lib/binding/session.js'
import { stepCost } from '../../lib/train/cost.js'
import { median, now, timed } from '../statistics.js'
import type { Measurement } from '../trials.js'
import { convolutionCeiling, networkMacs } from './flops.js'
import {
  lesionTargets,
  noiseBatch,
  openPeerSession,
  plainStep,
  residentBytes,
  restartPeak,
  type StepSetting,
} from './model.js'

interface Setting extends StepSetting {
  warmup?: number
  count?: number
  /** Time this part of the step, such as backbone, instead of the whole. */
  part?: string
}

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const setting = options as unknown as Setting
  const { height, width, batch: images, frozenStages, warmup = 1, count = 5, part } = setting
  const session = await openPeerSession(setting)
  const batch = noiseBatch(setting)
  const targets = lesionTargets(setting)
  const step = { ...plainStep, lr: 1e-4, skipNonFinite: false }
  const baseBytes = restartPeak()
  const parts: Record<string, number>[] = []
  const once = async () => {
    const [start, wall] = [now(), performance.now()]
    const { seconds } = await session.trainStep(batch, targets, step)
    // The engine's parts are in wall seconds: on the clock of this trial they take the same share of the step.
    const factor = (1000 * (now() - start)) / (performance.now() - wall)
    parts.push(Object.fromEntries(Object.entries(seconds).map(([name, s]) => [name, s * factor])))
  }
  const whole = await timed(once, warmup, count, 120, Math.min(3, count))
  const peakBytes = residentBytes('VmHWM')
  const seconds = part === undefined ? whole : parts.slice(warmup).map((times) => times[part]!)
  // Dense work of the step: forward once, backward twice the work of what is trained. `gflop` is the work that is really done: without
  // the box tower, which works on windows only, and with what checkpointing computes again.
  const { model } = session.config.detector
  const { body, rest } = await networkMacs(model, await session.parameters(), height, width)
  const cost = stepCost({
    ...{ model, backbone: await native().describeBackbone(model), anchorsPerCell: 9, height, width },
    ...{ batch: images, optimizer: setting.optimizer ?? 'sgd' },
  })
  const denseGflop = 2e-9 * images * (part === 'backbone' ? body : (frozenStages === 5 ? 1 : 3) * body + 3 * rest)
  const gflop = part === 'backbone' ? denseGflop : 2e-9 * cost.stepMacs
  await session.dispose()
  // An update of parameters is no convolution.
  const ceiling = await convolutionCeiling()
  const work = { denseGflop, gflop, ceilingGflopPerSecond: ceiling, shareOfCeiling: gflop / median(seconds) / ceiling }
  const extra = { ...parts.at(-1)!, ...(part === 'optimizer' ? {} : work), predictedBytes: cost.bytes.step }
  return { seconds, peakBytes, baseBytes, extra }
}
