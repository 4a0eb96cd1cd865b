// One image to detections.
import { timed } from '../statistics.js'
import type { Measurement } from '../trials.js'
import { noiseBatch, openPeerSession, residentBytes, type StepSetting } from './model.js'

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const setting = { ...(options as unknown as StepSetting), batch: 1, frozenStages: 5 }
  const session = await openPeerSession(setting)
  const batch = noiseBatch(setting)
  const baseBytes = residentBytes('VmRSS')
  const seconds = await timed(() => session.detect(batch), 1, 5)
  await session.dispose()
  return { seconds, peakBytes: residentBytes('VmHWM'), baseBytes, extra: {} }
}
