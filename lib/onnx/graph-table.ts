// What an ONNX file of ours computes, as rows to print: nodes in order with operator, output and weights. Reads the file, runs nothing.
import { readFile } from 'node:fs/promises'
import { DataError } from '../errors.js'
import { decodeModel, ELEMENT_TYPES, type ModelMessage, type ValueInfoMessage } from './proto.js'

export interface GraphTable {
  name: string
  inputs: { name: string; type: string; shape: string; doc: string }[]
  outputs: { name: string; type: string; shape: string; doc: string }[]
  /** In the order of computation. `shape` is that of the first output where it is recorded, `weights` the numbers of constants that it alone reads first. */
  nodes: { name: string; operator: string; shape: string; weights: number }[]
  /** Nodes by operator, the most frequent first. */
  operators: Record<string, number>
  parameters: number
}

/** Throws DataError MODEL_MANIFEST for a file that cannot be read as an ONNX model of ours. */
export async function readGraphTable(path: string): Promise<GraphTable> {
  const fail = (cause: unknown) =>
    new DataError('MODEL_MANIFEST', 'expected an ONNX model that `export` wrote, got something else', {
      where: path,
      fix: 'give the .onnx file; a truncated file must be exported again',
      cause,
    })
  let model: ModelMessage
  try {
    model = decodeModel(await readFile(path))
  } catch (cause) {
    throw fail(cause)
  }
  if (model.graph?.name === undefined || model.graph.node.length === 0) throw fail(undefined)
  return graphTable(model)
}

export function graphTable({ graph }: ModelMessage): GraphTable {
  const shapes = new Map([...graph.valueInfo, ...graph.output].map((value) => [value.name, shapeText(value)]))
  const sizes = new Map(
    graph.initializer.map(({ name, dims }) => [name, dims.reduce((product, dim) => product * dim, 1)]),
  )
  const parameters = [...sizes.values()].reduce((sum, size) => sum + size, 0)
  const nodes = graph.node.map(({ name, opType, input, output }) => {
    let weights = 0
    for (const constant of input) {
      weights += sizes.get(constant) ?? 0
      sizes.delete(constant)
    }
    return { name, operator: opType, shape: shapes.get(output[0]!) ?? '', weights }
  })
  const counts = new Map<string, number>()
  for (const { operator } of nodes) counts.set(operator, (counts.get(operator) ?? 0) + 1)
  const operators = Object.fromEntries([...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)))
  return {
    name: graph.name,
    inputs: graph.input.map(described),
    outputs: graph.output.map(described),
    ...{ nodes, operators, parameters },
  }
}

function described(value: ValueInfoMessage) {
  const { elemType } = value.type.tensorType
  const type = Object.entries(ELEMENT_TYPES).find(([, number]) => number === elemType)?.[0] ?? `type ${elemType}`
  return { name: value.name, type, shape: shapeText(value), doc: value.docString ?? '' }
}

function shapeText({ type }: ValueInfoMessage): string {
  const dims = type.tensorType.shape?.dim ?? []
  return `[${dims.map((dim) => ('dimValue' in dim ? String(dim.dimValue) : dim.dimParam)).join(', ')}]`
}
