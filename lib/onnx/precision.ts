// Writes a finished fp32 graph in a lower precision: fp16 convolutions, or int8 by quantise-dequantise pairs (QDQ) that onnxruntime and
// OpenVINO fuse into integer convolutions. Works on the model message alone and knows no architecture: everything that is no
// convolution between activations stays as it is, geometry and normalisation in particular. Method: Jacob et al. 2018
// (asymmetric uint8 activations, symmetric int8 weights per output channel).
import { ExportError } from '../errors.js'
import { ATTRIBUTE_TYPES, ELEMENT_TYPES, type ModelMessage, type NodeMessage, type TensorMessage } from './proto.js'

/** Smallest and largest value of a tensor on the calibration images. */
export type Range = readonly [number, number]
export type Ranges = ReadonlyMap<string, Range>

export interface QuantiseOptions {
  /** 8 bits; 7 for processors without VNNI, whose 16-bit sums saturate. */
  weightBits: 7 | 8
}

/** Operators that pass a quantised activation on: their outputs get a scale of their own, or that of their input. */
const OWN_SCALE = new Set(['Conv', 'Relu', 'Add'])
const SAME_SCALE = new Set(['MaxPool', 'Resize'])
const FLOAT16_MAX = 65504

/** The convolutions that become integer, and the activations that get a scale. */
export interface QuantisationPlan {
  convolutions: ReadonlySet<string>
  /** Activation -> the activation whose range it shares (itself, or the input of a pooling or resize). */
  scaleOf: ReadonlyMap<string, string>
}

/**
 * Plans int8: all convolutions with constant weights but the first one and those after which none follows (the heads' last).
 * Additions, ReLUs, poolings and resizes between them carry integers too.
 */
export function planQuantisation({ graph }: ModelMessage): QuantisationPlan {
  const constants = new Set(graph.initializer.map(({ name }) => name))
  const producer = new Map(graph.node.flatMap((node) => node.output.map((name) => [name, node] as const)))
  const consumers = new Map<string, NodeMessage[]>()
  for (const node of graph.node) {
    for (const name of node.input) consumers.set(name, [...(consumers.get(name) ?? []), node])
  }
  const all = graph.node.filter((node) => node.opType === 'Conv' && constants.has(node.input[1]!))
  const followed = new Set<string>()
  const reaches = (start: NodeMessage) => {
    const seen = new Set<NodeMessage>()
    const open = [start]
    for (let node = open.pop(); node !== undefined; node = open.pop()) {
      for (const next of node.output.flatMap((name) => consumers.get(name) ?? [])) {
        if (next.opType === 'Conv') return true
        // What is chosen by its score is no activation: the box head of a two-step graph does not follow the logits.
        if (next.opType === 'TopK') continue
        if (!seen.has(next)) {
          seen.add(next)
          open.push(next)
        }
      }
    }
    return false
  }
  for (const node of all) if (reaches(node)) followed.add(node.name)
  const convolutions = new Set(all.slice(1).flatMap(({ name }) => (followed.has(name) ? [name] : [])))

  const scaleOf = new Map<string, string>()
  const output = (node: NodeMessage) => node.output[0]!
  for (const node of graph.node) {
    const { opType } = node
    if (opType === 'Conv' && convolutions.has(node.name)) {
      const [input] = node.input
      if (!scaleOf.has(input!)) scaleOf.set(input!, input!)
    }
    // Sums of two activations that carry a scale; other additions (norms, geometry) stay.
    const carries = (name: string) => scaleOf.has(name) || isActivation(producer.get(name), convolutions, scaleOf)
    const fits =
      (opType === 'Conv' && convolutions.has(node.name)) ||
      (opType === 'Add' && node.input.every(carries)) ||
      (opType === 'Relu' && carries(node.input[0]!))
    if (OWN_SCALE.has(opType) && fits) {
      // A ReLU right after it is part of the same integer operation: only its output has a scale.
      const next = consumers.get(output(node)) ?? []
      if (opType !== 'Relu' && next.length === 1 && next[0]!.opType === 'Relu') continue
      scaleOf.set(output(node), output(node))
    } else if (SAME_SCALE.has(opType) && scaleOf.has(node.input[0]!)) {
      scaleOf.set(output(node), scaleOf.get(node.input[0]!)!)
    }
  }
  return { convolutions, scaleOf }
}

