// A small random detector for tests of the ONNX writer: ResNet-18 with few channels, complete configuration, deterministic weights.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DetectorConfig } from '../../lib/binding/types.js'
import type { Parameter } from '../../lib/onnx/layers.js'
import { buildModel, type InputContract, type ModelOptions } from '../../lib/onnx/model.js'
import { encodeModel } from '../../lib/onnx/proto.js'
import { openOnnx, type Tensor } from '../../lib/onnx/runtime.js'
import { fillTensor } from '../deterministic-fill.js'
import { resnetGraph } from './resnet-graph.js'

export interface TinyOptions {
  channels?: 1 | 3
  levels?: number[]
  classes?: number
  norm?: 'frozen' | 'group'
  headNorm?: 'none' | 'group'
  backbone?: 'resnet18' | 'resnet50'
  padding?: 'symmetric' | 'tf'
  p6Source?: 'c5' | 'p5'
  post?: Partial<DetectorConfig['post']>
  anchors?: Partial<DetectorConfig['anchors']>
}

const WIDTH = 8
const PYRAMID = 16

export function tinyDetector(options: TinyOptions = {}): DetectorConfig {
  const { levels = [3, 4, 5, 6, 7], headNorm = 'none' } = options
  return {
    model: {
      backbone: options.backbone ?? 'resnet18',
      channels: options.channels ?? 1,
      stemWidth: WIDTH,
      strideIn1x1: false,
      padding: options.padding ?? 'symmetric',
      norm: options.norm ?? 'frozen',
      normEps: 1e-5,
      levels,
      fpnChannels: PYRAMID,
      p6Source: options.p6Source ?? 'c5',
      fpnInit: 'kaiming_uniform',
      headDepth: 2,
      headNorm: { classification: headNorm, box: headNorm },
      classes: options.classes ?? 1,
      prior: 0.01,
      frozenStages: 0,
      checkpointActivations: false,
    },
    anchors: {
      sizes: levels.map((level) => 4 * 2 ** level),
      strides: levels.map((level) => 2 ** level),
      scales: [1, 2 ** (1 / 3), 2 ** (2 / 3)],
      ratios: [0.5, 1, 2],
      shape: 'area',
      truncateSizes: false,
      roundCorners: false,
      offset: 0.5,
      strideRule: 'configured',
      ...options.anchors,
    },
    matcher: {} as DetectorConfig['matcher'],
    loss: {} as DetectorConfig['loss'],
    coder: { kind: 'centre', weights: [1, 1, 1, 1], clamp: Math.log(1000 / 16) },
    post: {
      scoreThreshold: 0.05,
      topkPerLevel: 200,
      nmsIou: 0.5,
      agnostic: false,
      bestClassOnly: false,
      maxDetections: 20,
      minSize: 0,
      clip: 'image',
      ...options.post,
    },
  }
}

