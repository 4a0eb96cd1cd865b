// The layers that the whole network is made of, as ONNX nodes: convolution with what follows folded into it, group norm, and the arithmetic
// of map sizes, known or symbolic. Knows no architecture. Rounding of sizes: that of PyTorch and TensorFlow, retinanet spec 2.2.
import type { BackboneGraph, ModelConfig } from '../binding/types.js'
import { ExportError } from '../errors.js'
import type { Dim, GraphBuilder } from './graph.js'

/** A parameter by our name: float32, C order, convolutions as [out, in / groups, height, width]. */
export interface Parameter {
  shape: number[]
  data: Float32Array
}
export type Parameters = ReadonlyMap<string, Parameter>

/** Channels and spatial size of a feature map; sizes that are unknown at export are names. */
export interface FeatureMap {
  value: string
  channels: number
  size: [Dim, Dim]
}

/** What every part of the network is built with. */
export interface Build {
  graph: GraphBuilder
  model: ModelConfig
  backbone: BackboneGraph
  parameters: Parameters
  /** Name of the batch dimension, or its size. */
  batch: Dim
  /** True when every map down to C5 halves exactly, so that upsampling is by exactly 2. */
  exactHalves: boolean
}

/** `tf` is TensorFlow's `same`: as few zeros as give ceil(n / stride), the odd one last. `symmetric`: (kernel - 1) / 2 on each side. */
export type Padding = 'symmetric' | 'tf' | 'valid' | 'end'

/** A window that slides over a map. */
export interface Window {
  kernel: number
  stride: number
  padding: Padding
}

const GROUPS = 32
/** TensorProto.DataType numbers for Cast. */
const FLOAT = 1
const DOUBLE = 11

export function parameter(build: Build, name: string): Parameter {
  const found = build.parameters.get(name)
  if (!found) {
    throw new ExportError('ONNX_UNSUPPORTED', `expected a parameter "${name}" of ${build.model.backbone}, got none`, {
      fix: 'export from a checkpoint written by this version',
    })
  }
  return found
}

/** y = x * scale + shift per channel, in double. */
export interface ChannelAffine {
  scale: Float64Array
  shift: Float64Array
}

/** Batch norm with running statistics. */
export function batchNormAffine(build: Build, norm: string, eps: number): ChannelAffine {
  const gamma = parameter(build, `${norm}.weight`).data
  const beta = parameter(build, `${norm}.bias`).data
  const mean = parameter(build, `${norm}.running_mean`).data
  const variance = parameter(build, `${norm}.running_var`).data
  const scale = Float64Array.from(gamma, (value, c) => value / Math.sqrt(variance[c]! + eps))
  return { scale, shift: Float64Array.from(beta, (value, c) => value - mean[c]! * scale[c]!) }
}

export interface ConvolutionOptions {
  stride?: number
  padding?: Padding
  groups?: number
  /** Applied to the output, folded into weight and bias. */
  after?: ChannelAffine
  /** Name of the node; the parameter's name unless a shared convolution is used at several places. */
  node?: string
  /** Sum the weight's input channels: the same map was meant for all of them. */
  foldInput?: boolean
}

/** Convolution with the affine map that follows it, if any. A weight of two dimensions is a linear layer at each position. */
export function convolve(build: Build, input: FeatureMap, name: string, options: ConvolutionOptions = {}): FeatureMap {
  const { graph } = build
  const { stride = 1, padding = 'symmetric', groups = 1, node = name } = options
  let weight = parameter(build, `${name}.weight`)
  if (weight.shape.length === 2) weight = { shape: [...weight.shape, 1, 1], data: weight.data }
  if (options.foldInput) weight = sumInputs(weight)
  let bias = build.parameters.get(`${name}.bias`)?.data
  if (options.after) ({ weight, bias } = fold(weight, bias, options.after))
  const [channels, inputs, kernel] = weight.shape as [number, number, number, number]
  if (inputs * groups !== input.channels) {
    throw new ExportError(
      'ONNX_UNSUPPORTED',
      `expected ${input.channels} input channels in "${name}.weight", got ${inputs * groups}`,
    )
  }
  const operands = [input.value, graph.float(`${name}.weight`, weight.data, weight.shape)]
  if (bias) operands.push(graph.float(`${name}.bias`, bias, [channels]))
  const window = { kernel, stride, padding }
  const value = graph.op('Conv', node, operands, {
    kernel_shape: [kernel, kernel],
    strides: [stride, stride],
    ...(groups === 1 ? {} : { group: groups }),
    ...pads(window),
  })
  return shaped(build, { value, channels, size: slide(build, input.size, window) })
}

