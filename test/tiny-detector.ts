// A detector small enough for a test of everything around it: a ResNet-18 with a narrow stem and pyramid, two classes, a canvas of
// 128x128, and a batch with boxes. Not a test of the mathematics; that is test/parity.
import type { ImageBatch, SessionConfig, StepOptions, TargetBatch } from '../lib/binding/types.js'

export function tinyConfig(): SessionConfig {
  return {
    detector: {
      model: {
        backbone: 'resnet18',
        channels: 1,
        stemWidth: 8,
        strideIn1x1: false,
        padding: 'symmetric',
        norm: 'group',
        normEps: 1e-5,
        levels: [3, 4, 5],
        fpnChannels: 32,
        p6Source: 'p5',
        fpnInit: 'kaiming_uniform',
        headDepth: 1,
        headNorm: { classification: 'none', box: 'none' },
        classes: 2,
        prior: 0.01,
        frozenStages: 0,
        checkpointActivations: false,
      },
      anchors: {
        sizes: [32, 64, 128],
        strides: [8, 16, 32],
        scales: [1, 2 ** (1 / 3), 2 ** (2 / 3)],
        ratios: [0.5, 1, 2],
        shape: 'area',
        truncateSizes: false,
        roundCorners: false,
        offset: 0.5,
        strideRule: 'configured',
      },
      matcher: {
        kind: 'iou',
        positiveIou: 0.5,
        negativeIou: 0.4,
        negativeInclusive: true,
        lowQuality: true,
        lowQualityMinIou: 0.1,
        outside: 'ignoreBackground',
        atssTopk: 9,
        atssCentreInBox: true,
      },
      coder: { kind: 'centre', weights: [1, 1, 1, 1], clamp: Math.log(1000 / 16) },
      loss: {
        alpha: 0.25,
        gamma: 2,
        box: 'smooth_l1',
        boxBeta: 0.11,
        classificationWeight: 1,
        boxWeight: 1,
        normaliser: 'batch',
        emaMomentum: 0.9,
        emaStart: 100,
      },
      post: {
        scoreThreshold: 0.005,
        topkPerLevel: 100,
        nmsIou: 0.5,
        agnostic: false,
        bestClassOnly: false,
        maxDetections: 20,
        minSize: 0,
        clip: 'image',
      },
    },
    optimizer: {
      kind: 'sgd',
      momentum: 0.9,
      nesterov: false,
      beta1: 0.9,
      beta2: 0.999,
      eps: 1e-8,
      epsOutsideBiasCorrection: false,
      decayNorms: false,
    },
    device: 'cpu',
    seed: 7,
    deterministic: true,
    precision: 'fp32',
  }
}

/** `n` square images of `side` pixels with a bright square each, as uint16 windows. */
export function tinyBatch(n = 2, side = 128): ImageBatch {
  const pixels = new Uint16Array(n * side * side)
  for (let i = 0; i < n; i++) {
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const inside = Math.abs(x - side / 2) < side / 6 && Math.abs(y - side / 2) < side / 6
        pixels[(i * side + y) * side + x] = (inside ? 40000 : 9000) + ((x * 31 + y * 17 + i * 7) % 1000)
      }
    }
  }
  const repeat = (values: number[]) => Array.from({ length: n }, () => values).flat()
  return {
    canvas: [side, side],
    sizes: Int32Array.from(repeat([side, side])),
    windows: {
      pixels,
      shapes: Int32Array.from(repeat([side, side])),
      affines: Float64Array.from(repeat([1, 0, 0, 0, 1, 0])),
      reduce: new Int32Array(n),
      normalise: Float32Array.from(repeat([12000, 8000])),
      intensity: Float32Array.from(repeat([1, 0, 1, 0])),
      noiseSeed: new Uint32Array(n),
    },
  }
}

/** One box in the middle of each image of `tinyBatch`. */
export function tinyTargets(n = 2, side = 128): TargetBatch {
  const box = [side / 3, side / 3, (2 * side) / 3, (2 * side) / 3]
  return {
    boxes: Float32Array.from(Array.from({ length: n }, () => box).flat()),
    labels: Int32Array.from({ length: n }, (_, i) => i % 2),
    boxOffsets: Int32Array.from({ length: n + 1 }, (_, i) => i),
    ignore: new Float32Array(0),
    ignoreOffsets: new Int32Array(n + 1),
  }
}

export function tinyStep(): StepOptions {
  return {
    lr: 0.01,
    weightDecay: 1e-4,
    clipNorm: null,
    clipNormPerTensor: null,
    clipValue: null,
    lossScale: 1,
    update: true,
    skipNonFinite: true,
  }
}
