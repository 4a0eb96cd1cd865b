import t from 'tap'
import type { DetectorConfig } from '../../lib/binding/types.js'
import { anchorTable } from '../../lib/geometry/anchors.js'
import { selectDetections } from '../../lib/geometry/nms.js'
import { createGraph } from '../../lib/onnx/graph.js'
import { compareDetections, type DetectionSet, splitDetections } from '../../lib/onnx/parity.js'
import { addPostprocess } from '../../lib/onnx/postprocess.js'
import { encodeModel } from '../../lib/onnx/proto.js'
import type { Tensor } from '../../lib/onnx/runtime.js'
import { randomStream } from '../../lib/random.js'
import { runBytes, type TinyOptions, tinyDetector } from './tiny-model.js'

const canvas: [number, number] = [64, 96]
const levels = [3, 4]
const sizes: [number, number][] = [
  [64, 96],
  [50, 70],
]
const grids: [number, number][] = [
  [8, 12],
  [4, 6],
]
const perCell = 9

interface HeadOutputs {
  /** [image][level] NCHW data */
  logits: Float32Array[][]
  deltas: Float32Array[][]
}

function randomHeads(classes: number, spread: number, seed = 1): HeadOutputs {
  const random = randomStream(seed, 'heads')
  const make = (columns: number, scale: number) =>
    sizes.map(() =>
      grids.map(([h, w]) => Float32Array.from({ length: perCell * columns * h * w }, () => random.normal() * scale)),
    )
  return { logits: make(classes, spread), deltas: make(4, 0.3) }
}

/** The graph of the post-processing alone: head outputs are its inputs. */
function postprocessModel(detector: DetectorConfig): Uint8Array {
  const graph = createGraph()
  const image = graph.input('image', 'float32', ['N', 1, 'H', 'W'], '')
  const imageSize = graph.input('imageSize', 'int64', ['N', 2], '')
  const outputs = levels.map((level) => ({
    level,
    logits: graph.input(
      `logits.${level}`,
      'float32',
      ['N', perCell * detector.model.classes, `h${level}`, `w${level}`],
      '',
    ),
    deltas: graph.input(`deltas.${level}`, 'float32', ['N', perCell * 4, `h${level}`, `w${level}`], ''),
    size: [`h${level}`, `w${level}`] as [string, string],
  }))
  const found = addPostprocess(graph, detector, outputs, image, imageSize)
  graph.output(found.boxes, 'float32', ['D', 4], '')
  graph.output(found.scores, 'float32', ['D'], '')
  graph.output(found.labels, 'int64', ['D'], '')
  graph.output(found.imageIndex, 'int64', ['D'], '')
  return encodeModel({
    irVersion: 8,
    producerName: 'test',
    producerVersion: '0',
    docString: '',
    graph: graph.finish('post', ''),
    opsetImport: [{ domain: '', version: 17 }],
    metadataProps: [],
  })
}

async function runGraph(folder: string, detector: DetectorConfig, heads: HeadOutputs): Promise<DetectionSet[]> {
  const feeds: Record<string, Tensor> = {
    image: { dims: [2, 1, ...canvas], data: new Float32Array(2 * canvas[0] * canvas[1]) },
    imageSize: { dims: [2, 2], data: BigInt64Array.from(sizes.flat(), BigInt) },
  }
  levels.forEach((level, index) => {
    const join = (parts: Float32Array[][]) => Float32Array.from(parts.flatMap((image) => [...image[index]!]))
    feeds[`logits.${level}`] = {
      dims: [2, perCell * detector.model.classes, ...grids[index]!],
      data: join(heads.logits),
    }
    feeds[`deltas.${level}`] = { dims: [2, perCell * 4, ...grids[index]!], data: join(heads.deltas) }
  })
  return splitDetections(await runBytes(folder, postprocessModel(detector), feeds), 2)
}

