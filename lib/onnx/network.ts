// The network as ONNX nodes: ResNet, feature pyramid, shared heads. Batch norm is folded into the convolution before it; group norm
// is written out, since the native operator needs a later opset. Names follow our parameter names.
// Architecture: He et al. 2016 (ResNet), Lin et al. 2017 (FPN, RetinaNet); switches in lib/binding/types.ts ModelConfig.
import type { ModelConfig } from '../binding/types.js'
import { ExportError } from '../errors.js'
import type { Dim, GraphBuilder } from './graph.js'

/** A parameter by our name: float32, C order, convolutions as [out, in, height, width]. */
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

/** One pyramid level's head outputs, NCHW: logits [N, A*K, h, w] and deltas [N, A*4, h, w]. */
export interface LevelOutput {
  level: number
  logits: string
  deltas: string
  size: [Dim, Dim]
}

/** What every part of the network is built with. */
export interface Build {
  graph: GraphBuilder
  model: ModelConfig
  parameters: Parameters
  /** Name of the batch dimension, or its size. */
  batch: Dim
  /** True when every map down to C5 halves exactly, so that upsampling is by exactly 2. */
  exactHalves: boolean
}

const STAGES: Record<string, { block: 'basic' | 'bottleneck'; depths: number[] }> = {
  resnet18: { block: 'basic', depths: [2, 2, 2, 2] },
  resnet34: { block: 'basic', depths: [3, 4, 6, 3] },
  resnet50: { block: 'bottleneck', depths: [3, 4, 6, 3] },
  resnet101: { block: 'bottleneck', depths: [3, 4, 23, 3] },
  resnet152: { block: 'bottleneck', depths: [3, 8, 36, 3] },
}

/** The heads' epsilon is PyTorch's default; `normEps` belongs to the backbone. */
const HEAD_NORM_EPS = 1e-5
const GROUPS = 32
/** TensorProto.DataType numbers for Cast. */
const FLOAT = 1
const DOUBLE = 11

export interface NetworkOptions {
  model: ModelConfig
  parameters: Parameters
  /** Normalised input, [N, channels, H, W]. */
  input: FeatureMap
  batch: Dim
  /** Sum the stem's input channels: the same map was meant for all of them. */
  foldStem: boolean
  exactHalves: boolean
}

/** Adds the whole network and returns the head outputs, one per configured level. */
export function addNetwork(graph: GraphBuilder, options: NetworkOptions): LevelOutput[] {
  const build: Build = { graph, ...options }
  const taps = addBackbone(build, options.input, options.foldStem)
  return addHeads(build, addPyramid(build, taps))
}

function parameter(build: Build, name: string): Parameter {
  const found = build.parameters.get(name)
  if (!found) {
    throw new ExportError('ONNX_UNSUPPORTED', `expected a parameter "${name}" of ${build.model.backbone}, got none`, {
      fix: 'export from a checkpoint written by this version',
    })
  }
  return found
}

interface ConvolutionOptions {
  stride?: number
  /** Name of the norm that follows, without the dot; folded (batch norm) or added (group norm). */
  norm?: string
  normKind?: 'batch' | 'group' | 'none'
  /** Of group norm; batch norm and the backbone take the configured one. */
  normEps?: number
  relu?: boolean
  /** Base of the node names; the parameter's name unless a shared convolution is used at several places. */
  node?: string
  normNode?: string
  foldInput?: boolean
}

/** Convolution with its norm and ReLU. Padding keeps the size (divided by the stride, rounded up). */
function convolve(build: Build, input: FeatureMap, name: string, options: ConvolutionOptions = {}): FeatureMap {
  const { graph } = build
  const { stride = 1, normKind = 'none', node = name } = options
  let weight = parameter(build, `${name}.weight`)
  if (options.foldInput) weight = sumInputs(weight)
  const bias = build.parameters.get(`${name}.bias`)
  const folded =
    normKind === 'batch' ? foldBatchNorm(build, weight, options.norm!) : { weight, bias: bias ? bias.data : undefined }
  const [channels, inputs, kernel] = weight.shape as [number, number, number, number]
  if (inputs !== input.channels) {
    throw new ExportError(
      'ONNX_UNSUPPORTED',
      `expected ${input.channels} input channels in "${name}.weight", got ${inputs}`,
    )
  }
  const operands = [input.value, graph.float(`${name}.weight`, folded.weight.data, folded.weight.shape)]
  if (folded.bias) operands.push(graph.float(`${name}.bias`, folded.bias, [channels]))
  const value = graph.op('Conv', node, operands, {
    kernel_shape: [kernel, kernel],
    strides: [stride, stride],
    ...padding(build, kernel, stride),
  })
  let output: FeatureMap = { value, channels, size: stride === 1 ? input.size : halve(input.size) }
  graph.shape(value, [build.batch, channels, ...output.size])
  if (normKind === 'group') {
    const eps = options.normEps ?? build.model.normEps
    output = groupNorm(build, output, options.norm!, options.normNode ?? options.norm!, eps)
  }
  return options.relu ? relu(build, output, `${options.normNode ?? node}.relu`) : output
}