/** True for an integer convolution or sum whose scale is that of the ReLU after it. */
function isActivation(
  node: NodeMessage | undefined,
  convolutions: ReadonlySet<string>,
  scaleOf: ReadonlyMap<string, string>,
): boolean {
  if (node === undefined) return false
  if (node.opType === 'Conv') return convolutions.has(node.name)
  return node.opType === 'Add' && node.input.every((name) => scaleOf.has(name))
}

/** Tensors whose ranges must be known. */
export function calibrationTensors({ scaleOf }: QuantisationPlan): string[] {
  return [...new Set(scaleOf.values())]
}

/** The same model with these intermediate tensors as its only outputs. */
export function withOutputs(model: ModelMessage, names: readonly string[]): ModelMessage {
  const known = new Map(model.graph.valueInfo.map((value) => [value.name, value]))
  // Without a recorded shape the output has none: onnxruntime infers it.
  const output = names.map(
    (name) => known.get(name) ?? { name, type: { tensorType: { elemType: ELEMENT_TYPES.float32 } } },
  ) as ModelMessage['graph']['output']
  const shown = new Set(names)
  const valueInfo = model.graph.valueInfo.filter(({ name }) => !shown.has(name))
  return { ...model, graph: { ...model.graph, output, valueInfo } }
}

/** int8 by QDQ pairs. Throws ExportError ONNX_UNSUPPORTED for a tensor without a range or a model without such convolutions. */
export function quantise(
  model: ModelMessage,
  plan: QuantisationPlan,
  ranges: Ranges,
  options: QuantiseOptions,
): ModelMessage {
  if (plan.convolutions.size === 0) {
    throw new ExportError('ONNX_UNSUPPORTED', 'expected convolutions to quantise, got none', {
      fix: 'export int8 from a fp32 detect graph of this version',
    })
  }
  const { graph } = model
  const constants = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]))
  const added = new Map<string, TensorMessage>()
  const scales = new Map<string, number>()
  const constant = (name: string, dims: number[], type: number, bytes: ArrayBufferView) => {
    const rawData = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    added.set(name, { name, dims, dataType: type, rawData })
    return name
  }
  const nodes: NodeMessage[] = []
  const node = (opType: string, name: string, input: string[], attribute: NodeMessage['attribute'] = []) => {
    nodes.push({ opType, name, input, output: [name], attribute })
    return name
  }
  const dequantised = new Map<string, string>()
  /** Adds the pair after a tensor. */
  const pair = (tensor: string) => {
    const base = plan.scaleOf.get(tensor)!
    const range = ranges.get(base)
    if (range === undefined) {
      throw new ExportError('ONNX_UNSUPPORTED', `expected a calibrated range of "${base}", got none`)
    }
    const { scale, zero } = activationScale(range)
    scales.set(tensor, scale)
    const parameters = [
      constant(`${base}.scale`, [], ELEMENT_TYPES.float32, Float32Array.of(scale)),
      constant(`${base}.zero`, [], ELEMENT_TYPES.uint8, Uint8Array.of(zero)),
    ]
    const integers = node('QuantizeLinear', `${tensor}.q`, [tensor, ...parameters])
    dequantised.set(tensor, node('DequantizeLinear', `${tensor}.dq`, [integers, ...parameters]))
  }
  const weights = new Map<string, { name: string; scales: Float32Array }>()
  const axis = [{ name: 'axis', type: ATTRIBUTE_TYPES.int, i: 0 }]
  const quantiseWeight = (name: string) => {
    const known = weights.get(name)
    if (known) return known
    const tensor = constants.get(name)!
    const result = weightIntegers(tensor, options.weightBits)
    const channels = tensor.dims[0]!
    constant(`${name}.int8`, tensor.dims, ELEMENT_TYPES.int8, result.values)
    constant(`${name}.scale`, [channels], ELEMENT_TYPES.float32, result.scales)
    constant(`${name}.zero`, [channels], ELEMENT_TYPES.int8, new Int8Array(channels))
    const entry = { name, scales: result.scales }
    weights.set(name, entry)
    return entry
  }

  for (const { name } of graph.input) if (plan.scaleOf.has(name)) pair(name)
  for (const original of poolFirst(graph.node, plan)) {
    const input = original.input.map((name) => dequantised.get(name) ?? name)
    if (plan.convolutions.has(original.name)) {
      const [data, weight, bias] = original.input as [string, string, string | undefined]
      const integers = quantiseWeight(weight)
      const parameters = [`${weight}.int8`, `${weight}.scale`, `${weight}.zero`]
      // One dequantisation per convolution: fusing looks at each convolution alone.
      input[1] = node('DequantizeLinear', `${original.name}.weight.dq`, parameters, axis)
      if (bias !== undefined) {
        const steps = Float32Array.from(integers.scales, (scale) => scale * scales.get(data)!)
        const values = new Float32Array(constants.get(bias)!.rawData.slice().buffer)
        const whole = Int32Array.from(values, (value, i) => clamp(Math.round(value / steps[i]!), 2 ** 31 - 1))
        input[2] = node(
          'DequantizeLinear',
          `${original.name}.bias.dq`,
          [
            constant(`${original.name}.bias.int32`, [whole.length], ELEMENT_TYPES.int32, whole),
            constant(`${original.name}.bias.scale`, [whole.length], ELEMENT_TYPES.float32, steps),
          ],
          axis,
        )
      }
    }
    nodes.push({ ...original, input })
    for (const name of original.output) if (plan.scaleOf.has(name)) pair(name)
  }
  return rebuilt(model, nodes, added)
}

