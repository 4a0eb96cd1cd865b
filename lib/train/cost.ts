// What a training step costs before it runs: multiply-adds by part, and the peak of its memory. Pure arithmetic on the network's
// description; it knows how native/core works (folded norms and in-place ReLU share a buffer, heads run level by level, a
// checkpointed backbone keeps block ends or small maps), not how fast a machine is. Checked against measured peaks in test/train/cost.test.ts.
import type { BackboneGraph, BackboneNode, ModelConfig, Recompute } from '../binding/types.js'

export interface CostSetting {
  model: ModelConfig
  backbone: BackboneGraph
  anchorsPerCell: number
  height: number
  width: number
  batch: number
  optimizer: 'sgd' | 'adam' | 'adamw'
}

export interface Cost {
  /** Multiply-adds of one forward pass of the batch. */
  macs: { backbone: number; neck: number; classification: number; box: number }
  /** Multiply-adds of the towers of each level. */
  headMacsByLevel: Record<number, number>
  /** Bytes that the convolutions of one forward pass read and write: inputs, weights, outputs, each once. */
  traffic: { backbone: number; neck: number; classification: number; box: number }
  /** Of the towers of each level. */
  headTrafficByLevel: Record<number, number>
  /** Of a training step: forward, and backward at twice the forward for what is trained; the sparse box tower counts as nothing. */
  stepMacs: number
  parameters: { all: number; trained: number }
  bytes: {
    /** Activations at the worst moment. */
    activations: number
    /** Gradients that are there at that moment, and moments of the optimiser. */
    optimizer: number
    /** Second copies of frozen weights, in the form that their convolution reads. */
    laidOut: number
    /** What a step adds to the process that holds the parameters. */
    step: number
  }
  /** What is running at the worst moment. */
  worst: 'head' | 'backbone forward' | 'backbone backward'
}

const FLOAT = 4
const STRIP_BYTES = 2 ** 25

