// Combinations of keys that cannot work, found before anything is allocated. Each rule names the key to change.
import type { ConfigProblem } from '../errors.js'
import { backboneOf } from './backbones.js'
import type { Config } from './schema.js'

/** All impossible combinations of a configuration that is valid key by key. */
export function checkCombinations(config: Config, hasWeights: boolean): ConfigProblem[] {
  const problems: ConfigProblem[] = []
  const fault = (key: string, message: string) => problems.push({ key, message })
  const { model, anchors, matcher, train, data } = config
  const weights = hasWeights || model.weights !== null
  const levels = model.levels
  const backbone = backboneOf(model.backbone)
  if (levels.some((level, i) => i > 0 && level !== levels[i - 1]! + 1)) {
    fault('model.levels', `model.levels is [${levels}], expected contiguous ascending levels such as [3,4,5,6,7]`)
  }
  if (levels[0]! > 6)
    fault('model.levels', `model.levels starts at ${levels[0]}: P7 is made from P6, P8 from P7; start at 6 or lower`)
  for (const key of ['sizes', 'strides'] as const) {
    if (anchors[key].length !== levels.length) {
      fault(
        `anchors.${key}`,
        `anchors.${key} has ${anchors[key].length} entries, model.levels has ${levels.length}; give one per level`,
      )
    }
  }
  anchors.strides.forEach((stride, i) => {
    const level = levels[i]
    if (level !== undefined && stride !== 2 ** level) {
      fault('anchors.strides', `anchors.strides[${i}] is ${stride}, level P${level} has stride ${2 ** level}`)
    }
  })
  if (anchors.scales.length * anchors.ratios.length > 32) {
    fault(
      'anchors.scales',
      `${anchors.scales.length} scales x ${anchors.ratios.length} ratios make more than 32 anchors per cell`,
    )
  }
  if (model.norm === 'frozen' && backbone.norm === 'batch' && !weights) {
    fault(
      'model.norm',
      'model.norm is frozen but model.weights is null: frozen statistics of random weights never fit; use group or train, or give weights',
    )
  }
  const first = train.phases?.[0]
  if (!weights && (first?.frozenStages ?? model.frozenStages) > 0) {
    fault(
      'model.frozenStages',
      'model.frozenStages freezes layers, but model.weights is null: random layers would never learn',
    )
  }
  if (matcher.negativeIou > matcher.positiveIou) {
    fault(
      'matcher.negativeIou',
      `matcher.negativeIou ${matcher.negativeIou} is above matcher.positiveIou ${matcher.positiveIou}`,
    )
  }
  if (data.resize.rule === 'sides' && data.resize.minSide > data.resize.maxSide) {
    fault(
      'data.resize.minSide',
      `data.resize.minSide ${data.resize.minSide} is above data.resize.maxSide ${data.resize.maxSide}`,
    )
  }
  if (data.resize.rule === 'spacing' && data.resize.spacingMm === null) {
    fault('data.resize.spacingMm', 'data.resize.rule is spacing: data.resize.spacingMm is needed')
  }
  if (train.strategy === 'twoStage' && train.phases === null) {
    fault('train.phases', 'train.strategy is twoStage: list the phases (preset inbreast-two-stage shows how)')
  }
  const multiple = config.input.padMultiple
  const coarsest = 2 ** levels.at(-1)!
  if (multiple !== null && multiple % coarsest !== 0 && anchors.strideRule === 'configured') {
    fault(
      'input.padMultiple',
      `input.padMultiple ${multiple} is no multiple of the coarsest stride ${coarsest}: level strides would not be exact`,
    )
  }
  const norms = [config.input.mean, config.input.std]
  if (norms.filter((v) => v === null).length === 1)
    fault('input.mean', 'give both input.mean and input.std, or neither')
  if (model.strideIn1x1 && !backbone.bottleneck) {
    fault('model.strideIn1x1', `model.strideIn1x1 needs bottleneck blocks, ${model.backbone} has none; set it to false`)
  }
  if (model.stemWidth !== 64 && !backbone.scalable) {
    fault(
      'model.stemWidth',
      `model.stemWidth is ${model.stemWidth}, but ${model.backbone} has the widths of its family`,
    )
  }
  if (config.run.precision === 'fp16' && config.run.device === 'cpu') {
    fault('run.precision', 'run.precision fp16 needs a CUDA device; use fp32 or bf16 on the CPU')
  }
  return problems
}
