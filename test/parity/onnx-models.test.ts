// Whole models: the ONNX graph with the fixtures' weights against torchvision's and keras-retinanet's stored outputs and detections.
// Tolerances: raw outputs 10 times the reference's own float32 difference; detections as export demands of its parity check.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { DetectorConfig, PostConfig } from '../../lib/binding/types.js'
import { buildModel, type InputContract } from '../../lib/onnx/model.js'
import type { Parameters } from '../../lib/onnx/network.js'
import { compareDetections, type DetectionSet, mergeParity, splitDetections } from '../../lib/onnx/parity.js'
import { encodeModel } from '../../lib/onnx/proto.js'
import { openOnnx, type Tensor } from '../../lib/onnx/runtime.js'
import { kerasParameters } from '../../lib/weights/keras.js'
import { torchvisionParameters } from '../../lib/weights/torchvision.js'
import { type FillFixture, fillParameters } from '../deterministic-fill.js'
import { oracleJson, oracleNames, oracleTensors } from '../oracles.js'

interface StoredDetections {
  boxes: number[][]
  scores: number[]
  labels: number[]
}

interface TorchvisionFixture extends FillFixture {
  spec: {
    depth: number
    channels: 1 | 3
    num_classes: number
    p6_from: string
    head_norm: string | null
    eps: number | null
  }
  canvas: [number, number]
  image_sizes: [number, number][]
  image_mean: number[]
  image_std: number[]
  max_abs_f32_difference: { cls_logits: number; bbox_regression: number }
  post: {
    settings: { score_thresh: number; nms_thresh: number; detections_per_img: number; topk_candidates: number }
    detections: StoredDetections[]
  }[]
}

interface KerasFixture extends FillFixture {
  spec: { kind: string; num_classes: number }
  input: { shape: [number, number, number, number]; image_sizes: [number, number][] }
  max_abs_f32_difference: { regression: number; classification_probability: number }
  post: {
    settings: {
      nms: boolean
      class_specific_filter: boolean
      nms_threshold: number
      score_threshold: number
      max_detections: number
    }
    detections: StoredDetections[]
  }[]
}

t.setTimeout(600_000)

const threads = 2
const ratios = [0.5, 1, 2]
const scales = [1, 2 ** (1 / 3), 2 ** (2 / 3)]
const levels = [3, 4, 5, 6, 7]
const sizes = [32, 64, 128, 256, 512]
const strides = [8, 16, 32, 64, 128]
const unused = { matcher: {}, loss: {} } as Pick<DetectorConfig, 'matcher' | 'loss'>

function torchvisionDetector({ spec }: TorchvisionFixture, post: PostConfig): DetectorConfig {
  const norm = spec.head_norm === null ? 'none' : 'group'
  return {
    model: {
      backbone: `resnet${spec.depth}`,
      channels: spec.channels,
      stemWidth: 64,
      strideIn1x1: false,
      padding: 'symmetric',
      norm: 'frozen',
      normEps: spec.eps ?? 1e-5,
      levels,
      fpnChannels: 256,
      p6Source: spec.p6_from === 'P5' ? 'p5' : 'c5',
      fpnInit: 'kaiming_uniform',
      headDepth: 4,
      headNorm: { classification: norm, box: norm },
      classes: spec.num_classes,
      prior: 0.01,
      frozenStages: 0,
      checkpointActivations: false,
    },
    anchors: {
      sizes,
      strides,
      scales,
      ratios,
      shape: 'side',
      truncateSizes: true,
      roundCorners: true,
      offset: 0,
      strideRule: 'floorDivision',
    },
    ...unused,
    coder: { kind: 'centre', weights: [1, 1, 1, 1], clamp: Math.log(1000 / 16) },
    post,
  }
}

function kerasDetector(fixture: KerasFixture, parameters: Parameters, post: PostConfig): DetectorConfig {
  return {
    model: {
      backbone: 'resnet50',
      channels: 3,
      stemWidth: parameters.get('backbone.conv1.weight')!.shape[0]!,
      strideIn1x1: true,
      padding: 'tf',
      norm: 'frozen',
      normEps: 1e-5,
      levels,
      fpnChannels: parameters.get('fpn.output.3.weight')!.shape[0]!,
      p6Source: 'c5',
      fpnInit: 'glorot_uniform',
      headDepth: 4,
      headNorm: { classification: 'none', box: 'none' },
      classes: fixture.spec.num_classes,
      prior: 0.01,
      frozenStages: 0,
      checkpointActivations: false,
    },
    anchors: {
      sizes,
      strides,
      scales,
      ratios,
      shape: 'area',
      truncateSizes: false,
      roundCorners: false,
      offset: 0.5,
      strideRule: 'configured',
    },
    ...unused,
    coder: { kind: 'corner', weights: [0.2, 0.2, 0.2, 0.2], clamp: null },
    post,
  }
}

