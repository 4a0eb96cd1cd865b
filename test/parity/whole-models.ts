// What tests of whole models share: the fixtures' types, the detector each describes, its input batch, and comparisons with stored
// head outputs and detections. The weights are the deterministic fill.
import type { Test } from 'tap'
import type { DetectorConfig, PostConfig } from '../../lib/binding/types.js'
import type { Parameters } from '../../lib/onnx/layers.js'
import { compareDetections, type DetectionSet, mergeParity } from '../../lib/onnx/parity.js'
import type { FillFixture } from '../deterministic-fill.js'

export interface StoredDetections {
  boxes: number[][]
  scores: number[]
  labels: number[]
}

export interface TorchvisionFixture extends FillFixture {
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

export interface KerasFixture extends FillFixture {
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

const ratios = [0.5, 1, 2]
const scales = [1, 2 ** (1 / 3), 2 ** (2 / 3)]
export const levels = [3, 4, 5, 6, 7]
const sizes = [32, 64, 128, 256, 512]
const strides = [8, 16, 32, 64, 128]
const unused = { matcher: {}, loss: {} } as Pick<DetectorConfig, 'matcher' | 'loss'>

export function torchvisionDetector({ spec }: TorchvisionFixture, post: PostConfig): DetectorConfig {
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

export function kerasDetector(fixture: KerasFixture, parameters: Parameters, post: PostConfig): DetectorConfig {
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

export const anyPost: PostConfig = {
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

export function batchInput(
  images: { shape: number[]; data: Float32Array }[],
  channels: number,
  [rows, columns]: [number, number],
  padding: number,
  value: (v: number, channel: number) => number,
): { dims: number[]; data: Float32Array } {
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

/** Largest difference to stored values [n, anchors, columns] at the stored anchor indices. */
export function worstDifference(
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

export function checkDetections(
  t: Test,
  name: string,
  found: DetectionSet[],
  expected: StoredDetections[],
  post: PostConfig,
) {
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
