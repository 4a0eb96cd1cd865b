// The studies of the INbreast MSc project as sweeps: focal parameters, anchors, strategies, backbones, split ratios. Data only; a user
// adds the prepared folder and, for a small machine, a smaller recipe. Values: retinanet spec, sections 4 and 7.
import type { SweepSpecInput } from './sweep-spec.js'

const fullResolution = {
  'model.levels': [4, 5, 6, 7],
  'anchors.sizes': [64, 128, 256, 512],
  'anchors.strides': [16, 32, 64, 128],
}

const resized = {
  'data.resize.rule': 'sides',
  'data.resize.minSide': 1700,
  'data.resize.maxSide': 2300,
  'model.levels': [3, 4, 5, 6, 7],
  'anchors.sizes': [32, 64, 128, 256, 512],
  'anchors.strides': [8, 16, 32, 64, 128],
}

export const studies: Readonly<Record<string, SweepSpecInput>> = {
  focal: {
    name: 'focal',
    about:
      'which focal parameters suit one mass in a large image? The pairs that the project tried, and the paper default',
    base: 'inbreast-resized',
    arms: {
      'alpha 0.25, gamma 2': { 'loss.alpha': 0.25, 'loss.gamma': 2 },
      'alpha 0.95, gamma 3.5': { 'loss.alpha': 0.95, 'loss.gamma': 3.5 },
      'alpha 0.95, gamma 5': { 'loss.alpha': 0.95, 'loss.gamma': 5 },
      'alpha 0.95, gamma 6.5': { 'loss.alpha': 0.95, 'loss.gamma': 6.5 },
      'alpha 0.999, gamma 5': { 'loss.alpha': 0.999, 'loss.gamma': 5 },
      'alpha 0.9999, gamma 5': { 'loss.alpha': 0.9999, 'loss.gamma': 5 },
    },
    seeds: [0, 1],
  },
  anchors: {
    name: 'anchors',
    about:
      'do anchors that were fitted to the masses help? Defaults against the optimised 3 x 3 and 5 x 3 sets at full size',
    base: 'inbreast-resized',
    arms: {
      default: {},
      'optimised 3x3': { 'anchors.ratios': [0.725, 1, 1.38], 'anchors.scales': [1.189, 1.563, 1.916] },
      'wider ratios 5x3': { 'anchors.ratios': [0.5, 0.725, 1, 1.38, 2], 'anchors.scales': [1.189, 1.563, 1.916] },
    },
    seeds: [0, 1],
  },
  strategies: {
    name: 'strategies',
    about: 'whole mammograms at full size, patches first and then full size, or scaled down?',
    base: 'inbreast-two-stage',
    arms: {
      'one stage': {
        ...fullResolution,
        'train.strategy': 'full',
        'train.phases': null,
        'data.batchSize': 1,
        'train.accumulate': 4,
      },
      'two stage': {},
      resized: {
        ...resized,
        'train.strategy': 'resized',
        'train.phases': null,
        'data.batchSize': 1,
        'train.accumulate': 4,
      },
    },
    seeds: [0, 1],
  },
  backbones: {
    name: 'backbones',
    about: 'does a deeper ResNet find more masses?',
    base: 'inbreast-resized',
    space: { 'model.backbone': ['resnet18', 'resnet34', 'resnet50', 'resnet101'] },
    seeds: [0, 1],
  },
  'split-ratios': {
    name: 'split-ratios',
    about:
      'how much do the shares of train, val and test change the result? Every ratio has validation images of its own',
    base: 'inbreast-resized',
    splitRatios: {
      '64/21/15': [0.64, 0.21, 0.15],
      '70/15/15': [0.7, 0.15, 0.15],
      '80/10/10': [0.8, 0.1, 0.1],
      '50/25/25': [0.5, 0.25, 0.25],
    },
    seeds: [0, 1],
  },
}
