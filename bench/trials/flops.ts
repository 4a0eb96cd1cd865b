// Multiply-adds of the dense network at a canvas, from the backbone's graph and its parameters' shapes, and the machine's convolution ceiling.
import { native } from '../../lib/binding/session.js'
import type { ModelConfig, ParameterInfo } from '../../lib/binding/types.js'
import { backboneOf } from '../../lib/config/backbones.js'
import { gridSizes } from '../../lib/geometry/anchors.js'
import { countWindows } from '../../lib/onnx/layers.js'
import { now } from '../statistics.js'

/** Multiply-adds of one image by part; norms, additions and activations are left out. */
export async function networkMacs(
  model: ModelConfig,
  parameters: readonly Pick<ParameterInfo, 'name' | 'shape'>[],
  height: number,
  width: number,
): Promise<{ body: number; rest: number }> {
  const shapes = new Map(parameters.map(({ name, shape }) => [name, shape]))
  const weight = (name: string) => shapes.get(`${name}.weight`)!.reduce((a, b) => a * b, 1)
  let body = 0
  const sizes = new Map<number, [number, number]>([[-1, [height, width]]])
  const { nodes } = await native().describeBackbone(model)
  nodes.forEach(({ op, name, inputs, kernel = 1, stride = 1, padding = 'symmetric' }, i) => {
    const from = inputs.map((input) => sizes.get(input)!)
    let size = from.reduce((a, b) => (a[0] * a[1] >= b[0] * b[1] ? a : b))
    if (op === 'globalAvgPool') size = [1, 1]
    if (op === 'conv' || op === 'maxPool' || op === 'avgPool') {
      const window = { kernel, stride, padding }
      size = [countWindows(size[0], window), countWindows(size[1], window)]
    }
    if (op === 'conv') body += weight(name) * size[0] * size[1]
    sizes.set(i, size)
  })
  const { halvings } = backboneOf(model.backbone)
  const area = (level: number) => gridSizes(height, width, [level], halvings).reduce((_, [h, w]) => h * w, 0)
  let rest = 0
  for (const { name, shape } of parameters) {
    if (shape.length !== 4 || name.startsWith('backbone.')) continue
    const level = /^fpn\.\w+\.(\d)/.exec(name)
    const macs = shape.reduce((a, b) => a * b, 1)
    rest += macs * (level === null ? model.levels.reduce((sum, l) => sum + area(l), 0) : area(Number(level[1])))
  }
  return { body, rest }
}

/** GFLOP/s of a 3x3 convolution with 256 channels at 128 x 128, ten runs: the best by wall time, the mean in processor time. */
export async function convolutionCeiling(): Promise<number> {
  const start = now()
  const { gflop, seconds } = await native().runOp('convolution', { channels: 256, height: 128, width: 128, repeat: 10 })
  const runs = seconds as Float64Array
  return (
    (gflop as number) /
    (process.env['MAMMO_BENCH_CLOCK'] === 'processor' ? (now() - start) / runs.length : Math.min(...runs))
  )
}