/**
 * The stem in fp32: pooled before its ReLU, which gives the same numbers. onnxruntime moves the quantisation of a pooled map before the
 * pooling, where the map is four times as large; a ReLU between them keeps it behind. A seventh of the time of a full-size image.
 */
function poolFirst(nodes: readonly NodeMessage[], { scaleOf }: QuantisationPlan): NodeMessage[] {
  const readers = new Map<string, NodeMessage[]>()
  for (const node of nodes) for (const name of node.input) readers.set(name, [...(readers.get(name) ?? []), node])
  const changed = new Map<NodeMessage, NodeMessage>()
  for (const relu of nodes) {
    const [between] = relu.output as [string]
    const [pool, ...others] = readers.get(between) ?? []
    if (relu.opType !== 'Relu' || pool?.opType !== 'MaxPool' || others.length > 0 || scaleOf.has(between)) continue
    const [pooled] = pool.output as [string]
    if (!scaleOf.has(pooled)) continue
    const first = `${pooled}.first`
    changed.set(relu, { ...pool, name: first, input: relu.input, output: [first] })
    changed.set(pool, { ...relu, name: pool.name, input: [first], output: [pooled] })
  }
  return nodes.map((node) => changed.get(node) ?? node)
}

/** fp16 convolutions: casts around them, half-size weights. A weight beyond the range of fp16 keeps its convolution in fp32. */
export function toFloat16(model: ModelMessage): ModelMessage {
  const { graph } = model
  const constants = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]))
  const added = new Map<string, TensorMessage>()
  const nodes: NodeMessage[] = []
  const cast = (name: string, from: string, to: number) => {
    nodes.push({
      opType: 'Cast',
      name,
      input: [from],
      output: [name],
      attribute: [{ name: 'to', type: ATTRIBUTE_TYPES.int, i: to }],
    })
    return name
  }
  const halves = new Map<string, string>()
  for (const original of graph.node) {
    const parameters = original.input.slice(1).map((name) => constants.get(name))
    const fits = parameters.every(
      (tensor) => tensor !== undefined && floats(tensor).every((v) => Math.abs(v) <= FLOAT16_MAX),
    )
    if (original.opType !== 'Conv' || !fits) {
      nodes.push(original)
      continue
    }
    const [data] = original.input as [string]
    if (!halves.has(data)) halves.set(data, cast(`${data}.half`, data, ELEMENT_TYPES.float16))
    const constantInputs = parameters.map((tensor) => {
      const { name, dims } = tensor!
      const key = `${name}.half`
      if (!added.has(key)) {
        const half = Uint16Array.from(floats(tensor!), float16Bits)
        const rawData = new Uint8Array(half.buffer)
        added.set(key, { name: key, dims, dataType: ELEMENT_TYPES.float16, rawData })
      }
      return key
    })
    const [output] = original.output as [string]
    nodes.push({ ...original, input: [halves.get(data)!, ...constantInputs], output: [`${output}.half.out`] })
    cast(output, `${output}.half.out`, ELEMENT_TYPES.float32)
  }
  // A cast has the name of the tensor that it restores; the node keeps its own.
  const named = nodes.map((node) =>
    node.opType === 'Cast' && node.input[0]!.endsWith('.half.out') ? { ...node, name: `${node.name}.float` } : node,
  )
  return rebuilt(model, named, added)
}

