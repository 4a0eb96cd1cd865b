// All anchors of a canvas: the first table in a process, or the cached one.
import { native } from '../../lib/binding/session.js'
import type { Measurement } from '../trials.js'
import { residentBytes, restartPeak } from './model.js'
import { anchorArgs } from './op.js'

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const { height, width, cached, threads } = options as {
    height: number
    width: number
    cached: boolean
    threads: number
  }
  await native().configure(threads)
  const baseBytes = restartPeak()
  const { seconds } = await native().runOp('anchors', { ...anchorArgs(height, width), repeat: 11 })
  const [first, ...later] = seconds as Float64Array
  return { seconds: cached ? later : [first!], peakBytes: residentBytes('VmHWM'), baseBytes, extra: {} }
}
