// The four rule sets a detector can follow, as data: keys that differ from the schema's defaults (which are `mammo`).
// Sources: keras-retinanet 1.0.0; torchvision RetinaNet v1 and v2 (0.29); retinanet spec, section 2.1.
import type { PartialConfig, Semantics } from './schema.js'

const torchvision: PartialConfig = {
  input: { channels: 3, padMultiple: 32 },
  model: { norm: 'frozen', headNorm: { classification: 'none', box: 'none' }, p6Source: 'p5' },
  anchors: { shape: 'side', truncateSizes: true, roundCorners: true, offset: 0, strideRule: 'floorDivision' },
  matcher: { lowQualityMinIou: 0, outside: 'background' },
  loss: { box: 'l1', normaliser: 'per_image' },
  train: { decayNorms: true },
  predict: { maxDetections: 300 },
}

export const semanticsDefaults: Record<Semantics, PartialConfig> = {
  mammo: {},
  'torchvision-v1': torchvision,
  'torchvision-v2': {
    ...torchvision,
    model: { norm: 'train', headNorm: { classification: 'group', box: 'group' }, p6Source: 'c5' },
    loss: { box: 'giou', normaliser: 'per_image' },
  },
  'keras-retinanet': {
    input: { channels: 3 },
    model: {
      norm: 'frozen',
      strideIn1x1: true,
      padding: 'tf',
      fpnInit: 'glorot_uniform',
      p6Source: 'c5',
      headNorm: { classification: 'none', box: 'none' },
    },
    anchors: { coder: 'corner', coderWeights: [0.2, 0.2, 0.2, 0.2], coderClamp: null },
    matcher: { negativeInclusive: true, lowQuality: false, outside: 'ignoreAll' },
    loss: { box: 'smooth_l1', normaliser: 'batch' },
    train: { decayNorms: true, optimizer: 'adam', lr: 1e-5, weightDecay: 0, eps: 1e-7, epsOutsideBiasCorrection: true },
    predict: { topkPerLevel: null, maxDetections: 300, clip: 'canvasMinusOne' },
  },
}