/** Constants that nothing uses any more are left out. */
function rebuilt(model: ModelMessage, nodes: NodeMessage[], added: ReadonlyMap<string, TensorMessage>): ModelMessage {
  const used = new Set(nodes.flatMap(({ input }) => input))
  const initializer = [...model.graph.initializer, ...added.values()].filter(({ name }) => used.has(name))
  return { ...model, graph: { ...model.graph, node: nodes, initializer } }
}

/** uint8 scale and zero point of a range, widened to hold 0. */
export function activationScale([low, high]: Range): { scale: number; zero: number } {
  const least = Math.min(0, low)
  const most = Math.max(0, high)
  const scale = Math.fround((most - least) / 255) || 1
  return { scale, zero: clamp(Math.round(-least / scale), 255) }
}

/** Symmetric integers and a scale per output channel. */
export function weightIntegers(tensor: TensorMessage, bits: 7 | 8): { values: Int8Array; scales: Float32Array } {
  const data = floats(tensor)
  const channels = tensor.dims[0]!
  const size = data.length / channels
  const most = 2 ** (bits - 1) - 1
  const scales = new Float32Array(channels)
  const values = new Int8Array(data.length)
  for (let c = 0; c < channels; c++) {
    let largest = 0
    for (let i = c * size; i < (c + 1) * size; i++) largest = Math.max(largest, Math.abs(data[i]!))
    const scale = Math.fround(largest / most) || 1
    scales[c] = scale
    for (let i = c * size; i < (c + 1) * size; i++)
      values[i] = Math.max(-most, clamp(Math.round(data[i]! / scale), most))
  }
  return { values, scales }
}

function floats({ rawData, dataType }: TensorMessage): Float32Array {
  if (dataType !== ELEMENT_TYPES.float32) return new Float32Array(0)
  return new Float32Array(rawData.slice().buffer)
}

function clamp(value: number, most: number): number {
  return Math.max(-most, Math.min(most, value))
}

const single = new Float32Array(1)
const bits = new Uint32Array(single.buffer)

/** The bits of the nearest IEEE 754 half, ties to even, subnormals included. */
export function float16Bits(value: number): number {
  single[0] = value
  const word = bits[0]!
  const sign = (word >>> 16) & 0x8000
  const exponent = ((word >>> 23) & 0xff) - 112
  const mantissa = word & 0x7fffff
  if (exponent >= 31) return sign | 0x7c00 | (exponent === 143 && mantissa !== 0 ? 0x200 : 0)
  if (exponent <= 0) {
    if (exponent < -10) return sign
    return sign | roundShift(mantissa | 0x800000, 14 - exponent)
  }
  // A carry out of the mantissa moves into the exponent, as it should.
  return sign | ((exponent << 10) + roundShift(mantissa, 13))
}

function roundShift(value: number, shift: number): number {
  const whole = value >>> shift
  const rest = value & (2 ** shift - 1)
  const half = 2 ** (shift - 1)
  return whole + (rest > half || (rest === half && (whole & 1) === 1) ? 1 : 0)
}
