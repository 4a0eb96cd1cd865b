// Head outputs to final boxes inside the ONNX graph: per-level top-k on logits, anchors of the selected indices only, decoding,
// clipping, score floor, class-wise NMS, one order. The rules are those of DetectorConfig; geometry is float32 throughout.
import type { DetectorConfig } from '../binding/types.js'
import { cellAnchors } from './anchors.js'
import type { GraphBuilder } from './graph.js'
import type { LevelOutput } from './network.js'

interface Candidates {
  /** int64 [N,k] */
  labels: string
  /** float32 [N,k] */
  logits: string
  /** float32 [N,k,4] */
  deltas: string
  /** float32 [N,k,4] */
  anchors: string
}

export interface DetectionOutputs {
  boxes: string
  scores: string
  labels: string
  imageIndex: string
}

/** Logits this far below the score floor stay candidates; the exact cut is made on the score afterwards. */
const LOGIT_MARGIN = 1e-2

/**
 * Adds the post-processing. `image` is the network input [N,C,H,W], `imageSize` int64 [N,2] (height, width before padding).
 * Order of the detections: image, then score descending, ties by lower anchor index.
 */
export function addPostprocess(
  graph: GraphBuilder,
  detector: DetectorConfig,
  levels: LevelOutput[],
  image: string,
  imageSize: string,
): DetectionOutputs {
  const parts = levels.map((output, index) => addCandidates(graph, detector, output, index, image))
  const join = (key: keyof Candidates) =>
    parts.length === 1
      ? parts[0]![key]
      : graph.op(
          'Concat',
          `post.${key}`,
          parts.map((part) => part[key]),
          { axis: 1 },
        )
  const labels = join('labels')
  const decoded = addDecode(graph, detector.coder, join('deltas'), join('anchors'))
  const boxes = addClip(graph, detector.post.clip, decoded, image, imageSize)
  const scores = addMinSize(graph, detector.post.minSize, boxes, graph.op('Sigmoid', 'post.scores', [join('logits')]))
  return addSelection(graph, detector, boxes, scores, labels)
}

