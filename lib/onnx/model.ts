// The whole ONNX model of a detector: input stage (cast, normalisation), network, and either final boxes (`detect`) or head
// outputs (`heads`). Decides nothing about files; see export.ts.
import type { BackboneGraph, DetectorConfig } from '../binding/types.js'
import { ConfigError, type ConfigProblem, ExportError } from '../errors.js'
import { createGraph, type Dim, type GraphBuilder } from './graph.js'
import type { FeatureMap, Parameters } from './layers.js'
import { addNetwork } from './network.js'
import { addPostprocess } from './postprocess.js'
import type { ElementType, ModelMessage } from './proto.js'

export const OPSET = 17
export const IR_VERSION = 8

/** What the graph's input holds and how it is normalised. */
export interface InputContract {
  /** `uint16`: grey levels after the modality transform; `float32` for values that do not fit. */
  type: 'uint16' | 'float32'
  /**
   * `dataset`: (x - mean) / std with the constants below; `image`: mean and population standard deviation of the image's own
   * non-zero pixels, reduced in the graph; `none`: the caller supplies normalised float32 [N, channels, H, W].
   */
  normalise: 'dataset' | 'image' | 'none'
  /** One number, or one per channel of the network; unused unless `dataset`. */
  mean: number[]
  std: number[]
  /** Height and width must be multiples of this; images are padded right and bottom with raw 0. */
  padMultiple: number
}

export interface ModelOptions {
  detector: DetectorConfig
  /** The engine's description of `detector.model.backbone`. */
  backbone: BackboneGraph
  parameters: Parameters
  input: InputContract
  graph: 'detect' | 'heads'
  /** `detect` only: run the box head around the best anchors instead of everywhere; the same boxes. */
  twoStep?: boolean
  /** Height and width of the input, or `dynamic`. */
  shape: 'dynamic' | [number, number]
  doc: string
  /** Written as metadata_props, keys without the prefix `mammo.`. */
  metadata: Record<string, string>
  producerVersion: string
}

/** Builds the model message. Throws ConfigError for an impossible contract, ExportError for what the writer does not know. */
export function buildModel(options: ModelOptions): ModelMessage {
  const { detector, input, shape } = options
  checkContract(options)
  const graph = createGraph()
  const batch: Dim = 'N'
  const size: [Dim, Dim] = shape === 'dynamic' ? ['H', 'W'] : shape
  const stage = addInput(graph, options, batch, size)
  const levels = addNetwork(graph, {
    model: detector.model,
    backbone: options.backbone,
    parameters: options.parameters,
    input: stage.map,
    batch,
    foldStem: stage.map.channels < detector.model.channels,
    exactHalves: input.padMultiple % 32 === 0,
    twoStep: options.twoStep ?? false,
  })
  if (options.graph === 'heads') {
    const nhwc = { perm: [0, 2, 3, 1] }
    const anchors = detector.anchors.ratios.length * detector.anchors.scales.length
    for (const output of levels) {
      const logits = graph.op('Transpose', `logits.p${output.level}`, [output.logits], nhwc)
      if (typeof output.deltas !== 'string') {
        throw new ExportError('ONNX_UNSUPPORTED', 'expected the graph "detect" for two steps, got "heads"')
      }
      const deltas = graph.op('Transpose', `deltas.p${output.level}`, [output.deltas], nhwc)
      const dims = (columns: number): Dim[] => [batch, ...output.size, columns]
      graph.output(logits, 'float32', dims(anchors * detector.model.classes), 'logits by row, column, anchor, class')
      graph.output(deltas, 'float32', dims(anchors * 4), 'box deltas by row, column, anchor, coordinate')
    }
  } else {
    const imageSize = graph.input('imageSize', 'int64', [batch, 2], 'height and width of each image before padding')
    const found = addPostprocess(graph, detector, levels, 'image', imageSize)
    graph.output(found.boxes, 'float32', ['D', 4], 'x1, y1, x2, y2 in input pixels, half-open')
    graph.output(found.scores, 'float32', ['D'], 'probability after the sigmoid, descending within an image')
    graph.output(found.labels, 'int64', ['D'], 'class index')
    graph.output(found.imageIndex, 'int64', ['D'], 'index of the image in the batch, ascending')
  }
  return {
    irVersion: IR_VERSION,
    producerName: 'mammo-retinanet',
    producerVersion: options.producerVersion,
    docString: options.doc,
    graph: graph.finish('mammo_retinanet', options.doc),
    opsetImport: [{ domain: '', version: OPSET }],
    metadataProps: Object.entries(options.metadata).map(([key, value]) => ({ key: `mammo.${key}`, value })),
  }
}

