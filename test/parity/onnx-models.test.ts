// Whole models: the ONNX graph with the fixtures' weights against torchvision's and keras-retinanet's stored outputs and detections.
// Tolerances: raw outputs 10 times the reference's own float32 difference; detections as export demands of its parity check.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { DetectorConfig, PostConfig } from '../../lib/binding/types.js'
import type { Parameters } from '../../lib/onnx/layers.js'
import { buildModel, type InputContract } from '../../lib/onnx/model.js'
import { splitDetections } from '../../lib/onnx/parity.js'
import { encodeModel } from '../../lib/onnx/proto.js'
import { openOnnx, type Tensor } from '../../lib/onnx/runtime.js'
import { kerasParameters } from '../../lib/weights/keras.js'
import { torchvisionParameters } from '../../lib/weights/torchvision.js'
import { fillParameters } from '../deterministic-fill.js'
import { resnetGraph } from '../onnx/resnet-graph.js'
import { oracleJson, oracleNames, oracleTensors } from '../oracles.js'
import {
  anyPost,
  batchInput,
  checkDetections,
  type KerasFixture,
  kerasDetector,
  levels,
  type TorchvisionFixture,
  torchvisionDetector,
  worstDifference,
} from './whole-models.js'

t.setTimeout(600_000)

const threads = 2

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
    backbone: resnetGraph(detector.model),
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
