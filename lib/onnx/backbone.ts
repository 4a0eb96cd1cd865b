// A backbone as ONNX nodes: walks the engine's description of it (BackboneGraph) in order, whatever the family. Batch norm and layer scale
// are folded into the convolution before them where nothing else reads it; all activations are written in their exact form.
import type { BackboneNode } from '../binding/types.js'
import { ExportError } from '../errors.js'
import {
  type Build,
  batchNormAffine,
  type ChannelAffine,
  convolve,
  type FeatureMap,
  groupNorm,
  pads,
  parameter,
  relu,
  shaped,
  slide,
} from './layers.js'

/** Adds what the pyramid reads of C2..C5 and returns it by level. */
export function addBackbone(build: Build, input: FeatureMap, foldStem: boolean): Map<number, FeatureMap> {
  const { nodes, taps } = build.backbone
  const wanted = taps.filter(({ level }) => level === 5 || level >= build.model.levels[0]!)
  const readers = countReaders(
    nodes,
    wanted.map(({ node }) => node),
  )
  const maps = new Map<number, FeatureMap>([[-1, input]])
  const at = (index: number) => {
    const map = maps.get(index)
    if (map === undefined)
      throw new ExportError('ONNX_UNSUPPORTED', `expected an earlier node than ${index} of ${build.model.backbone}`)
    return map
  }
  /** Convolutions whose only reader is an affine map: written together with it. */
  const waiting = new Set<number>()
  nodes.forEach((node, index) => {
    if (readers[index] === 0) return
    if (node.op === 'conv' && readers[index] === 1) {
      const reader = nodes.findIndex(({ inputs }, later) => readers[later]! > 0 && inputs.includes(index))
      if (reader !== -1 && affineOf(build, nodes[reader]!)) {
        waiting.add(index)
        return
      }
    }
    const [first] = node.inputs as [number]
    if (waiting.has(first)) maps.set(index, addConvolution(build, nodes[first]!, at, foldStem, affineOf(build, node)))
    else if (node.op === 'conv') maps.set(index, addConvolution(build, node, at, foldStem))
    else maps.set(index, addNode(build, node, node.inputs.map(at)))
  })
  return new Map(wanted.map(({ level, node }) => [level, at(node)]))
}

/** How many nodes and taps read each node, counting only readers that a tap needs. */
function countReaders(nodes: readonly BackboneNode[], taps: readonly number[]): number[] {
  const readers = new Array<number>(nodes.length).fill(0)
  for (const tap of taps) readers[tap]! += 1
  for (let i = nodes.length - 1; i >= 0; i--) {
    if (readers[i] === 0) continue
    for (const from of nodes[i]!.inputs) if (from >= 0) readers[from]! += 1
  }
  return readers
}

/** What can be folded into the convolution before it. */
function affineOf(build: Build, node: BackboneNode): ChannelAffine | undefined {
  if (node.op === 'batchNorm') return batchNormAffine(build, node.name, node.eps ?? build.model.normEps)
  if (node.op !== 'scale') return undefined
  const scale = Float64Array.from(parameter(build, `${node.name}.weight`).data)
  return { scale, shift: new Float64Array(scale.length) }
}

function addConvolution(
  build: Build,
  node: BackboneNode,
  at: (index: number) => FeatureMap,
  foldStem: boolean,
  after?: ChannelAffine,
): FeatureMap {
  const [from] = node.inputs as [number]
  return convolve(build, at(from), node.name, {
    stride: node.stride ?? 1,
    padding: node.padding ?? 'symmetric',
    groups: node.groups ?? 1,
    foldInput: foldStem && from === -1,
    ...(after === undefined ? {} : { after }),
  })
}