/** Records the shape of a map for viewers and checkers. */
export function shaped(build: Build, map: FeatureMap): FeatureMap {
  build.graph.shape(map.value, [build.batch, map.channels, ...map.size])
  return map
}

/** Attributes for the zeros around a map. */
export function pads({ kernel, stride, padding }: Window): Record<string, number[] | string> {
  if (padding === 'tf' && stride > 1) return { auto_pad: 'SAME_UPPER' }
  if (padding === 'end') return { pads: [0, 0, 1, 1] }
  return { pads: new Array<number>(4).fill(padding === 'valid' ? 0 : (kernel - 1) >> 1) }
}

/** Zeros on both sides of a row together. */
function zeros(kernel: number, padding: Exclude<Padding, 'tf'>): number {
  return { valid: 0, end: 1, symmetric: 2 * ((kernel - 1) >> 1) }[padding]
}

/** Number of windows along both sides. */
export function slide(build: Build, size: [Dim, Dim], window: Window): [Dim, Dim] {
  return [windows(size[0], window, build.exactHalves), windows(size[1], window, build.exactHalves)]
}

/** Number of windows along one known side. */
export function countWindows(side: number, { kernel, stride, padding }: Window): number {
  if (padding === 'tf') return Math.ceil(side / stride)
  return Math.floor((side + zeros(kernel, padding) - kernel) / stride) + 1
}

function windows(dim: Dim, window: Window, exact: boolean): Dim {
  if (typeof dim === 'number') return countWindows(dim, window)
  const { kernel, stride, padding } = window
  // The excess of the kernel over the padding is 1 where a size rounds up, and the stride where it rounds down.
  const excess = padding === 'tf' ? 1 : kernel - zeros(kernel, padding)
  if (stride === 1 && excess === 1) return dim
  const up = excess === 1
  if (!up && excess !== stride) return `${dim}_k${kernel}s${stride}`
  return divided(dim, stride, up || exact)
}

/**
 * The name of a divided size: H_4 is H / 4, rounded up at each halving. Where sizes round down a third part tells each halving:
 * H_8_ccf is rounded up (ceil) twice, then down (floor).
 */
function divided(dim: string, stride: number, up: boolean): string {
  const [name, divisor = '1', roundings] = dim.split('_')
  const product = Number(divisor) * stride
  if (up && roundings === undefined) return `${name}_${product}`
  const before = roundings ?? 'c'.repeat(Math.log2(Number(divisor)))
  return `${name}_${product}_${before}${(up ? 'c' : 'f').repeat(Math.log2(stride))}`
}

export function relu(build: Build, input: FeatureMap, name: string): FeatureMap {
  return { ...input, value: build.graph.op('Relu', name, [input.value]) }
}

function sumInputs(weight: Parameter): Parameter {
  const [outputs, inputs, height, width] = weight.shape as [number, number, number, number]
  const area = height * width
  const data = new Float32Array(outputs * area)
  for (let o = 0; o < outputs; o++) {
    for (let p = 0; p < area; p++) {
      let sum = 0
      for (let i = 0; i < inputs; i++) sum += weight.data[(o * inputs + i) * area + p]!
      data[o * area + p] = sum
    }
  }
  return { shape: [outputs, 1, height, width], data }
}