/** The best candidates of one level, in the order of their flat index (y, x, anchor, class). */
function addCandidates(
  graph: GraphBuilder,
  detector: DetectorConfig,
  output: LevelOutput,
  index: number,
  image: string,
): Candidates {
  const { post, anchors, model } = detector
  const perCell = anchors.ratios.length * anchors.scales.length
  const name = (part: string) => `post.p${output.level}.${part}`
  const scalar = (value: number) => graph.int64(`int.${value}`, value)
  const rows = (part: string, value: string, columns: number[]) =>
    graph.op('Reshape', name(part), [
      graph.op('Transpose', name(`${part}.nhwc`), [value], { perm: [0, 2, 3, 1] }),
      graph.int64(`rows.${columns.join('x')}`, [0, ...columns]),
    ])

  const bestClass = post.bestClassOnly && model.classes > 1
  let flat = rows('logits', output.logits, bestClass ? [-1, model.classes] : [-1])
  let bestLabels = ''
  if (bestClass) {
    bestLabels = graph.op('ArgMax', name('bestClass'), [flat], { axis: 2, keepdims: 0 })
    flat = graph.op('ReduceMax', name('bestLogit'), [flat], { axes: [2], keepdims: 0 })
  }

  const floor = graph.float('post.logitFloor', [logitFloor(post.scoreThreshold)], [])
  const above = graph.op('Cast', name('above'), [graph.op('Greater', name('isAbove'), [flat, floor])], { to: 6 })
  const perImage = graph.op('ReduceSum', name('abovePerImage'), [above, graph.int64('axis.1', [1])], { keepdims: 0 })
  const most = graph.op('Cast', name('available'), [graph.op('ReduceMax', name('most'), [perImage], { keepdims: 0 })], {
    to: 7,
  })
  // TopK fails when k exceeds the count, and an empty candidate list would need special cases everywhere after it.
  let k = graph.op('Max', name('atLeastOne'), [most, scalar(1)])
  if (post.topkPerLevel !== null) k = graph.op('Min', name('k'), [k, scalar(post.topkPerLevel)])
  k = graph.op('Reshape', name('kVector'), [k, graph.int64('axis.1', [1])])
  const [, best] = graph.multi('TopK', name('topk'), [flat, k], ['values', 'indices'], { axis: 1 }) as [string, string]
  const [chosen] = graph.multi('TopK', name('byIndex'), [best, k], ['values', 'order'], { axis: 1, largest: 0 }) as [
    string,
  ]
  const logits = graph.op('GatherElements', name('chosenLogits'), [flat, chosen], { axis: 1 })

  let anchor: string
  let labels: string
  if (bestClass) {
    anchor = chosen
    labels = graph.op('GatherElements', name('labels'), [bestLabels, chosen], { axis: 1 })
  } else {
    anchor = graph.op('Div', name('anchor'), [chosen, scalar(model.classes)])
    labels = graph.op('Mod', name('labels'), [chosen, scalar(model.classes)])
  }
  const shape = graph.op('Shape', name('shape'), [output.logits])
  const width = graph.op('Gather', name('width'), [shape, scalar(3)])
  const cell = graph.op('Div', name('cell'), [anchor, scalar(perCell)])
  const inCell = graph.op('Mod', name('inCell'), [anchor, scalar(perCell)])
  const places = {
    x: graph.op('Mod', name('x'), [cell, width]),
    y: graph.op('Div', name('y'), [cell, width]),
    inCell,
  }
  const corner = (axis: 'x' | 'y') =>
    graph.op('Unsqueeze', name(`${axis}.column`), [
      graph.op('Cast', name(`${axis}.float`), [places[axis]], { to: 1 }),
      graph.int64('axis.2', [2]),
    ])
  const x = corner('x')
  const y = corner('y')
  let position = graph.op('Concat', name('position'), [x, y, x, y], { axis: 2 })
  if (anchors.offset !== 0) {
    position = graph.op('Add', name('centred'), [position, graph.float('post.offset', [anchors.offset], [])])
  }
  const centre = graph.op('Mul', name('centre'), [position, addStride(graph, detector, index, shape, image, name)])
  const base = graph.float(name('cellAnchors'), cellAnchors(anchors, index), [perCell, 4])
  const anchorBoxes = graph.op('Add', name('anchors'), [graph.op('Gather', name('shapes'), [base, inCell]), centre])

  if (typeof output.deltas !== 'string') {
    return { labels, logits, deltas: output.deltas(places), anchors: anchorBoxes }
  }
  const pick = graph.op('Unsqueeze', name('pick'), [anchor, graph.int64('axis.2', [2])])
  const deltas = graph.op('GatherND', name('chosenDeltas'), [rows('deltas', output.deltas, [-1, 4]), pick], {
    batch_dims: 1,
  })
  return { labels, logits, deltas, anchors: anchorBoxes }
}

/** float32 [4]: x, y, x, y stride of a level; a declared constant unless the semantics divides the padded size by the map's. */
function addStride(
  graph: GraphBuilder,
  detector: DetectorConfig,
  index: number,
  shape: string,
  image: string,
  name: (part: string) => string,
): string {
  if (detector.anchors.strideRule === 'configured') {
    return graph.float(name('stride'), new Array<number>(4).fill(detector.anchors.strides[index]!), [4])
  }
  const xyxy = graph.int64('axes.xyxy', [3, 2, 3, 2])
  const padded = graph.op('Gather', name('padded'), [graph.op('Shape', name('paddedShape'), [image]), xyxy])
  const cells = graph.op('Gather', name('cells'), [shape, xyxy])
  return graph.op('Cast', name('stride'), [graph.op('Div', name('stride.int'), [padded, cells])], { to: 1 })
}

/** The logit just below the score floor; sigmoid is monotone, so nothing above the floor is lost. */
function logitFloor(score: number): number {
  if (score <= 0) return -3.4e38
  if (score >= 1) return 3.4e38
  return Math.log(score / (1 - score)) - LOGIT_MARGIN
}

