// An exported model for the inference trials: torchvision's v1 mathematics with a ResNet-50 of random weights, written once per process
// into a temporary folder, in fp32 or as int8 calibrated on the noise that is then predicted.
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { native, openSession } from '../../lib/binding/session.js'
import { sessionConfig } from '../../lib/config/detector.js'
import { defaultConfig } from '../../lib/config/load.js'
import { calibrate } from '../../lib/onnx/calibrate.js'
import { unverifiedRecord, type WriteModelOptions, writeManifest, writeModel } from '../../lib/onnx/export.js'
import { deviceUid } from '../../lib/onnx/manifest.js'
import { planQuantisation, quantise, toFloat16 } from '../../lib/onnx/precision.js'
import type { Tensor } from '../../lib/onnx/runtime.js'

export interface FileSetting {
  height: number
  width: number
  threads: number
  precision: 'fp32' | 'fp16' | 'int8'
  /** Coarser pyramids leave P3 out. */
  levels?: number[]
  /** Box head around candidates only. */
  twoStep?: boolean
  /** Random weights score about 0.01: above it nothing is a candidate, below it as many as the limit per level. */
  scoreFloor?: number
  /** A file for this size only, instead of one for every size. */
  fixed?: boolean
}

/** Path of the model with its manifest. */
export async function writeBenchModel(setting: FileSetting): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mammo-bench-'))
  const config = defaultConfig('torchvision-v1')
  config.model.p6Source = 'c5'
  config.data.classes = ['background', 'mass']
  if (setting.levels !== undefined) {
    const from = setting.levels[0]! - 3
    config.model.levels = setting.levels
    config.anchors.sizes = config.anchors.sizes.slice(from)
    config.anchors.strides = config.anchors.strides.slice(from)
  }
  if (setting.scoreFloor !== undefined) config.predict.scoreThreshold = setting.scoreFloor
  await native().configure(setting.threads)
  const { detector, ...rest } = sessionConfig(config)
  const session = await openSession({ detector, ...rest })
  const parameters = new Map<string, { shape: number[]; data: Float32Array }>()
  for (const { name } of await session.parameters()) parameters.set(name, await session.getTensor(name))
  await session.dispose()
  const write: WriteModelOptions = {
    detector,
    backbone: await native().describeBackbone(detector.model),
    parameters,
    input: {
      ...{ type: 'uint16', padMultiple: 128, normalise: 'dataset', mean: [2048], std: [1182], normalisedInGraph: true },
      crop: { enabled: true, algorithm: 'breast@1', margin: 0.03 },
      intensity: 'noise',
      resize: { rule: 'none', minSide: 800, maxSide: 1333, spacingMm: null, antialias: true },
      ...{ trainingSpacingMm: null, spacingRule: 'resample', spacingTolerance: 0.15 },
      presentationIntents: ['FOR PRESENTATION'],
    },
    classes: config.data.classes,
    provenance: {
      ...{ run: null, preset: null, semantics: 'torchvision-v1', toolVersion: 'bench', commit: null },
      ...{ checkpointSha256: null, dataset: null, deviceUID: deviceUid('bench') },
    },
    out: join(folder, 'model.onnx'),
    shape: setting.fixed ? [setting.height, setting.width] : 'dynamic',
    twoStep: setting.twoStep ?? false,
  }
  let model = await writeModel(write)
  if (setting.precision === 'fp16') {
    model = await writeModel({ ...write, variant: { precision: 'fp16', convert: toFloat16 } })
  } else if (setting.precision === 'int8') {
    const side = Math.min(512, setting.height)
    async function* once() {
      yield noiseFeeds(side, side)
    }
    const options = { percentile: 100, threads: setting.threads, scratch: join(folder, 'calibration.onnx') }
    const anySize = setting.fixed ? await writeModel({ ...write, shape: 'dynamic' }) : model
    const ranges = await calibrate(anySize.message, once(), options)
    model = await writeModel({
      ...write,
      variant: {
        precision: 'int8',
        convert: (message) => quantise(message, planQuantisation(message), ranges, { weightBits: 8 }),
      },
    })
  }
  await writeManifest(model, unverifiedRecord('bench'))
  return model.path
}

export function noiseImage(height: number, width: number): Uint16Array {
  const pixels = new Uint16Array(height * width)
  for (let i = 0, x = 1; i < pixels.length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0
    pixels[i] = x >>> 20
  }
  return pixels
}

export function noiseFeeds(height: number, width: number): Record<string, Tensor> {
  return {
    image: { dims: [1, 1, height, width], data: noiseImage(height, width) },
    imageSize: { dims: [1, 2], data: BigInt64Array.of(BigInt(height), BigInt(width)) },
  }
}