/** One convolution for a convolution and what follows; in double, rounded once. */
function fold(weight: Parameter, bias: Float32Array | undefined, { scale, shift }: ChannelAffine) {
  const channels = weight.shape[0]!
  const perChannel = weight.data.length / channels
  const data = new Float32Array(weight.data.length)
  for (let c = 0; c < channels; c++) {
    for (let i = c * perChannel; i < (c + 1) * perChannel; i++) data[i] = weight.data[i]! * scale[c]!
  }
  return {
    weight: { shape: weight.shape, data },
    bias: Float32Array.from(shift, (value, c) => value + (bias?.[c] ?? 0) * scale[c]!),
  }
}

/**
 * Group norm as y = x * scale + shift per image and channel. Sums run over rows in float32 and over rows of sums in float64: one
 * float32 sum over the millions of cells of a full image, as in InstanceNormalization, is wrong in the fourth digit.
 */
export function groupNorm(build: Build, input: FeatureMap, norm: string, node: string, eps: number): FeatureMap {
  const { graph } = build
  const { channels } = input
  const groups = greatestCommonDivisor(GROUPS, channels)
  const perGroup = channels / groups
  const name = (part: string) => `${node}.${part}`
  const wide = (part: string, value: string) => graph.op('Cast', name(part), [value], { to: DOUBLE })
  const double = (value: number) =>
    graph.op('Cast', name(`double.${value}`), [graph.float(`norm.${value}`, [value], [])], { to: DOUBLE })
  const perGroupSum = (part: string, rows: string) => {
    const grouped = graph.op('Reshape', name(`${part}.grouped`), [
      wide(`${part}.wide`, rows),
      graph.int64(`norm.groups${groups}`, [0, groups, -1]),
    ])
    return graph.op('ReduceSum', name(part), [grouped, graph.int64('axis.2', [2])], { keepdims: 1 })
  }
  const sum = perGroupSum(
    'sum',
    graph.op('ReduceSum', name('rows'), [input.value, graph.int64('axis.3', [3])], { keepdims: 0 }),
  )
  const squares = perGroupSum(
    'squares',
    graph.op('ReduceSumSquare', name('rowSquares'), [input.value], { axes: [3], keepdims: 0 }),
  )
  const size = graph.op('Gather', name('size'), [
    graph.op('Shape', name('shape'), [input.value]),
    graph.int64('axes.hw', [2, 3]),
  ])
  const cells = graph.op('ReduceProd', name('cells'), [wide('size.wide', size)], { axes: [0], keepdims: 0 })
  const count = graph.op('Mul', name('count'), [cells, double(perGroup)])
  const mean = graph.op('Div', name('mean'), [sum, count])
  const spread = graph.op('Sub', name('variance'), [
    graph.op('Div', name('meanSquare'), [squares, count]),
    graph.op('Mul', name('squareMean'), [mean, mean]),
  ])
  const safe = graph.op('Add', name('safe'), [graph.op('Max', name('positive'), [spread, double(0)]), double(eps)])
  const inverse = graph.op('Reciprocal', name('inverse'), [graph.op('Sqrt', name('deviation'), [safe])])
  // [N, groups, 1] with [groups, channels per group]
  const affine = (kind: 'weight' | 'bias') => {
    const { data } = parameter(build, `${norm}.${kind}`)
    return wide(`${kind}.wide`, graph.float(`${norm}.${kind}`, data, [groups, perGroup]))
  }
  const scale = graph.op('Mul', name('scale'), [inverse, affine('weight')])
  const shift = graph.op('Sub', name('shift'), [affine('bias'), graph.op('Mul', name('scaledMean'), [mean, scale])])
  const column = (part: string, value: string) =>
    graph.op('Reshape', name(`${part}.column`), [
      graph.op('Cast', name(`${part}.float`), [value], { to: FLOAT }),
      graph.int64(`norm.channels${channels}`, [0, channels, 1, 1]),
    ])
  const scaled = graph.op('Mul', name('scaled'), [input.value, column('scale', scale)])
  const value = graph.op('Add', node, [scaled, column('shift', shift)])
  graph.shape(value, [build.batch, channels, ...input.size])
  return { ...input, value }
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b)
}