function addDecode(graph: GraphBuilder, coder: DetectorConfig['coder'], deltas: string, anchors: string): string {
  const last = graph.int64('axis.2', [2])
  const halves = (name: string, value: string) => [
    graph.op('Slice', `${name}.xy`, [value, graph.int64('slice.0', [0]), graph.int64('slice.2', [2]), last]),
    graph.op('Slice', `${name}.zw`, [value, graph.int64('slice.2', [2]), graph.int64('slice.4', [4]), last]),
  ]
  const name = 'post.decode'
  const [low, high] = halves(`${name}.anchor`, anchors) as [string, string]
  const size = graph.op('Sub', `${name}.anchorSize`, [high, low])
  if (coder.kind === 'corner') {
    const sides = graph.op('Concat', `${name}.sides`, [size, size], { axis: 2 })
    const scaled = graph.op('Mul', `${name}.scaled`, [deltas, graph.float(`${name}.std`, coder.weights, [4])])
    return graph.op('Add', name, [anchors, graph.op('Mul', `${name}.shift`, [scaled, sides])])
  }
  const unit = coder.weights.every((weight) => weight === 1)
  const scaled = unit
    ? deltas
    : graph.op('Div', `${name}.unweighted`, [deltas, graph.float(`${name}.weights`, coder.weights, [4])])
  const [shift, logSize] = halves(`${name}.delta`, scaled) as [string, string]
  const half = graph.float('post.half', [0.5], [])
  const anchorCentre = graph.op('Add', `${name}.anchorCentre`, [
    low,
    graph.op('Mul', `${name}.anchorHalf`, [size, half]),
  ])
  const centre = graph.op('Add', `${name}.centre`, [graph.op('Mul', `${name}.move`, [shift, size]), anchorCentre])
  const limited =
    coder.clamp === null
      ? logSize
      : graph.op('Min', `${name}.clamped`, [logSize, graph.float(`${name}.clamp`, [coder.clamp], [])])
  const newSize = graph.op('Mul', `${name}.size`, [graph.op('Exp', `${name}.growth`, [limited]), size])
  const newHalf = graph.op('Mul', `${name}.half`, [newSize, half])
  const corners = [
    graph.op('Sub', `${name}.low`, [centre, newHalf]),
    graph.op('Add', `${name}.high`, [centre, newHalf]),
  ]
  return graph.op('Concat', name, corners, { axis: 2 })
}

function addClip(
  graph: GraphBuilder,
  rule: DetectorConfig['post']['clip'],
  boxes: string,
  image: string,
  imageSize: string,
): string {
  if (rule === 'none') return boxes
  let limit: string
  if (rule === 'image') {
    const order = graph.int64('axes.whwh', [1, 0, 1, 0])
    const sizes = graph.op('Gather', 'post.clip.sizes', [imageSize, order], { axis: 1 })
    const column = graph.op('Unsqueeze', 'post.clip.column', [sizes, graph.int64('axis.1', [1])])
    limit = graph.op('Cast', 'post.clip.limit', [column], { to: 1 })
  } else {
    const shape = graph.op('Shape', 'post.clip.shape', [image])
    const canvas = graph.op('Gather', 'post.clip.canvas', [shape, graph.int64('axes.xyxy', [3, 2, 3, 2])])
    const last = graph.op('Sub', 'post.clip.last', [canvas, graph.int64('int.1', 1)])
    limit = graph.op('Cast', 'post.clip.limit', [last], { to: 1 })
  }
  const zero = graph.float('post.zero', [0], [])
  return graph.op('Min', 'post.boxes', [graph.op('Max', 'post.clip.low', [boxes, zero]), limit])
}

/** Scores of boxes with a short side become -1, below every floor. */
function addMinSize(graph: GraphBuilder, minSize: number, boxes: string, scores: string): string {
  if (minSize <= 0) return scores
  const last = graph.int64('axis.2', [2])
  const high = graph.op('Slice', 'post.small.high', [
    boxes,
    graph.int64('slice.2', [2]),
    graph.int64('slice.4', [4]),
    last,
  ])
  const low = graph.op('Slice', 'post.small.low', [boxes, graph.int64('slice.0', [0]), last, last])
  const sides = graph.op('Sub', 'post.small.sides', [high, low])
  const side = graph.op('ReduceMin', 'post.small.side', [sides], { axes: [2], keepdims: 0 })
  const small = graph.op('Less', 'post.small.is', [side, graph.float('post.small.limit', [minSize], [])])
  return graph.op('Where', 'post.largeScores', [small, graph.float('post.rejected', [-1], []), scores])
}

