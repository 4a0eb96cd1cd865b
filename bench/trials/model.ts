// What the trials of the whole detector share: torchvision's v1 mathematics with a ResNet-50 and frozen batch norm, random weights,
// two lesions per image, and the memory of the process.
import { readFileSync, writeFileSync } from 'node:fs'
import { native, openSession, type Session } from '../../lib/binding/session.js'
import type { ImageBatch, Recompute, SessionConfig, StepOptions, TargetBatch } from '../../lib/binding/types.js'
import { sessionConfig } from '../../lib/config/detector.js'
import { defaultConfig } from '../../lib/config/load.js'

export interface StepSetting {
  height: number
  width: number
  batch: number
  frozenStages: number
  threads: number
  /** Residual blocks to recompute in the backward. */
  checkpoint?: Recompute
  backbone?: 'resnet18' | 'resnet50'
  /** Stem channels; the peer has 3. */
  channels?: 1 | 3
  /** Pyramid levels, a tail of the peer's 3 to 7. */
  levels?: number[]
  /** The peer's is sgd. */
  optimizer?: 'sgd' | 'adamw'
}

/** Same levels, losses, precision and trained layers as the peer's; one class, as a mass detector has. */
export function peerConfig({
  frozenStages,
  checkpoint = false,
  backbone = 'resnet50',
  channels,
  levels,
  optimizer = 'sgd',
}: Omit<StepSetting, 'height' | 'width' | 'batch' | 'threads'>): SessionConfig {
  const config = defaultConfig('torchvision-v1')
  config.model.checkpointActivations = checkpoint
  config.model.backbone = backbone
  if (channels !== undefined) config.input.channels = channels
  config.model.frozenStages = frozenStages
  config.model.p6Source = 'c5'
  config.data.classes = ['background', 'mass']
  config.train.optimizer = optimizer
  if (levels !== undefined) {
    const from = config.model.levels.indexOf(levels[0]!)
    config.model.levels = levels
    config.anchors.sizes = config.anchors.sizes.slice(from)
    config.anchors.strides = config.anchors.strides.slice(from)
  }
  config.run.deterministic = false
  return sessionConfig(config)
}

export async function openPeerSession(setting: Omit<StepSetting, 'height' | 'width' | 'batch'>): Promise<Session> {
  await native().configure(setting.threads)
  return openSession(peerConfig(setting))
}

/** Grey noise as 16-bit windows; the engine normalises and copies it to three channels. */
export function noiseBatch({ height, width, batch }: Omit<StepSetting, 'threads' | 'frozenStages'>): ImageBatch {
  const pixels = new Uint16Array(batch * height * width)
  for (let i = 0, x = 1; i < pixels.length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0
    pixels[i] = x >>> 20
  }
  const each = <T>(values: T[]) => Array.from({ length: batch }, () => values).flat()
  return {
    canvas: [height, width],
    sizes: Int32Array.from(each([height, width])),
    windows: {
      pixels,
      shapes: Int32Array.from(each([height, width])),
      affines: Float64Array.from(each([1, 0, 0, 0, 1, 0])),
      reduce: new Int32Array(batch),
      normalise: Float32Array.from(each([2048, 1182])),
      intensity: Float32Array.from(each([1, 0, 1, 0])),
      noiseSeed: new Uint32Array(batch),
    },
  }
}

/** The peer's two boxes per image: squares of 200 and 400 pixels. */
export function lesionTargets({ height, width, batch }: Omit<StepSetting, 'threads' | 'frozenStages'>): TargetBatch {
  const square = (x: number, y: number, side: number) => [x, y, x + side, y + side]
  const boxes = [...square(0.3 * width, 0.3 * height, 200), ...square(0.5 * width, 0.5 * height, 400)]
  return {
    boxes: Float32Array.from(Array.from({ length: batch }, () => boxes).flat()),
    labels: new Int32Array(2 * batch),
    boxOffsets: Int32Array.from({ length: batch + 1 }, (_, i) => 2 * i),
    ignore: new Float32Array(0),
    ignoreOffsets: new Int32Array(batch + 1),
  }
}

/** An update without clipping, whose learning rate and way with non-finite numbers the trial adds. */
export const plainStep: Omit<StepOptions, 'lr' | 'skipNonFinite'> = {
  weightDecay: 1e-4,
  clipNorm: null,
  clipNormPerTensor: null,
  clipValue: null,
  lossScale: 1,
  update: true,
}

/** The peak of resident memory counts from the present size on (Linux). Returns the present size. */
export function restartPeak(): number {
  writeFileSync('/proc/self/clear_refs', '5')
  return residentBytes('VmRSS')
}

/** A field of /proc/self/status in bytes, such as VmRSS or VmHWM. */
export function residentBytes(field: 'VmRSS' | 'VmHWM'): number {
  return Number(new RegExp(`${field}:\\s*(\\d+)`).exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024
}
