// Training recipes by name. A preset is nothing but configuration; the detector's rules are `model.semantics`.
// Numbers: the INbreast MSc project (patches, two stages, sizes, focal parameters) and the retinanet spec, sections 4 and 5.
import type { PartialConfig } from './schema.js'

const fullResolution = {
  levels: [4, 5, 6, 7],
  sizes: [64, 128, 256, 512],
  strides: [16, 32, 64, 128],
}

export interface Preset {
  about: string
  config: PartialConfig
}

export const presets: Record<string, Preset> = {
  smoke: {
    about: 'two updates on two images on the CPU: does the installation work?',
    config: {
      run: { logEvery: 1 },
      data: { batchSize: 1, limit: 2, resize: { rule: 'sides', minSide: 256, maxSide: 320 } },
      model: { backbone: 'resnet18' },
      train: { strategy: 'resized', epochs: 1, stepsPerEpoch: 2, schedule: { kind: 'constant', warmupSteps: 0 } },
      evaluate: { bootstrap: 0 },
    },
  },
  demo: {
    about: 'over-fits the 16 bundled mammograms on purpose, in minutes on two cores',
    config: {
      run: { logEvery: 20 },
      data: { batchSize: 4, resize: { rule: 'sides', minSide: 384, maxSide: 384 } },
      augment: { enabled: false },
      model: { backbone: 'resnet18', levels: [3, 4, 5], fpnChannels: 128 },
      anchors: { sizes: [32, 64, 128], strides: [8, 16, 32] },
      loss: { normaliser: 'batch' },
      train: { strategy: 'resized', epochs: 40, lr: 1e-3, evaluateEvery: 10, schedule: { warmupSteps: 20 } },
      evaluate: { split: 'train', bootstrap: 0 },
    },
  },
  'inbreast-two-stage': {
    about: '1024-pixel patches with everything trained, then full-size mammograms with a frozen backbone',
    config: {
      model: { backbone: 'resnet50', levels: fullResolution.levels },
      anchors: { sizes: fullResolution.sizes, strides: fullResolution.strides },
      loss: { alpha: 0.95, gamma: 5 },
      train: {
        strategy: 'twoStage',
        phases: [
          { name: 'patches', strategy: 'crops', epochs: 20, batchSize: 4 },
          { name: 'full size', strategy: 'full', epochs: 20, batchSize: 1, accumulate: 4, frozenStages: 5 },
        ],
      },
    },
  },
  'inbreast-resized': {
    about: 'whole mammograms scaled to 1700/2300 pixels',
    config: {
      data: { batchSize: 1, resize: { rule: 'sides', minSide: 1700, maxSide: 2300 } },
      loss: { alpha: 0.95, gamma: 5 },
      train: { strategy: 'resized', accumulate: 4 },
    },
  },
  'cbis-resized': {
    about: 'CBIS-DDSM images scaled to 512 pixels, ResNet-18, from random weights',
    config: {
      data: { batchSize: 4, resize: { rule: 'sides', minSide: 512, maxSide: 896 } },
      model: { backbone: 'resnet18' },
      train: { strategy: 'resized', epochs: 20 },
    },
  },
}
