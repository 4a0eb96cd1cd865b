// Focal loss, forward and gradient, of a map with few positives.
import type { Measurement } from '../trials.js'
import { measureOp, type OpSetting, uniforms } from './op.js'

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const { anchors, classes } = options as { anchors: number; classes: number }
  const logits = uniforms(anchors * classes).map((u) => 4 * u - 6.6)
  const match = new Int32Array(anchors).fill(-1).fill(0, 0, 100)
  const args = {
    logits,
    shape: Int32Array.from([1, anchors, classes]),
    match,
    labels: new Int32Array(1),
    boxOffsets: Int32Array.from([0, 1]),
    alpha: 0.25,
    gamma: 2,
    upstream: Float64Array.from([1]),
  }
  return measureOp('focal', args, options as unknown as OpSetting, 15)
}