/** NMS, then one list per image in the documented order, at most `maxDetections` of each. */
function addSelection(
  graph: GraphBuilder,
  detector: DetectorConfig,
  boxes: string,
  scores: string,
  labels: string,
): DetectionOutputs {
  const { post, model } = detector
  const rejected = graph.float('post.rejected', [-1], [])
  const rowOf = graph.op('Unsqueeze', 'post.scoreRow', [scores, graph.int64('axis.1', [1])])
  let perClass = rowOf
  if (!post.agnostic && !post.bestClassOnly && model.classes > 1) {
    const classes = graph.op('Reshape', 'post.classes', [
      graph.int64('post.classIndices', [...Array(model.classes).keys()]),
      graph.int64('post.classColumn', [1, model.classes, 1]),
    ])
    const labelRow = graph.op('Unsqueeze', 'post.labelRow', [labels, graph.int64('axis.1', [1])])
    const same = graph.op('Equal', 'post.isClass', [labelRow, classes])
    perClass = graph.op('Where', 'post.scoresPerClass', [same, rowOf, rejected])
  }
  const selected = graph.op('NonMaxSuppression', 'post.nms', [
    boxes,
    perClass,
    graph.int64('post.maxDetections', [post.maxDetections]),
    graph.float('post.nmsIou', [post.nmsIou], [1]),
    graph.float('post.scoreFloor', [post.scoreThreshold], [1]),
  ])
  // Back to one [N,T] table of kept scores: its TopK orders all classes together, ties by the lower (anchor) index.
  const places = graph.op('Gather', 'post.places', [selected, graph.int64('post.imageAndCandidate', [0, 2])], {
    axis: 1,
  })
  const none = graph.op('Expand', 'post.none', [rejected, graph.op('Shape', 'post.tableShape', [scores])])
  const kept = graph.op('ScatterND', 'post.kept', [
    none,
    places,
    graph.op('GatherND', 'post.keptScores', [scores, places]),
  ])
  const candidates = graph.op('Gather', 'post.candidates', [
    graph.op('Shape', 'post.keptShape', [kept]),
    graph.int64('axis.1', [1]),
  ])
  const k = graph.op('Min', 'post.limit', [candidates, graph.int64('post.maxDetections', [post.maxDetections])])
  const [ranked, order] = graph.multi('TopK', 'post.ranked', [kept, k], ['scores', 'candidates'], { axis: 1 }) as [
    string,
    string,
  ]
  const isDetection = graph.op('Greater', 'post.isDetection', [
    ranked,
    graph.float('post.scoreCut', [post.scoreThreshold], []),
  ])
  const rows = graph.op('Transpose', 'post.rows', [graph.op('NonZero', 'post.nonZero', [isDetection])], {
    perm: [1, 0],
  })
  const imageIndex = graph.op('Gather', 'imageIndex', [rows, graph.int64('int.0', 0)], { axis: 1 })
  const candidate = graph.op('GatherND', 'post.candidate', [order, rows])
  const pairs = graph.op(
    'Concat',
    'post.pairs',
    [
      graph.op('Unsqueeze', 'post.imageColumn', [imageIndex, graph.int64('axis.1', [1])]),
      graph.op('Unsqueeze', 'post.candidateColumn', [candidate, graph.int64('axis.1', [1])]),
    ],
    { axis: 1 },
  )
  return {
    boxes: graph.op('GatherND', 'boxes', [boxes, pairs]),
    scores: graph.op('GatherND', 'scores', [ranked, rows]),
    labels: graph.op('GatherND', 'labels', [labels, pairs]),
    imageIndex,
  }
}