function checkContract({ detector, input, shape }: ModelOptions): void {
  const problems: ConfigProblem[] = []
  const { anchors, model } = detector
  const lists = { 'anchors.sizes': anchors.sizes, 'anchors.strides': anchors.strides }
  for (const [key, list] of Object.entries(lists)) {
    if (list.length !== model.levels.length) {
      problems.push({
        key,
        message: `${key}: expected ${model.levels.length} numbers, one per level, got ${list.length}`,
      })
    }
  }
  if (input.normalise === 'dataset') {
    const { mean, std } = input
    if (mean.length !== std.length || (mean.length !== 1 && mean.length !== model.channels)) {
      problems.push({
        key: 'input.mean',
        message: `input.mean: expected 1 or ${model.channels} means and as many deviations, got ${mean.length} and ${std.length}`,
      })
    }
    if (![...mean, ...std].every(Number.isFinite) || std.some((value) => value <= 0)) {
      problems.push({ key: 'input.std', message: 'input.std: expected finite means and deviations > 0' })
    }
  }
  if (input.normalise === 'none' && input.type !== 'float32') {
    problems.push({ key: 'export.normalise', message: 'export.normalise: false expects a float32 input, got uint16' })
  }
  if (shape !== 'dynamic' && shape.some((side) => side % input.padMultiple !== 0)) {
    problems.push({
      key: 'export.shape',
      message: `export.shape: expected multiples of ${input.padMultiple}, got ${shape.join('x')}`,
    })
  }
  if (problems.length > 0) throw new ConfigError(problems)
}

/** Declares `image` and returns the normalised map; one channel where the stem can be summed over its inputs. */
function addInput(graph: GraphBuilder, options: ModelOptions, batch: Dim, size: [Dim, Dim]): { map: FeatureMap } {
  const { detector, input } = options
  if (input.normalise === 'none') {
    const { channels } = detector.model
    const doc = 'normalised values, padded right and bottom with normalised raw 0'
    return { map: { value: graph.input('image', 'float32', [batch, channels, ...size], doc), channels, size } }
  }
  const type: ElementType = input.type
  const doc = 'grey levels after the modality transform, padded right and bottom with 0'
  const raw = graph.input('image', type, [batch, 1, ...size], doc)
  const grey = type === 'float32' ? raw : graph.op('Cast', 'input.float', [raw], { to: 1 })
  const [mean, std, channels] = input.normalise === 'image' ? imageStatistics(graph, grey) : constants(graph, input)
  const centred = graph.op('Sub', 'input.centred', [grey, mean])
  const value = graph.op('Div', 'input.normalised', [centred, std])
  graph.shape(value, [batch, channels, ...size])
  return { map: { value, channels, size } }
}

function constants(graph: GraphBuilder, input: InputContract): [string, string, number] {
  const same = (list: number[]) => list.every((value) => value === list[0])
  const channels = same(input.mean) && same(input.std) ? 1 : input.mean.length
  const column = (name: string, list: number[]) => graph.float(name, list.slice(0, channels), [1, channels, 1, 1])
  return [column('input.mean', input.mean), column('input.std', input.std), channels]
}

/**
 * Mean and population standard deviation over the non-zero pixels of each image, [N,1,1,1]. Rows are summed in float32, rows of
 * sums in float64: 14 million pixels up to 65535 would lose digits in one float32 sum. An empty image gets mean 0, deviation 1.
 */
function imageStatistics(graph: GraphBuilder, grey: string): [string, string, number] {
  const zero = graph.float('input.zero', [0], [])
  const one = graph.float('input.one', [1], [])
  const total = (name: string, value: string) => {
    const rows = graph.op('ReduceSum', `${name}.rows`, [value, graph.int64('axis.3', [3])], { keepdims: 1 })
    const wide = graph.op('Cast', `${name}.wide`, [rows], { to: 11 })
    return graph.op('ReduceSum', name, [wide, graph.int64('axis.2', [2])], { keepdims: 1 })
  }
  const narrow = (name: string, value: string) => graph.op('Cast', name, [value], { to: 1 })
  const breast = graph.op('Cast', 'input.breast', [graph.op('Greater', 'input.isBreast', [grey, zero])], { to: 1 })
  const count = total('input.count', breast)
  const atLeastOne = graph.op('Max', 'input.pixels', [count, graph.op('Cast', 'input.oneWide', [one], { to: 11 })])
  const mean = narrow('input.mean', graph.op('Div', 'input.meanWide', [total('input.sum', grey), atLeastOne]))
  const deviation = graph.op('Mul', 'input.deviation', [graph.op('Sub', 'input.difference', [grey, mean]), breast])
  const squares = total('input.squares', graph.op('Mul', 'input.square', [deviation, deviation]))
  const variance = graph.op('Div', 'input.varianceWide', [squares, atLeastOne])
  const root = narrow('input.root', graph.op('Sqrt', 'input.rootWide', [variance]))
  const std = graph.op('Where', 'input.std', [graph.op('Greater', 'input.varies', [root, zero]), root, one])
  return [mean, std, 1]
}
