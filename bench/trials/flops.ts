// Multiply-adds of the dense network at a canvas, from its parameters' shapes, and the machine's convolution ceiling.
import { native, type Session } from '../../lib/binding/session.js'

/** Multiply-adds of one image by part; batch norm, additions and activations are left out. */
export async function denseMacs(
  session: Session,
  height: number,
  width: number,
): Promise<{ body: number; rest: number }> {
  const { levels } = session.config.detector.model
  const area = (level: number) => Math.ceil(height / 2 ** level) * Math.ceil(width / 2 ** level)
  let body = 0
  let rest = 0
  for (const { name, shape } of await session.parameters()) {
    if (shape.length !== 4) continue
    const size = shape.reduce((a, b) => a * b, 1)
    const layer = /^backbone\.layer(\d)\.(\d+)\.(conv\d|downsample)/.exec(name)
    const level = /^fpn\.\w+\.(\d)/.exec(name)
    if (name.startsWith('backbone.conv1')) body += size * area(1)
    else if (layer !== null) {
      // The stride of a bottleneck is in its 3x3: the 1x1 before it still works at the size of the stage before.
      const stage = Number(layer[1]) + 1
      const early = layer[2] === '0' && layer[3] === 'conv1' && stage > 2
      body += size * area(early ? stage - 1 : stage)
    } else if (level !== null) rest += size * area(Number(level[1]))
    else if (name.startsWith('head.')) rest += size * levels.reduce((sum, l) => sum + area(l), 0)
  }
  return { body, rest }
}

/** GFLOP/s of a 3x3 convolution with 256 channels at 128 x 128, the best of ten runs. */
export async function convolutionCeiling(): Promise<number> {
  const { gflop, seconds } = await native().runOp('convolution', { channels: 256, height: 128, width: 128, repeat: 10 })
  return (gflop as number) / Math.min(...(seconds as Float64Array))
}
