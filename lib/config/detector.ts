// From a configuration to what the engine and the ONNX writer need: every number explicit, no presets, no named semantics.
import type { DetectorConfig, SessionConfig } from '../binding/types.js'
import type { Config } from './schema.js'

/** The network and its rules, complete. */
export function detectorConfig(config: Config): DetectorConfig {
  const { model, anchors, matcher, loss, predict } = config
  return {
    model: {
      backbone: model.backbone,
      channels: config.input.channels,
      stemWidth: model.stemWidth,
      strideIn1x1: model.strideIn1x1,
      padding: model.padding,
      norm: model.norm,
      normEps: model.normEps,
      levels: model.levels,
      fpnChannels: model.fpnChannels,
      p6Source: model.p6Source,
      fpnInit: model.fpnInit,
      headDepth: model.headDepth,
      headNorm: model.headNorm,
      classes: config.data.classes.length,
      prior: model.prior,
      frozenStages: model.frozenStages,
      checkpointActivations: model.checkpointActivations,
    },
    anchors: {
      sizes: anchors.sizes,
      strides: anchors.strides,
      scales: anchors.scales,
      ratios: anchors.ratios,
      shape: anchors.shape,
      truncateSizes: anchors.truncateSizes,
      roundCorners: anchors.roundCorners,
      offset: anchors.offset,
      strideRule: anchors.strideRule,
    },
    matcher,
    coder: { kind: anchors.coder, weights: anchors.coderWeights, clamp: anchors.coderClamp },
    loss,
    post: {
      scoreThreshold: predict.scoreThreshold,
      topkPerLevel: predict.topkPerLevel,
      nmsIou: predict.nmsIou,
      agnostic: predict.agnostic,
      bestClassOnly: predict.bestClassOnly,
      maxDetections: predict.maxDetections,
      minSize: predict.minSize,
      clip: predict.clip,
    },
  }
}

/** What `openSession` takes. */
export function sessionConfig(config: Config): SessionConfig {
  const { train, run } = config
  return {
    detector: detectorConfig(config),
    optimizer: {
      kind: train.optimizer,
      momentum: train.momentum,
      nesterov: train.nesterov,
      beta1: train.betas[0],
      beta2: train.betas[1],
      eps: train.eps,
      epsOutsideBiasCorrection: train.epsOutsideBiasCorrection,
      decayNorms: train.decayNorms,
    },
    device: run.device,
    seed: run.seed,
    deterministic: run.deterministic,
    precision: run.precision,
  }
}

/** Canvas sides are multiples of this many pixels. */
export function padMultiple(config: Config): number {
  return config.input.padMultiple ?? 2 ** config.model.levels.at(-1)!
}