/** Every parameter of a tiny detector, by our names. */
export function tinyParameters({ model, anchors }: DetectorConfig): Map<string, Parameter> {
  const parameters = new Map<string, Parameter>()
  const add = (name: string, shape: number[], offset: number, amp: number) =>
    parameters.set(name, { shape, data: fillTensor({ name, shape, offset, amp }, 7) })
  const conv = (name: string, out: number, input: number, kernel: number, bias?: number) => {
    add(`${name}.weight`, [out, input, kernel, kernel], 0, 1.7 / Math.sqrt(input * kernel * kernel))
    if (bias !== undefined) add(`${name}.bias`, [out], bias, 0.1)
  }
  const norm = (name: string, channels: number) => {
    add(`${name}.weight`, [channels], 1, 0.2)
    add(`${name}.bias`, [channels], 0, 0.2)
    if (model.norm === 'group') return
    add(`${name}.running_mean`, [channels], 0, 0.2)
    add(`${name}.running_var`, [channels], 1, 0.5)
  }
  conv('backbone.conv1', WIDTH, model.channels, 7)
  norm('backbone.bn1', WIDTH)
  let channels = WIDTH
  const bottleneck = model.backbone === 'resnet50'
  const depths = bottleneck ? [3, 4, 6, 3] : [2, 2, 2, 2]
  const taps = new Map<number, number>()
  depths.forEach((depth, stage) => {
    const width = WIDTH * 2 ** stage
    const out = bottleneck ? 4 * width : width
    for (let i = 0; i < depth; i++) {
      const name = `backbone.layer${stage + 1}.${i}`
      const plan = bottleneck
        ? [
            [width, channels, 1],
            [width, width, 3],
            [out, width, 1],
          ]
        : [
            [out, channels, 3],
            [out, out, 3],
          ]
      plan.forEach(([o, input, kernel], index) => {
        conv(`${name}.conv${index + 1}`, o!, input!, kernel!)
        norm(`${name}.bn${index + 1}`, o!)
      })
      if (channels !== out || (i === 0 && stage > 0)) {
        conv(`${name}.downsample.0`, out, channels, 1)
        norm(`${name}.downsample.1`, out)
      }
      channels = out
    }
    taps.set(stage + 2, out)
  })
  for (let level = model.levels[0]!; level <= 5; level++) {
    conv(`fpn.lateral.${level}`, PYRAMID, taps.get(level)!, 1, 0)
    if (model.levels.includes(level)) conv(`fpn.output.${level}`, PYRAMID, PYRAMID, 3, 0)
  }
  for (let level = 6; level <= model.levels.at(-1)!; level++) {
    conv(`fpn.extra.${level}`, PYRAMID, level === 6 && model.p6Source === 'c5' ? taps.get(5)! : PYRAMID, 3, 0)
  }
  const perCell = anchors.ratios.length * anchors.scales.length
  for (const [kind, last, columns, headNorm] of [
    ['cls', 'logits', model.classes, model.headNorm.classification],
    ['box', 'deltas', 4, model.headNorm.box],
  ] as const) {
    for (let i = 0; i < model.headDepth; i++) {
      conv(`head.${kind}.tower.${i}.conv`, PYRAMID, PYRAMID, 3, headNorm === 'none' ? 0 : undefined)
      if (headNorm === 'none') continue
      add(`head.${kind}.tower.${i}.norm.weight`, [PYRAMID], 1, 0.2)
      add(`head.${kind}.tower.${i}.norm.bias`, [PYRAMID], 0, 0.2)
    }
    conv(`head.${kind}.${last}`, perCell * columns, PYRAMID, 3, kind === 'cls' ? -2 : 0)
  }
  return parameters
}

export const tinyInput: InputContract = {
  type: 'uint16',
  normalise: 'dataset',
  mean: [1000],
  std: [500],
  padMultiple: 128,
}

export function tinyBytes(detector: DetectorConfig, options: Partial<ModelOptions> = {}): Uint8Array {
  return encodeModel(
    buildModel({
      detector,
      backbone: resnetGraph(detector.model),
      parameters: tinyParameters(detector),
      input: tinyInput,
      graph: 'detect',
      shape: 'dynamic',
      doc: 'a tiny test model',
      metadata: { name: 'tiny' },
      producerVersion: '0.0.0',
      ...options,
    }),
  )
}

/** Writes a model into a folder, runs it once, closes it. */
export async function runBytes(
  folder: string,
  bytes: Uint8Array,
  feeds: Record<string, Tensor>,
): Promise<Record<string, Tensor>> {
  const path = join(folder, 'model.onnx')
  writeFileSync(path, bytes)
  const session = await openOnnx(path, { threads: 1 })
  try {
    return await session.run(feeds)
  } finally {
    await session.close()
  }
}

/** A grey test image with structure: discs and a ramp, 0 beyond the given size. */
export function testImage(rows: number, columns: number, size: [number, number] = [rows, columns]): Uint16Array {
  const data = new Uint16Array(rows * columns)
  for (let y = 0; y < size[0]; y++) {
    for (let x = 0; x < size[1]; x++) {
      const disc = Math.hypot(x - columns / 3, y - rows / 2) < rows / 6 ? 900 : 0
      const other = Math.hypot(x - columns / 1.5, y - rows / 3) < rows / 10 ? 1300 : 0
      data[y * columns + x] = 400 + ((x * 7 + y * 3) % 300) + disc + other
    }
  }
  return data
}