/** The cost of one step. */
export function stepCost({ model, backbone, anchorsPerCell, height, width, batch, optimizer }: CostSetting): Cost {
  const { frozenStages, fpnChannels: w } = model
  const again = model.checkpointActivations
  const area = (stride: number) => Math.ceil(height / stride) * Math.ceil(width / stride)
  const bytesOf = (set: Iterable<number>) => [...set].reduce((sum, b) => sum + (size.get(b) ?? 0), 0)
  const inputs = new Map<number, { channels: number; stride: number }>([[-1, { channels: model.channels, stride: 1 }]])
  const buffer = new Map<number, number>([[-1, -1]])
  const size = new Map<number, number>([[-1, model.channels * area(1)]])
  const saved = new Set<number>()
  let [macs, trainedMacs, againMacs, all, trained, laidOut] = [0, 0, 0, 0, 0, 0]
  let [indices, block, worstBlock, group] = [0, 0, 0, 0]
  let below: number | undefined
  let convolutions: { node: number; macs: number }[] = []
  let c3Begun = false
  const frozen: { elements: number; node: BackboneNode }[] = []
  const input = model.channels * area(1)
  const lowest = model.levels[0]!
  // Of the batch: maps once per image, weights once.
  const moved = (maps: number, weights: number) => FLOAT * (batch * maps + weights)
  let backboneTraffic = 0
  for (const [i, node] of backbone.nodes.entries()) {
    const from = node.inputs[0] ?? -1
    const source = inputs.get(from)!
    const stride = node.op === 'globalAvgPool' ? Math.max(height, width) : source.stride * (node.stride ?? 1)
    inputs.set(i, { channels: node.channels, stride })
    const elements = node.channels * area(stride)
    const train = node.stage > frozenStages
    // Block by block all but the stem; early the blocks up to the first of C3.
    const recomputed =
      train && again && node.stage > 1 && (again !== 'early' || node.stage < 3 || (node.stage === 3 && !c3Begun))
    const fresh =
      !['batchNorm', 'relu', 'relu6', 'add'].includes(node.op) || (node.op === 'batchNorm' && model.norm === 'train')
    buffer.set(i, fresh ? i : buffer.get(from)!)
    if (fresh) size.set(i, elements)
    if (node.op === 'conv') {
      const weights = (node.channels * source.channels * node.kernel! ** 2) / (node.groups ?? 1)
      macs += weights * area(stride)
      all += weights
      convolutions.push({ node: i, macs: weights * area(stride) })
      backboneTraffic += moved(source.channels * area(source.stride) + elements, weights)
      if (train) {
        trainedMacs += weights * area(stride)
        if (recomputed) againMacs += weights * area(stride)
        trained += weights
      } else laidOut += laidOutWeights(node, source.channels, weights)
    }
    if (fresh) block += elements
    // Of the two that are added one goes into the other.
    const ofBlock = (input: number) => convolutions.some(({ node }) => node === input - 1)
    if (node.op === 'add' && node.inputs.every(ofBlock)) block -= elements
    if (!train) frozen.push({ elements, node })
    // Of a ReLU and a pool in one a byte per pixel is kept, and not what they read.
    const pool = node.op === 'maxPool' && backbone.nodes[from]?.op === 'relu'
    if (train && pool) indices += elements / FLOAT
    if (train && !recomputed && !pool && node.op !== 'add')
      for (const input of node.inputs) if (fresh) saved.add(buffer.get(input)!)
    // What is computed again starts from a map that stays; behind frozen stages nothing else keeps it, but a tap (below).
    const last = backbone.nodes[from]?.stage ?? 0
    const starts = recomputed && last > 0 && last <= frozenStages && !(last >= lowest && last <= 5)
    if (starts) saved.add(buffer.get(from)!)
    if (recomputed) below ??= bytesOf(saved)
    const end = node.op === 'maxPool' || (node.op === 'relu' && backbone.nodes[from]?.op === 'add')
    if (!end) continue
    if (again === 'early' && recomputed) {
      // Of each block what is at most half as large as its end; in the end all maps of all blocks are there, and gradients.
      for (const { node: conv, macs } of convolutions) {
        if (2 * size.get(conv)! > elements) continue
        saved.add(conv)
        againMacs -= macs
      }
      group += block
      if (node.stage === 3) {
        saved.add(buffer.get(i)!)
        worstBlock = below! + group + 6 * elements
      }
    } else if (train) {
      saved.add(buffer.get(i)!)
      if (recomputed) worstBlock = Math.max(worstBlock, bytesOf(saved) + block + 4 * elements)
    }
    if (node.stage === 3) c3Begun = true
    block = 0
    convolutions = []
  }

  let neck = 0
  let neckWeights = 0
  let neckTraffic = 0
  let merged = 0
  const tapAt = new Map(backbone.taps.map((tap) => [tap.level, tap]))
  let taps = 0
  for (let level = 5; level >= lowest; level--) {
    const tap = tapAt.get(level)
    if (tap === undefined) continue
    neck += tap.channels * w * area(tap.stride)
    neckWeights += tap.channels * w
    neckTraffic += moved((tap.channels + w) * area(tap.stride), tap.channels * w)
    merged += w * area(tap.stride)
    if (level <= frozenStages) taps += tap.channels * area(tap.stride)
  }
  const perAnchor = { classification: model.classes, box: 4 }
  const towers = { classification: 0, box: 0 }
  const towerTraffic = { classification: 0, box: 0 }
  const headMacsByLevel: Record<number, number> = {}
  const headTrafficByLevel: Record<number, number> = {}
  for (const level of model.levels) {
    const cells = area(2 ** level)
    const from = level === 6 && model.p6Source === 'c5' ? (tapAt.get(5)?.channels ?? w) : w
    neck += 9 * from * w * cells
    neckWeights += 9 * from * w
    const fromCells = level > 5 ? area(2 ** (level - 1)) : cells
    neckTraffic += moved(from * fromCells + w * cells, 9 * from * w)
    headMacsByLevel[level] = 0
    headTrafficByLevel[level] = 0
    for (const part of ['classification', 'box'] as const) {
      const one = 9 * cells * w * (w * model.headDepth + anchorsPerCell * perAnchor[part])
      towers[part] += one
      headMacsByLevel[level] += one * batch
      const outputs = anchorsPerCell * perAnchor[part]
      const bytes = moved(
        cells * w * (2 * model.headDepth + 1) + cells * outputs,
        9 * w * (w * model.headDepth + outputs),
      )
      towerTraffic[part] += bytes
      headTrafficByLevel[level] += bytes
    }
  }
  const headWeights = 9 * w * (2 * w * model.headDepth + anchorsPerCell * (perAnchor.classification + perAnchor.box))
  const cells = area(2 ** lowest)
  const columns = Math.ceil(width / 2 ** lowest)
  const strip =
    model.headNorm.classification === 'none'
      ? columns * stripRows(cells / columns, columns * w * batch, model.headDepth + 1)
      : cells
  // Inputs of the tower's convolutions, then a gradient on its way through a convolution (in, out) and one reordered copy.
  // A group norm keeps its own input beside them.
  const keptMaps = model.headDepth * (model.headNorm.classification === 'group' ? 2 : 1)
  const head = strip * (w * (keptMaps + 3) + 2 * anchorsPerCell * model.classes)
  const kept = bytesOf(saved) + indices
  // One level's map and its gradient are there at a time.
  const map = 2 * w * cells
  // Gradients of the body do not exist before its backward.
  const late = neckWeights + headWeights
  const trainedAll = trained + late
  const moments = {
    head: { maps: input + kept + taps + merged + map + head, gradients: late },
    'backbone forward': { maps: input + kept + worstWithoutGradient(frozen), gradients: 0 },
    'backbone backward': { maps: again === false ? 0 : indices + worstBlock, gradients: trainedAll },
  }
  const at = (name: keyof typeof moments) => batch * moments[name].maps + moments[name].gradients
  const worst = (Object.keys(moments) as (keyof typeof moments)[]).reduce((a, b) => (at(b) > at(a) ? b : a))
  const activations = FLOAT * batch * moments[worst].maps
  const optimizerBytes = FLOAT * (moments[worst].gradients + trainedAll * (optimizer === 'sgd' ? 1 : 2))
  return {
    macs: { backbone: batch * macs, neck: batch * neck, ...mapped(towers, (m) => batch * m) },
    headMacsByLevel,
    traffic: { backbone: backboneTraffic, neck: neckTraffic, ...towerTraffic },
    headTrafficByLevel,
    stepMacs:
      batch *
      (macs +
        againMacs +
        2 * trainedMacs +
        3 * neck +
        3 * towers.classification +
        (model.headNorm.box === 'none' ? 0 : 3 * towers.box)),
    parameters: { all: all + neckWeights + headWeights, trained: trainedAll },
    bytes: {
      ...{ activations, optimizer: optimizerBytes, laidOut: FLOAT * laidOut },
      step: activations + optimizerBytes + FLOAT * laidOut,
    },
    worst,
  }
}