function addNode(build: Build, node: BackboneNode, inputs: FeatureMap[]): FeatureMap {
  const { graph } = build
  const { name } = node
  const input = inputs[0]!
  const same = (value: string): FeatureMap => ({ ...input, value })
  const scalar = (value: number) => graph.float(`scalar.${value}`, [value], [])
  switch (node.op) {
    case 'batchNorm': {
      const of = (part: string) =>
        graph.float(`${name}.${part}`, parameter(build, `${name}.${part}`).data, [input.channels])
      const operands = [input.value, of('weight'), of('bias'), of('running_mean'), of('running_var')]
      return same(
        graph.op('BatchNormalization', name, operands, { epsilon: { float: node.eps ?? build.model.normEps } }),
      )
    }
    case 'groupNorm':
      return groupNorm(build, input, name, name, node.eps ?? build.model.normEps)
    case 'layerNorm':
      return layerNorm(build, input, node)
    case 'scale': {
      const factor = graph.float(`${name}.weight`, parameter(build, `${name}.weight`).data, [1, input.channels, 1, 1])
      return same(graph.op('Mul', name, [input.value, factor]))
    }
    case 'relu':
      return relu(build, input, name)
    case 'relu6':
      return same(graph.op('Clip', name, [input.value, scalar(0), scalar(6)]))
    case 'sigmoid':
      return same(graph.op('Sigmoid', name, [input.value]))
    case 'hardsigmoid':
      return same(hardSigmoid(build, input.value, name))
    case 'hardswish':
      return same(graph.op('Mul', name, [input.value, hardSigmoid(build, input.value, `${name}.gate`)]))
    case 'silu':
      return same(graph.op('Mul', name, [input.value, graph.op('Sigmoid', `${name}.gate`, [input.value])]))
    case 'gelu': {
      // x / 2 * (1 + erf(x / sqrt 2)), in the order of steps that onnxruntime knows as one operator.
      const scaled = graph.op('Div', `${name}.scaled`, [input.value, scalar(Math.fround(Math.SQRT2))])
      const gate = graph.op('Add', `${name}.gate`, [graph.op('Erf', `${name}.erf`, [scaled]), scalar(1)])
      return same(graph.op('Mul', name, [graph.op('Mul', `${name}.gated`, [input.value, gate]), scalar(0.5)]))
    }
    case 'maxPool':
    case 'avgPool': {
      const { kernel = 2, stride = 2, padding = 'valid' } = node
      const window = { kernel, stride, padding }
      const value = graph.op(node.op === 'maxPool' ? 'MaxPool' : 'AveragePool', name, [input.value], {
        kernel_shape: [kernel, kernel],
        strides: [stride, stride],
        ...pads(window),
      })
      return shaped(build, { value, channels: input.channels, size: slide(build, input.size, window) })
    }
    case 'globalAvgPool':
      return shaped(build, {
        value: graph.op('GlobalAveragePool', name, [input.value]),
        channels: input.channels,
        size: [1, 1],
      })
    case 'add':
    case 'mul': {
      const value = graph.op(
        node.op === 'add' ? 'Add' : 'Mul',
        name,
        inputs.map(({ value }) => value),
      )
      const largest = inputs.find(({ size }) => size[0] !== 1 || size[1] !== 1) ?? input
      return { ...largest, value }
    }
    case 'concat': {
      const value = graph.op(
        'Concat',
        name,
        inputs.map(({ value }) => value),
        { axis: 1 },
      )
      return shaped(build, {
        value,
        channels: inputs.reduce((sum, { channels }) => sum + channels, 0),
        size: input.size,
      })
    }
    default:
      throw new ExportError(
        'ONNX_UNSUPPORTED',
        `expected a known operation at "${name}" of ${build.model.backbone}, got "${node.op}"`,
      )
  }
}

/** clamp(x / 6 + 1 / 2, 0, 1) */
function hardSigmoid(build: Build, value: string, name: string): string {
  return build.graph.op('HardSigmoid', name, [value], { alpha: { float: 1 / 6 }, beta: { float: 0.5 } })
}

/** Over the channels at each position; the operator normalises trailing axes, so channels go last and back. */
function layerNorm(build: Build, input: FeatureMap, node: BackboneNode): FeatureMap {
  const { graph } = build
  const { name } = node
  const of = (part: 'weight' | 'bias') =>
    graph.float(`${name}.${part}`, parameter(build, `${name}.${part}`).data, [input.channels])
  const last = graph.op('Transpose', `${name}.nhwc`, [input.value], { perm: [0, 2, 3, 1] })
  const normal = graph.op('LayerNormalization', `${name}.normalised`, [last, of('weight'), of('bias')], {
    axis: 3,
    epsilon: { float: node.eps ?? build.model.normEps },
  })
  return shaped(build, { ...input, value: graph.op('Transpose', name, [normal], { perm: [0, 3, 1, 2] }) })
}
