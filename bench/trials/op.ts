// Single ops of the engine on given values; the engine times them itself, copies over the boundary excluded.
import { native } from '../../lib/binding/session.js'
import { detectorConfig } from '../../lib/config/detector.js'
import { defaultConfig } from '../../lib/config/load.js'
import type { Measurement } from '../trials.js'
import { residentBytes, restartPeak } from './model.js'

export interface OpSetting {
  threads: number
}

/** Runs one op `count` times after a warm-up of its own. */
export async function measureOp(
  name: string,
  args: Record<string, unknown>,
  { threads }: OpSetting,
  count: number,
): Promise<Measurement> {
  await native().configure(threads)
  const baseBytes = restartPeak()
  await native().runOp(name, { ...args, repeat: 1 })
  const { seconds } = await native().runOp(name, { ...args, repeat: count })
  return { seconds: [...(seconds as Float64Array)], peakBytes: residentBytes('VmHWM'), baseBytes, extra: {} }
}

/** Grid of a canvas at levels 3..7 and the peer's anchors as op arguments. */
export function anchorArgs(height: number, width: number): { config: string; grids: Int32Array; canvas: Int32Array } {
  const { anchors, matcher } = detectorConfig(defaultConfig('torchvision-v1'))
  const grids = [3, 4, 5, 6, 7].flatMap((level) => [Math.ceil(height / 2 ** level), Math.ceil(width / 2 ** level)])
  return {
    config: JSON.stringify({ anchors, matcher }),
    grids: Int32Array.from(grids),
    canvas: Int32Array.from([height, width]),
  }
}

/** Deterministic numbers in [0, 1): the same on every machine. */
export function uniforms(count: number, seed = 1): Float32Array {
  const values = new Float32Array(count)
  for (let i = 0, x = seed; i < count; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0
    values[i] = (x >>> 8) / 2 ** 24
  }
  return values
}

/** `n` boxes [n,4] with corners below `width`, `height` and sides from `least` to `most`. */
export function scatteredBoxes(n: number, width: number, height: number, least: number, most: number): Float32Array {
  const u = uniforms(4 * n)
  const boxes = new Float32Array(4 * n)
  for (let i = 0; i < n; i++) {
    const [x, y] = [u[4 * i]! * width, u[4 * i + 1]! * height]
    boxes.set([x, y, x + least + (most - least) * u[4 * i + 2]!, y + least + (most - least) * u[4 * i + 3]!], 4 * i)
  }
  return boxes
}