/** The same in plain TypeScript, with the anchors and the selection of lib/geometry. */
function reference(detector: DetectorConfig, heads: HeadOutputs, image: number): DetectionSet {
  const { post, coder, model } = detector
  const anchors = anchorTable(detector.anchors, grids, canvas, 'float32')
  const scores: number[] = []
  const boxes: number[] = []
  let first = 0
  grids.forEach(([h, w], level) => {
    const cells = h * w
    const value = (data: Float32Array, columns: number, anchor: number, column: number) => {
      const a = anchor % perCell
      return data[(a * columns + column) * cells + Math.floor(anchor / perCell)]!
    }
    const logits = heads.logits[image]![level]!
    const rows = cells * perCell * model.classes
    const flat = Array.from({ length: rows }, (_, i) =>
      value(logits, model.classes, Math.floor(i / model.classes), i % model.classes),
    )
    const best = post.bestClassOnly
      ? flat.map((v, i) =>
          v === Math.max(...flat.slice(i - (i % model.classes), i - (i % model.classes) + model.classes)) ? v : -99,
        )
      : flat
    const order = best.map((v, i) => [v, i] as const).sort((p, q) => q[0] - p[0] || p[1] - q[1])
    const kept = new Set(order.slice(0, post.topkPerLevel ?? rows).map(([, i]) => i))
    for (let anchor = 0; anchor < cells * perCell; anchor++) {
      for (let k = 0; k < model.classes; k++) {
        const i = anchor * model.classes + k
        scores.push(kept.has(i) ? 1 / (1 + Math.exp(-best[i]!)) : -1)
      }
      const box = Array.from(anchors.subarray(4 * (first + anchor), 4 * (first + anchor) + 4))
      const delta = [0, 1, 2, 3].map((j) => value(heads.deltas[image]![level]!, 4, anchor, j))
      boxes.push(...clip(decode(box, delta, coder), detector, image))
    }
    first += cells * perCell
  })
  for (let i = 0; i < boxes.length / 4; i++) {
    const side = Math.min(boxes[4 * i + 2]! - boxes[4 * i]!, boxes[4 * i + 3]! - boxes[4 * i + 1]!)
    if (side < post.minSize) for (let k = 0; k < model.classes; k++) scores[i * model.classes + k] = -1
  }
  const chosen = selectDetections(boxes, scores, model.classes, post)
  return {
    boxes: chosen.index.flatMap((i) => boxes.slice(4 * i, 4 * i + 4)),
    scores: chosen.score,
    labels: chosen.label,
  }
}

function decode([x1, y1, x2, y2]: number[], d: number[], coder: DetectorConfig['coder']): number[] {
  const w = x2! - x1!
  const h = y2! - y1!
  const s = coder.weights
  if (coder.kind === 'corner') {
    return [x1! + d[0]! * s[0] * w, y1! + d[1]! * s[1] * h, x2! + d[2]! * s[2] * w, y2! + d[3]! * s[3] * h]
  }
  const limit = coder.clamp ?? Number.POSITIVE_INFINITY
  const cx = (d[0]! / s[0]) * w + x1! + w / 2
  const cy = (d[1]! / s[1]) * h + y1! + h / 2
  const hw = (Math.exp(Math.min(d[2]! / s[2], limit)) * w) / 2
  const hh = (Math.exp(Math.min(d[3]! / s[3], limit)) * h) / 2
  return [cx - hw, cy - hh, cx + hw, cy + hh]
}

function clip(box: number[], { post }: DetectorConfig, image: number): number[] {
  if (post.clip === 'none') return box
  const [h, w] = post.clip === 'image' ? sizes[image]! : [canvas[0] - 1, canvas[1] - 1]
  return box.map((value, i) => Math.min(Math.max(value, 0), i % 2 === 0 ? w : h))
}