const anyPost: PostConfig = {
  scoreThreshold: 0.05,
  topkPerLevel: 1000,
  nmsIou: 0.5,
  agnostic: false,
  bestClassOnly: false,
  maxDetections: 300,
  minSize: 0,
  clip: 'image',
}

/** Channel values of the fixtures: x, 1 - x, and x rolled right by 16 columns; only the first for one channel. */
function channelValue(image: Float32Array, width: number, channel: number, row: number, column: number): number {
  const shifted = channel === 2 ? (column + width - 16) % width : column
  const x = image[row * width + shifted]!
  return channel === 1 ? 1 - x : x
}

function batchInput(
  images: { shape: number[]; data: Float32Array }[],
  channels: number,
  [rows, columns]: [number, number],
  padding: number,
  value: (v: number, channel: number) => number,
): Tensor {
  const data = new Float32Array(images.length * channels * rows * columns).fill(padding)
  images.forEach((image, n) => {
    const [, height, width] = image.shape as [number, number, number]
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          data[((n * channels + c) * rows + y) * columns + x] = value(channelValue(image.data, width, c, y, x), c)
        }
      }
    }
  })
  return { dims: [images.length, channels, rows, columns], data }
}

async function run(
  t: Test,
  detector: DetectorConfig,
  parameters: Parameters,
  input: InputContract,
  graph: 'detect' | 'heads',
  feeds: Record<string, Tensor>,
) {
  const model = buildModel({
    detector,
    parameters,
    input,
    graph,
    shape: 'dynamic',
    doc: 'test',
    metadata: {},
    producerVersion: '0',
  })
  const path = join(t.testdir(), 'model.onnx')
  writeFileSync(path, encodeModel(model))
  const session = await openOnnx(path, { threads })
  const outputs = await session.run(feeds)
  await session.close()
  return outputs
}

/** Joins the levels: [n][anchor * columns]. */
function joinLevels(outputs: Record<string, Tensor>, kind: 'logits' | 'deltas', images: number): Float32Array[] {
  const parts = levels.map((level) => outputs[`${kind}.p${level}`]!.data as Float32Array)
  return Array.from({ length: images }, (_, n) => {
    const rows = parts.map((part) => part.subarray((n * part.length) / images, ((n + 1) * part.length) / images))
    const joined = new Float32Array(rows.reduce((sum, row) => sum + row.length, 0))
    let offset = 0
    for (const row of rows) {
      joined.set(row, offset)
      offset += row.length
    }
    return joined
  })
}

/** Largest difference to stored values [n, anchors, columns] at the stored anchor indices. */
function worstDifference(
  ours: Float32Array[],
  stored: { shape: number[]; data: ArrayLike<number> },
  index: ArrayLike<number>,
  convert: (value: number) => number,
): number {
  const columns = stored.shape[2]!
  let worst = 0
  ours.forEach((values, n) => {
    for (let i = 0; i < index.length; i++) {
      for (let j = 0; j < columns; j++) {
        const difference = Math.abs(
          convert(values[index[i]! * columns + j]!) - stored.data[(n * index.length + i) * columns + j]!,
        )
        if (!(difference <= worst)) worst = difference
      }
    }
  })
  return worst
}

function stored({ boxes, scores, labels }: StoredDetections): DetectionSet {
  return { boxes: boxes.flat(), scores, labels }
}

function checkDetections(t: Test, name: string, found: DetectionSet[], expected: StoredDetections[], post: PostConfig) {
  const result = mergeParity(
    found.map((set, n) => ({ image: `image ${n}`, result: compareDetections(stored(expected[n]!), set, post) })),
  )
  const total = expected.reduce((sum, { scores }) => sum + scores.length, 0)
  t.strictSame(result.failures, [], `${name}: the same detections`)
  t.strictSame(result.borderline, [], `${name}: none at a cut, as the fixture says`)
  t.equal(result.matched, total, `${name}: all ${total} detections`)
  t.comment(
    `${name}: ${total} detections, scores within ${result.worstScore.toExponential(2)}, boxes within ${result.worstBoxPixels.toExponential(2)} px`,
  )
}

const torchvisionNames = oracleNames('model_torchvision_')
const kerasNames = oracleNames('model_keras_')
if (torchvisionNames.length + kerasNames.length === 0) {
  t.pass('no fixtures', { skip: 'no model fixtures; set MAMMO_ORACLES to the oracle folder' })
}

