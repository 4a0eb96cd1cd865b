// One update of the whole detector.
import { median, timed } from '../statistics.js'
import type { Measurement } from '../trials.js'
import { convolutionCeiling, networkMacs } from './flops.js'
import { lesionTargets, noiseBatch, openPeerSession, plainStep, residentBytes, type StepSetting } from './model.js'

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const setting = options as unknown as StepSetting & { count?: number; once?: boolean }
  const session = await openPeerSession(setting)
  const batch = noiseBatch(setting)
  const targets = lesionTargets(setting)
  const step = { ...plainStep, lr: 1e-4, skipNonFinite: false }
  const baseBytes = residentBytes('VmRSS')
  const parts: Record<string, number>[] = []
  const seconds = await timed(
    async () => parts.push((await session.trainStep(batch, targets, step)).seconds),
    setting.once ? 0 : 1,
    setting.once ? 1 : (setting.count ?? 5),
    120,
    setting.once ? 1 : 3,
  )
  // Forward once, backward twice the work of what is trained. The box tower works on windows only, so a step does less than this.
  const { model } = session.config.detector
  const { body, rest } = await networkMacs(model, await session.parameters(), setting.height, setting.width)
  const gflop = 2e-9 * setting.batch * ((setting.frozenStages === 5 ? 1 : 3) * body + 3 * rest)
  await session.dispose()
  const ceiling = await convolutionCeiling()
  const rate = gflop / median(seconds)
  const extra = {
    ...parts.at(-1)!,
    denseGflop: gflop,
    gflopPerSecond: rate,
    ceilingGflopPerSecond: ceiling,
    shareOfCeiling: rate / ceiling,
  }
  return { seconds, peakBytes: residentBytes('VmHWM'), baseBytes, extra }
}