const cases: [string, TinyOptions, Partial<DetectorConfig['coder']>?][] = [
  ['one class', { classes: 1 }],
  ['three classes, class-wise', { classes: 3 }],
  ['three classes, across classes', { classes: 3, post: { agnostic: true } }],
  ['three classes, best class only', { classes: 3, post: { bestClassOnly: true, agnostic: true } }],
  ['no limit per level', { classes: 2, post: { topkPerLevel: null } }],
  ['few per level, few at all', { classes: 2, post: { topkPerLevel: 15, maxDetections: 5 } }],
  ['no suppression', { classes: 2, post: { nmsIou: 1 } }],
  ['small boxes dropped', { post: { minSize: 12 } }],
  ['clip to the canvas', { post: { clip: 'canvasMinusOne' } }],
  ['no clipping', { post: { clip: 'none' } }],
  ['corner coder', {}, { kind: 'corner', weights: [0.2, 0.2, 0.1, 0.3], clamp: null }],
  ['weighted centre coder with a low clamp', {}, { weights: [10, 10, 5, 5], clamp: 0.05 }],
  [
    'torchvision anchors',
    { anchors: { shape: 'side', truncateSizes: true, roundCorners: true, offset: 0, strideRule: 'floorDivision' } },
  ],
  ['offset with strides from the sizes', { anchors: { offset: 0.5, strideRule: 'floorDivision' } }],
]

for (const [name, options, coder] of cases) {
  t.test(name, async (t) => {
    const detector = tinyDetector({ levels, ...options })
    Object.assign(detector.coder, coder)
    const heads = randomHeads(detector.model.classes, 2)
    const found = await runGraph(t.testdir(), detector, heads)
    for (const image of [0, 1]) {
      const expected = reference(detector, heads, image)
      t.ok(expected.scores.length > 0, `image ${image} has detections`)
      const result = compareDetections(expected, found[image]!, detector.post)
      t.strictSame([result.failures, result.borderline], [[], []], `image ${image}: the same detections`)
      t.equal(result.matched, expected.scores.length)
      t.ok(result.worstBoxPixels < 1e-4, `boxes within 1e-4 px, got ${result.worstBoxPixels}`)
    }
  })
}

t.test('nothing above the threshold gives empty outputs', async (t) => {
  const detector = tinyDetector({ levels, post: { scoreThreshold: 0.999 } })
  const found = await runGraph(t.testdir(), detector, randomHeads(1, 0.5))
  t.strictSame(
    found.map(({ scores }) => scores.length),
    [0, 0],
  )
})

t.test('one image without detections beside one with', async (t) => {
  const detector = tinyDetector({ levels })
  const heads = randomHeads(1, 2)
  for (const data of heads.logits[0]!) data.fill(-50)
  const found = await runGraph(t.testdir(), detector, heads)
  t.equal(found[0]!.scores.length, 0)
  t.ok(found[1]!.scores.length > 0)
})

t.test('equal scores come in the order of their anchors, also where the sigmoid saturates', async (t) => {
  const detector = tinyDetector({ levels, post: { nmsIou: 1, maxDetections: 1000, topkPerLevel: null } })
  const heads = randomHeads(1, 1)
  for (const [level, data] of heads.logits[0]!.entries()) {
    for (let i = 0; i < data.length; i++) data[i] = 40 + ((i * 37) % 11) + level
  }
  const [first] = await runGraph(t.testdir(), detector, heads)
  t.ok(
    Array.from(first!.scores).every((score) => score === 1),
    'all scores are exactly 1',
  )
  const expected = reference(detector, heads, 0)
  t.equal(first!.boxes.length, expected.boxes.length)
  const worst = Math.max(...Array.from(expected.boxes, (value, i) => Math.abs(value - first!.boxes[i]!)))
  t.ok(worst < 1e-3, `the same boxes in the same order, differences up to ${worst}`)
})

t.test('a score equal to the threshold is out', async (t) => {
  const detector = tinyDetector({ levels, post: { scoreThreshold: 0.5 } })
  const heads = randomHeads(1, 0)
  const found = await runGraph(t.testdir(), detector, heads)
  t.equal(found[0]!.scores.length, 0, 'logit 0 is score 0.5')
})
