// The network as ONNX nodes: the backbone (backbone.ts), feature pyramid, shared heads. Names follow our parameter names.
// Architecture: Lin et al. 2017 (FPN, RetinaNet); switches in lib/binding/types.ts ModelConfig.
import type { BackboneGraph, ModelConfig } from '../binding/types.js'
import { ExportError } from '../errors.js'
import { addBackbone } from './backbone.js'
import { type AnchorPlaces, addWindowedDeltas } from './box-windows.js'
import type { Dim, GraphBuilder } from './graph.js'
import { type Build, convolve, type FeatureMap, groupNorm, type Parameters, parameter, relu } from './layers.js'

/** One pyramid level's head outputs, NCHW: logits [N, A*K, h, w]. */
export interface LevelOutput {
  level: number
  logits: string
  /** [N, A*4, h, w], or what adds the box head around chosen anchors only and returns their deltas [N, k, 4]. */
  deltas: string | ((places: AnchorPlaces) => string)
  size: [Dim, Dim]
}

/** The heads' epsilon is PyTorch's default; `normEps` belongs to the backbone. */
const HEAD_NORM_EPS = 1e-5

export interface NetworkOptions {
  model: ModelConfig
  /** What `model.backbone` computes, as the engine describes it. */
  backbone: BackboneGraph
  parameters: Parameters
  /** Normalised input, [N, channels, H, W]. */
  input: FeatureMap
  batch: Dim
  /** Sum the stem's input channels: the same map was meant for all of them. */
  foldStem: boolean
  exactHalves: boolean
  /** Run the box head only around the anchors that the classification chooses. */
  twoStep?: boolean
}

/** Adds the whole network and returns the head outputs, one per configured level. */
export function addNetwork(graph: GraphBuilder, options: NetworkOptions): LevelOutput[] {
  const build: Build = { graph, ...options }
  const taps = addBackbone(build, options.input, options.foldStem)
  return addHeads(build, addPyramid(build, taps), options.twoStep ?? false)
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
    pyramid.set(level, convolve(build, source, `fpn.extra.${level}`, { stride: 2, padding: model.padding }))
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

function addHeads(build: Build, pyramid: Map<number, FeatureMap>, twoStep: boolean): LevelOutput[] {
  const { graph, model } = build
  if (twoStep && model.headNorm.box !== 'none') {
    throw new ExportError(
      'ONNX_UNSUPPORTED',
      'expected a box head without group norm for the two-step graph, got one with it',
      { fix: 'export without --two-step: the statistics of its group norm need the whole map' },
    )
  }
  const tower = (
    kind: 'cls' | 'box',
    norm: 'none' | 'group',
    last: string,
    level: number,
    from: FeatureMap,
    batch = build.batch,
  ) => {
    const inside = { ...build, batch }
    let map = from
    for (let i = 0; i < model.headDepth; i++) {
      const name = `head.${kind}.tower.${i}`
      const node = `head.${kind}.p${level}.tower.${i}`
      map = convolve(inside, map, `${name}.conv`, { node: `${node}.conv` })
      if (norm === 'group') map = groupNorm(inside, map, `${name}.norm`, node, HEAD_NORM_EPS)
      map = relu(inside, map, `${node}.relu`)
    }
    return convolve(inside, map, `head.${kind}.${last}`, { node: `head.${kind}.p${level}.${last}` }).value
  }
  const windowed = (level: number, map: FeatureMap) => (places: AnchorPlaces) =>
    addWindowedDeltas(graph, {
      ...{ level, map, places, reach: model.headDepth + 1 },
      anchorsPerCell: parameter(build, 'head.box.deltas.weight').shape[0]! / 4,
      tower: (windows, batch) => tower('box', 'none', 'deltas', level, windows, batch),
    })
  return [...pyramid].map(([level, map]) => ({
    level,
    logits: tower('cls', model.headNorm.classification, 'logits', level, map),
    deltas: twoStep ? windowed(level, map) : tower('box', model.headNorm.box, 'deltas', level, map),
    size: map.size,
  }))
}