/** Most numbers that are there at once while the frozen nodes, a head of the backbone, run: every map until its last reader has run. */
function worstWithoutGradient(frozen: readonly { elements: number; node: BackboneNode }[]): number {
  const lastReader = frozen.map((_, i) => i)
  for (const [i, { node }] of frozen.entries()) for (const input of node.inputs) if (input >= 0) lastReader[input] = i
  // In place are norms and activations, and the addition into the shortcut. A convolution before it is done in the same call.
  const owner: number[] = []
  let worst = 0
  for (const [i, { node }] of frozen.entries()) {
    const [first = -1, second = -1] = node.inputs
    const inPlace = ['batchNorm', 'relu', 'relu6', 'add'].includes(node.op) && first >= 0
    owner.push(inPlace ? owner[node.op === 'add' ? Math.min(first, second) : first]! : i)
    const [norm, add] = [frozen[i + 1]?.node, frozen[i + 2]?.node]
    const joins = node.op === 'conv' && norm?.op === 'batchNorm' && add?.op === 'add' && add.inputs.includes(i + 1)
    if (joins) owner[i] = owner[add.inputs.find((other) => other !== i + 1)!]!
    const live = new Set(owner.filter((_, j) => j === i || lastReader[j]! >= i))
    worst = Math.max(
      worst,
      [...live].reduce((sum, j) => sum + frozen[j]!.elements, 0),
    )
  }
  return worst
}

/** Numbers that native/core/model/packed_conv.cc keeps of a frozen convolution. */
function laidOutWeights(
  { channels, kernel, stride = 1, groups = 1 }: BackboneNode,
  inputs: number,
  weights: number,
): number {
  const winograd = kernel === 3 && stride === 1 && groups === 1 && inputs % 16 === 0 && channels % 16 === 0
  if (!winograd) return weights
  const transformed = 16 * inputs * Math.ceil(channels / 32) * 32
  return transformed <= 2 ** 20 ? transformed : 0
}

/** Rows whose classification tower is trained at once, border and all, as native/core/loss.cc chooses them; `row`: numbers in a row of the batch. */
function stripRows(rows: number, row: number, radius: number): number {
  const strip = Math.max(Math.ceil(rows / Math.ceil((FLOAT * rows * row) / STRIP_BYTES)), 4 * radius)
  return Math.min(rows, strip + 2 * radius)
}

function mapped<K extends string>(of: Record<K, number>, by: (n: number) => number): Record<K, number> {
  return Object.fromEntries(Object.entries<number>(of).map(([k, v]) => [k, by(v)])) as Record<K, number>
}

export interface Suggestion {
  change: string
  stepBytes: number
}

/** Changes that make the step smaller, the mildest first, each with what it then needs. */
export function smallerSteps(setting: CostSetting): Suggestion[] {
  const { model } = setting
  const found: Suggestion[] = []
  const add = (change: string, smaller: CostSetting) => found.push({ change, stepBytes: stepCost(smaller).bytes.step })
  if (setting.batch > 1) add('data.batchSize=1', { ...setting, batch: 1 })
  const again = (checkpointActivations: Recompute) =>
    add(`model.checkpointActivations=${checkpointActivations}`, {
      ...setting,
      model: { ...model, checkpointActivations },
    })
  if (!model.checkpointActivations && model.frozenStages < 3) again('early')
  if (model.checkpointActivations !== true && model.frozenStages < 5) again(true)
  if (model.frozenStages < 5) add('model.frozenStages=5', { ...setting, model: { ...model, frozenStages: 5 } })
  if (model.levels[0]! < 4 && model.levels.at(-1)! > 4)
    add('levels P4 and up', { ...setting, model: { ...model, levels: model.levels.filter((level) => level >= 4) } })
  return found
}
