// Builds an ONNX graph node by node: readable names, constants, inputs, outputs, known shapes. A node's single output carries the
// node's name, so a name in an error message or a viewer is the place in our sources. Knows nothing of detectors.
import { InternalError } from '../errors.js'
import {
  ATTRIBUTE_TYPES,
  type AttributeMessage,
  ELEMENT_TYPES,
  type ElementType,
  type ModelMessage,
  type NodeMessage,
  type TensorMessage,
  type ValueInfoMessage,
} from './proto.js'

/** A number, or the name of a dimension that is only known at run time. */
export type Dim = number | string

/** Integers and integer lists become INT(S), `{ float }` FLOAT, texts STRING. */
export type Attribute = number | number[] | string | { float: number }

export interface GraphBuilder {
  /** Adds a node with one output named like the node; returns that name. */
  op(type: string, name: string, inputs: string[], attributes?: Record<string, Attribute>, doc?: string): string
  /** Adds a node with several outputs, named `<name>.<suffix>`; returns their names. */
  multi(
    type: string,
    name: string,
    inputs: string[],
    suffixes: string[],
    attributes?: Record<string, Attribute>,
  ): string[]
  /** A float32 constant. `dims` [] is a scalar. */
  float(name: string, data: ArrayLike<number>, dims: number[]): string
  /** An int64 constant; a number is a scalar, a list a vector. */
  int64(name: string, values: number | number[]): string
  input(name: string, type: ElementType, dims: Dim[], doc: string): string
  /** Declares an existing value as output of the graph, under its own name. */
  output(value: string, type: ElementType, dims: Dim[], doc: string): void
  /** Records the shape of an intermediate float32 value for viewers and checkers. */
  shape(value: string, dims: Dim[]): void
  finish(name: string, doc: string): ModelMessage['graph']
}

export function createGraph(): GraphBuilder {
  const nodes: NodeMessage[] = []
  const constants = new Map<string, TensorMessage>()
  const inputs: ValueInfoMessage[] = []
  const outputs: ValueInfoMessage[] = []
  const shapes = new Map<string, ValueInfoMessage>()
  const defined = new Set<string>()

  const define = (name: string) => {
    if (defined.has(name)) throw new InternalError(`expected unique names in the ONNX graph, got "${name}" twice`)
    defined.add(name)
  }
  const use = (names: string[], by: string) => {
    for (const name of names) {
      if (name !== '' && !defined.has(name)) {
        throw new InternalError(`expected an earlier value as input of ONNX node "${by}", got "${name}"`)
      }
    }
  }
  // Equal small constants share one tensor: the same name must then mean the same numbers.
  const constant = (name: string, dims: number[], type: ElementType, rawData: Uint8Array) => {
    const known = constants.get(name)
    if (known) {
      if (Buffer.compare(known.rawData, rawData) !== 0) {
        throw new InternalError(`expected one value for ONNX constant "${name}", got two`)
      }
      return name
    }
    define(name)
    constants.set(name, { name, dims, dataType: ELEMENT_TYPES[type], rawData })
    return name
  }
  const push = (
    type: string,
    name: string,
    input: string[],
    output: string[],
    attributes: Record<string, Attribute>,
    doc?: string,
  ) => {
    use(input, name)
    output.forEach(define)
    const attribute = Object.entries(attributes).map(([key, value]) => attributeMessage(key, value))
    nodes.push({ name, opType: type, input, output, attribute, ...(doc === undefined ? {} : { docString: doc }) })
  }

  return {
    op(type, name, input, attributes = {}, doc) {
      push(type, name, input, [name], attributes, doc)
      return name
    },
    multi(type, name, input, suffixes, attributes = {}) {
      const output = suffixes.map((suffix) => `${name}.${suffix}`)
      push(type, name, input, output, attributes)
      return output
    },
    float(name, data, dims) {
      const values = data instanceof Float32Array ? data : Float32Array.from(data)
      const size = dims.reduce((product, dim) => product * dim, 1)
      if (values.length !== size) {
        throw new InternalError(`expected ${size} numbers for ONNX constant "${name}", got ${values.length}`)
      }
      return constant(name, dims, 'float32', new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    },
    int64(name, values) {
      const list = typeof values === 'number' ? [values] : values
      const data = BigInt64Array.from(list, BigInt)
      return constant(name, typeof values === 'number' ? [] : [list.length], 'int64', new Uint8Array(data.buffer))
    },
    input(name, type, dims, doc) {
      define(name)
      inputs.push(valueInfo(name, type, dims, doc))
      return name
    },
    output(value, type, dims, doc) {
      use([value], 'output')
      shapes.delete(value)
      outputs.push(valueInfo(value, type, dims, doc))
    },
    shape(value, dims) {
      use([value], 'shape')
      shapes.set(value, valueInfo(value, 'float32', dims))
    },
    finish(name, doc) {
      return {
        name,
        docString: doc,
        node: nodes,
        initializer: [...constants.values()],
        input: inputs,
        output: outputs,
        valueInfo: [...shapes.values()],
      }
    },
  }
}

function attributeMessage(name: string, value: Attribute): AttributeMessage {
  if (typeof value === 'number') return { name, type: ATTRIBUTE_TYPES.int, i: value }
  if (typeof value === 'string') return { name, type: ATTRIBUTE_TYPES.string, s: Buffer.from(value, 'utf8') }
  if (Array.isArray(value)) return { name, type: ATTRIBUTE_TYPES.ints, ints: value }
  return { name, type: ATTRIBUTE_TYPES.float, f: value.float }
}

function valueInfo(name: string, type: ElementType, dims: Dim[], doc?: string): ValueInfoMessage {
  const dim = dims.map((size) => (typeof size === 'number' ? { dimValue: size } : { dimParam: size }))
  return {
    name,
    type: { tensorType: { elemType: ELEMENT_TYPES[type], shape: { dim } } },
    ...(doc === undefined ? {} : { docString: doc }),
  }
}