for (const name of torchvisionNames) {
  t.test(name, async (t) => {
    const fixture = (await oracleJson<TorchvisionFixture>(t, `${name}.json`))!
    const tensors = await oracleTensors(`${name}.safetensors`, (key) => key.startsWith('head.'))
    const images = [...(await oracleTensors('model_inputs.safetensors')).values()] as {
      shape: number[]
      data: Float32Array
    }[]
    const { parameters, report } = torchvisionParameters(fillParameters(fixture))
    t.strictSame(report.unused, [], 'every parameter of the reference has a place')
    const { channels } = fixture.spec
    const mean = fixture.image_mean.map(Math.fround)
    const std = fixture.image_std.map(Math.fround)
    // One channel goes through the normalisation of the graph; padding is what normalises to the reference's 0.
    const inGraph = channels === 1
    const contract: InputContract = inGraph
      ? { type: 'float32', normalise: 'dataset', mean, std, padMultiple: 32 }
      : { type: 'float32', normalise: 'none', mean: [], std: [], padMultiple: 32 }
    const image = batchInput(images, channels, fixture.canvas, inGraph ? mean[0]! : 0, (v, c) =>
      inGraph ? v : Math.fround(Math.fround(v - mean[c]!) / std[c]!),
    )
    const heads = await run(t, torchvisionDetector(fixture, anyPost), parameters, contract, 'heads', { image })
    const index = tensors.get('head.anchor_index')!.data
    const limit = fixture.max_abs_f32_difference
    const logits = worstDifference(joinLevels(heads, 'logits', 2), tensors.get('head.cls_logits')!, index, (v) => v)
    const deltas = worstDifference(
      joinLevels(heads, 'deltas', 2),
      tensors.get('head.bbox_regression')!,
      index,
      (v) => v,
    )
    t.ok(
      logits <= 10 * limit.cls_logits,
      `logits differ by ${logits.toExponential(2)}, allowed ${(10 * limit.cls_logits).toExponential(2)}`,
    )
    t.ok(
      deltas <= 10 * limit.bbox_regression,
      `deltas differ by ${deltas.toExponential(2)}, allowed ${(10 * limit.bbox_regression).toExponential(2)}`,
    )
    const imageSize = { dims: [2, 2], data: BigInt64Array.from(fixture.image_sizes.flat(), BigInt) }
    for (const { settings, detections } of fixture.post) {
      const post: PostConfig = {
        ...anyPost,
        scoreThreshold: settings.score_thresh,
        nmsIou: settings.nms_thresh,
        maxDetections: settings.detections_per_img,
        topkPerLevel: settings.topk_candidates,
      }
      const outputs = await run(t, torchvisionDetector(fixture, post), parameters, contract, 'detect', {
        image,
        imageSize,
      })
      const label = `score > ${post.scoreThreshold}, IoU ${post.nmsIou}, top ${post.topkPerLevel}`
      checkDetections(t, label, splitDetections(outputs, 2), detections, post)
    }
  })
}

for (const name of kerasNames) {
  t.test(name, async (t) => {
    const fixture = (await oracleJson<KerasFixture>(t, `${name}.json`))!
    const tensors = await oracleTensors(`${name}.safetensors`, (key) => key.startsWith('head.'))
    const images = [...(await oracleTensors('model_inputs_keras.safetensors')).values()] as {
      shape: number[]
      data: Float32Array
    }[]
    const { parameters, report } = kerasParameters(fillParameters(fixture))
    t.strictSame(report.unused, [], 'every parameter of the reference has a place')
    const [, rows, columns] = fixture.input.shape
    const image = batchInput(images, 3, [rows, columns], 0, (v) => 2 * v - 1)
    const contract: InputContract = { type: 'float32', normalise: 'none', mean: [], std: [], padMultiple: 1 }
    const heads = await run(t, kerasDetector(fixture, parameters, anyPost), parameters, contract, 'heads', { image })
    const index = tensors.get('head.anchor_index')!.data
    const limit = fixture.max_abs_f32_difference
    const scores = worstDifference(
      joinLevels(heads, 'logits', 2),
      tensors.get('head.classification')!,
      index,
      (v) => 1 / (1 + Math.exp(-v)),
    )
    const deltas = worstDifference(joinLevels(heads, 'deltas', 2), tensors.get('head.regression')!, index, (v) => v)
    const allowed = 10 * limit.classification_probability
    t.ok(scores <= allowed, `probabilities differ by ${scores.toExponential(2)}, allowed ${allowed.toExponential(2)}`)
    t.ok(
      deltas <= 10 * limit.regression,
      `deltas differ by ${deltas.toExponential(2)}, allowed ${(10 * limit.regression).toExponential(2)}`,
    )
    const imageSize = { dims: [2, 2], data: BigInt64Array.from(fixture.input.image_sizes.flat(), BigInt) }
    for (const { settings, detections } of fixture.post) {
      const post: PostConfig = {
        scoreThreshold: settings.score_threshold,
        topkPerLevel: null,
        nmsIou: settings.nms ? settings.nms_threshold : 1,
        agnostic: !settings.class_specific_filter,
        bestClassOnly: !settings.class_specific_filter,
        maxDetections: settings.max_detections,
        minSize: 0,
        clip: 'canvasMinusOne',
      }
      const outputs = await run(t, kerasDetector(fixture, parameters, post), parameters, contract, 'detect', {
        image,
        imageSize,
      })
      checkDetections(t, JSON.stringify(settings), splitDetections(outputs, 2), detections, post)
    }
  })
}