/** TensorFlow's `same` puts the odd pixel of padding last, which ONNX calls SAME_UPPER; otherwise both sides get the same. */
function padding(build: Build, kernel: number, stride: number): Record<string, number[] | string> {
  if (build.model.padding === 'tf' && stride > 1) return { auto_pad: 'SAME_UPPER' }
  return { pads: new Array<number>(4).fill((kernel - 1) / 2) }
}

function halve(size: [Dim, Dim]): [Dim, Dim] {
  return [half(size[0]), half(size[1])]
}

/** ceil(n / 2), as a number or as a name such as H_4 for H / 4. */
function half(dim: Dim): Dim {
  if (typeof dim === 'number') return Math.ceil(dim / 2)
  const [name, divisor] = dim.split('_')
  return `${name}_${divisor === undefined ? 2 : Number(divisor) * 2}`
}

function relu(build: Build, input: FeatureMap, name: string): FeatureMap {
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

/** y = (Wx - mean) / sqrt(var + eps) * gamma + beta, as one convolution; in double, rounded once. */
function foldBatchNorm(build: Build, weight: Parameter, norm: string) {
  const gamma = parameter(build, `${norm}.weight`).data
  const beta = parameter(build, `${norm}.bias`).data
  const mean = parameter(build, `${norm}.running_mean`).data
  const variance = parameter(build, `${norm}.running_var`).data
  const channels = weight.shape[0]!
  const perChannel = weight.data.length / channels
  const data = new Float32Array(weight.data.length)
  const bias = new Float32Array(channels)
  for (let c = 0; c < channels; c++) {
    const scale = gamma[c]! / Math.sqrt(variance[c]! + build.model.normEps)
    bias[c] = beta[c]! - mean[c]! * scale
    for (let i = c * perChannel; i < (c + 1) * perChannel; i++) data[i] = weight.data[i]! * scale
  }
  return { weight: { shape: weight.shape, data }, bias }
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

/** C2..C5, by level. */
function addBackbone(build: Build, input: FeatureMap, foldStem: boolean): Map<number, FeatureMap> {
  const stages = STAGES[build.model.backbone]
  if (!stages) {
    throw new ExportError(
      'ONNX_UNSUPPORTED',
      `expected a backbone of ${Object.keys(STAGES).join(', ')}, got "${build.model.backbone}"`,
      { fix: 'train one of these backbones to export it' },
    )
  }
  const normKind = build.model.norm === 'group' ? 'group' : 'batch'
  let map = convolve(build, input, 'backbone.conv1', {
    stride: 2,
    norm: 'backbone.bn1',
    normKind,
    relu: true,
    foldInput: foldStem,
  })
  const pooled = build.graph.op('MaxPool', 'backbone.maxpool', [map.value], {
    kernel_shape: [3, 3],
    strides: [2, 2],
    ...padding(build, 3, 2),
  })
  map = { value: pooled, channels: map.channels, size: halve(map.size) }
  build.graph.shape(pooled, [build.batch, map.channels, ...map.size])
  const taps = new Map<number, FeatureMap>()
  stages.depths.forEach((depth, index) => {
    for (let i = 0; i < depth; i++) {
      const stride = i === 0 && index > 0 ? 2 : 1
      map = addBlock(build, map, `backbone.layer${index + 1}.${i}`, stages.block, stride, normKind)
    }
    taps.set(index + 2, map)
  })
  return taps
}

function addBlock(
  build: Build,
  input: FeatureMap,
  name: string,
  kind: 'basic' | 'bottleneck',
  stride: number,
  normKind: 'batch' | 'group',
): FeatureMap {
  const conv = (from: FeatureMap, index: number, convStride: number, last: boolean) =>
    convolve(build, from, `${name}.conv${index}`, {
      stride: convStride,
      norm: `${name}.bn${index}`,
      normKind,
      relu: !last,
    })
  const strides = kind === 'basic' ? [stride, 1] : build.model.strideIn1x1 ? [stride, 1, 1] : [1, stride, 1]
  const main = strides.reduce((map, s, i) => conv(map, i + 1, s, i === strides.length - 1), input)
  const shortcut = build.parameters.has(`${name}.downsample.0.weight`)
    ? convolve(build, input, `${name}.downsample.0`, { stride, norm: `${name}.downsample.1`, normKind })
    : input
  const sum = build.graph.op('Add', `${name}.add`, [main.value, shortcut.value])
  return relu(build, { ...main, value: sum }, name)
}

/** P-levels of the configuration, ascending. */
function addPyramid(build: Build, taps: Map<number, FeatureMap>): Map<number, FeatureMap> {
  const { graph, model } = build
  const lowest = model.levels[0]!
  const highest = model.levels.at(-1)!
  const pyramid = new Map<number, FeatureMap>()
  let merged: FeatureMap | undefined
  for (let level = 5; level >= lowest; level--) {
    const lateral = convolve(build, taps.get(level)!, `fpn.lateral.${level}`)
    merged = merged
      ? {
          ...lateral,
          value: graph.op('Add', `fpn.p${level}.merged`, [lateral.value, upsample(build, merged, lateral, level)]),
        }
      : lateral
    if (model.levels.includes(level)) pyramid.set(level, convolve(build, merged, `fpn.output.${level}`))
  }
  for (let level = 6; level <= highest; level++) {
    let source: FeatureMap
    if (level === 6) source = model.p6Source === 'c5' ? taps.get(5)! : pyramid.get(5)!
    else source = relu(build, pyramid.get(level - 1)!, `fpn.extra.${level}.relu`)
    pyramid.set(level, convolve(build, source, `fpn.extra.${level}`, { stride: 2 }))
  }
  return new Map(model.levels.map((level) => [level, pyramid.get(level)!]))
}

/** Nearest neighbour to the size of `target`: source index = floor(index * in / out). */
function upsample(build: Build, input: FeatureMap, target: FeatureMap, level: number): string {
  const { graph } = build
  const attributes = { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' }
  const name = `fpn.p${level}.up`
  if (build.exactHalves) {
    return graph.op('Resize', name, [input.value, '', graph.float('fpn.twice', [1, 1, 2, 2], [4])], attributes)
  }
  const axes = (node: string, value: string, start: number, end: number) =>
    graph.op('Slice', node, [
      graph.op('Shape', `${node}.shape`, [value]),
      graph.int64(`slice.${start}`, [start]),
      graph.int64(`slice.${end}`, [end]),
    ])
  const front = axes(`${name}.channels`, input.value, 0, 2)
  const size = axes(`${name}.size`, target.value, 2, 4)
  const sizes = graph.op('Concat', `${name}.sizes`, [front, size], { axis: 0 })
  return graph.op('Resize', name, [input.value, '', '', sizes], attributes)
}

function addHeads(build: Build, pyramid: Map<number, FeatureMap>): LevelOutput[] {
  const { model } = build
  const tower = (kind: 'cls' | 'box', norm: 'none' | 'group', last: string, level: number, from: FeatureMap) => {
    let map = from
    for (let i = 0; i < model.headDepth; i++) {
      const name = `head.${kind}.tower.${i}`
      map = convolve(build, map, `${name}.conv`, {
        node: `head.${kind}.p${level}.tower.${i}.conv`,
        norm: `${name}.norm`,
        normKind: norm,
        normEps: HEAD_NORM_EPS,
        normNode: `head.${kind}.p${level}.tower.${i}`,
        relu: true,
      })
    }
    return convolve(build, map, `head.${kind}.${last}`, { node: `head.${kind}.p${level}.${last}` }).value
  }
  return [...pyramid].map(([level, map]) => ({
    level,
    logits: tower('cls', model.headNorm.classification, 'logits', level, map),
    deltas: tower('box', model.headNorm.box, 'deltas', level, map),
    size: map.size,
  }))
}
