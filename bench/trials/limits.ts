// Time limits of the documents that a test must not judge: the delay of the caller's event loop while a full-resolution image is
// predicted, and how long a thousand small requests take beside it.
import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { loadDetector } from '../../lib/predict/predictor.js'
import type { Measurement } from '../trials.js'
import { residentBytes } from './model.js'
import { noiseImage, writeBenchModel } from './onnx-file.js'

/** Largest accepted 99th percentile of the delay, in milliseconds. */
const LIMIT_MS = 50

interface Setting {
  height: number
  width: number
  threads: number
  isolation: 'thread' | 'process'
  count?: number
}

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const { height, width, threads, isolation, count = 1 } = options as unknown as Setting
  const model = await writeBenchModel({ height, width, threads, precision: 'fp32' })
  const baseBytes = residentBytes('VmRSS')
  const detector = await loadDetector(model, { threadsPerWorker: threads, isolation })
  try {
    const data = noiseImage(height, width)
    // The loop has work of its own: a timer every 5 ms.
    const ticks = setInterval(() => undefined, 5)
    const delay = monitorEventLoopDelay({ resolution: 5 })
    const seconds: number[] = []
    delay.enable()
    for (let i = 0; i < count; i++) {
      const start = performance.now()
      await detector.predict({ data, height, width }, { crop: false })
      seconds.push((performance.now() - start) / 1000)
    }
    delay.disable()
    clearInterval(ticks)
    // The monitor's values include the interval itself.
    const p99 = delay.percentile(99) / 1e6
    const extra = { loopP50: delay.percentile(50) / 1e6, loopP99: p99, loopMax: delay.max / 1e6, limit: LIMIT_MS }
    return { seconds, peakBytes: residentBytes('VmHWM'), baseBytes, extra: { ...extra, within: p99 < LIMIT_MS } }
  } finally {
    await detector.close()
    await rm(dirname(model), { recursive: true, force: true })
  }
}
