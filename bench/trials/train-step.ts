// One update of the whole detector.
import { timed } from '../statistics.js'
import type { Measurement } from '../trials.js'
import { lesionTargets, noiseBatch, openPeerSession, residentBytes, type StepSetting } from './model.js'

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const setting = options as unknown as StepSetting & { count?: number }
  const session = await openPeerSession(setting)
  const batch = noiseBatch(setting)
  const targets = lesionTargets(setting)
  const step = {
    lr: 1e-4,
    weightDecay: 1e-4,
    clipNorm: null,
    clipNormPerTensor: null,
    clipValue: null,
    lossScale: 1,
    update: true,
    skipNonFinite: false,
  }
  const baseBytes = residentBytes('VmRSS')
  const parts: Record<string, number>[] = []
  const seconds = await timed(
    async () => parts.push((await session.trainStep(batch, targets, step)).seconds),
    1,
    setting.count ?? 5,
    120,
  )
  await session.dispose()
  const last = parts.at(-1)!
  return { seconds, peakBytes: residentBytes('VmHWM'), baseBytes, extra: { ...last } }
}
