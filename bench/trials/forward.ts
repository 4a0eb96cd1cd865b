// One image to detections with the engine.
import { median, timed } from '../statistics.js'
import type { Measurement } from '../trials.js'
import { convolutionCeiling, networkMacs } from './flops.js'
import { noiseBatch, openPeerSession, residentBytes, restartPeak, type StepSetting } from './model.js'

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const given = options as unknown as StepSetting & { warmup?: number; count?: number }
  const { warmup = 1, count = 5, ...setting } = { ...given, batch: 1, frozenStages: 5 }
  const session = await openPeerSession(setting)
  const batch = noiseBatch(setting)
  const baseBytes = restartPeak()
  const seconds = await timed(() => session.detect(batch), warmup, count, 60, Math.min(3, count))
  const peakBytes = residentBytes('VmHWM')
  const { model } = session.config.detector
  const { body, rest } = await networkMacs(model, await session.parameters(), setting.height, setting.width)
  await session.dispose()
  const gflop = 2e-9 * (body + rest)
  const ceiling = await convolutionCeiling()
  const shareOfCeiling = gflop / median(seconds) / ceiling
  return { seconds, peakBytes, baseBytes, extra: { gflop, ceilingGflopPerSecond: ceiling, shareOfCeiling } }
}
