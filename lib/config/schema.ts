// The one definition of every configuration key: type, default, range, meaning and where the number comes from.
// The validator, the JSON Schema, the documentation and the TypeScript type all derive from it. Sources in brackets:
// KR = keras-retinanet 1.0.0, TV = torchvision, D2 = detectron2, MSc = the INbreast project, [ours] = a decision to be ablated.
import { z } from 'zod'
import { BACKBONES } from './backbones.js'

const text = (value: string, about: string) => z.string().default(value).describe(about)
const flag = (value: boolean, about: string) => z.boolean().default(value).describe(about)
const num = (value: number, about: string, min = -Infinity, max = Infinity) =>
  z.number().min(min).max(max).default(value).describe(about)
const int = (value: number, about: string, min = 0, max = Number.MAX_SAFE_INTEGER) =>
  z.number().int().min(min).max(max).default(value).describe(about)
const maybe = <T extends z.ZodType>(inner: T, about: string) => inner.nullable().default(null).describe(about)
const choice = <const T extends readonly [string, ...string[]]>(options: T, value: T[number], about: string) =>
  z
    .enum(options)
    .default(value as never)
    .describe(about)
const recompute = z.union([z.boolean(), z.literal('early')])
const positives = (value: number[], about: string) =>
  z.array(z.number().positive()).min(1).default(value).describe(about)
const pair = (value: [number, number], about: string) =>
  z.tuple([z.number(), z.number()]).default(value).describe(about)

const run = z.strictObject({
  root: text('runs', 'folder of all run folders'),
  name: maybe(z.string().regex(/^[A-Za-z0-9._-]+$/), 'name of the run folder; null takes the preset or file name'),
  seed: int(0, 'seed of every named random stream; 0 is valid', 0, 0xffffffff),
  deterministic: flag(true, 'only kernels that repeat bit for bit'),
  device: z
    .string()
    .regex(/^(cpu|cuda(:\d+)?)$/)
    .default('cpu')
    .describe('cpu, cuda or cuda:n'),
  threads: maybe(z.number().int().positive(), 'intra-op threads of the engine; null fits the container'),
  precision: choice(
    ['fp32', 'bf16', 'fp16'],
    'fp32',
    'arithmetic of convolutions; geometry and losses stay fp32; fp16, on CUDA only, scales the loss by need',
  ),
  logEvery: int(10, 'steps between printed lines without a terminal', 1),
  pictures: int(4, 'pictures of training samples and of each evaluation in the run folder and TensorBoard; 0: none'),
  timeHours: maybe(z.number().positive(), 'stop after this time with a checkpoint'),
})

const patch = z.strictObject({
  size: int(1024, 'side of a training patch in pixels [MSc]', 64),
  positivesPerLesion: int(5, 'windows per lesion and epoch [MSc]', 0),
  negativesPerImage: int(2, 'windows per negative image and epoch [MSc]', 0),
  hardNegatives: int(0, 'windows per positive image that meet no lesion [ours]', 0),
  fresh: flag(true, 'draw new windows every epoch; false repeats those of epoch 0 [MSc: fixed]'),
  rule: choice(['ours', 'msc'], 'ours', 'placement: datasets spec 4.4, or the MSc project as it was'),
})

const resize = z.strictObject({
  rule: choice(['none', 'sides', 'spacing'], 'none', 'scale of resized training'),
  minSide: int(800, 'shorter side in pixels for rule sides [KR 800, MSc 1700]', 32),
  maxSide: int(1333, 'longer side limit in pixels for rule sides [KR 1333, MSc 2300]', 32),
  spacingMm: maybe(z.number().positive(), 'pixel spacing in mm for rule spacing'),
})

const data = z.strictObject({
  root: maybe(z.string(), 'prepared folder (made by `data prepare`)'),
  fold: maybe(z.number().int().min(0), 'fold of a k-fold split; null uses train/val/test of split.json'),
  classes: z.array(z.string().min(1)).min(1).default(['mass']).describe('lesion classes to detect, in index order'),
  batchSize: int(4, 'images per step [ours: patches 4, full size 1]', 1),
  evalBatchSize: int(1, 'images per evaluation call', 1),
  patch: patch.prefault({}).describe('patches of the crops strategy'),
  resize: resize.prefault({}).describe('scale of the resized strategy'),
  antialias: flag(true, 'average 2^k blocks before a reduction beyond 2 [ours]'),
  minVisible: num(0.5, 'smallest visible share of a lesion that keeps its box [ours]', 0, 1),
  minSidePx: num(16, 'a clipped side below this many canvas pixels makes an ignore region [ours]', 0),
  readAhead: int(4, 'batches read ahead of the step', 1, 64),
  allowLeak: flag(false, 'train although patients occur in several parts; the run is marked'),
  limit: maybe(z.number().int().positive(), 'use only this many training images (smoke runs)'),
})

const input = z.strictObject({
  channels: z
    .union([z.literal(1), z.literal(3)])
    .default(1)
    .describe('channels of the stem; 1 is exact for grey images'),
  normalise: choice(
    ['dataset', 'image'],
    'dataset',
    'statistics of the training images, or of each image (other vendors)',
  ),
  mean: maybe(z.number(), 'mean over non-zero pixels; null takes it from the prepared folder'),
  std: maybe(z.number().positive(), 'standard deviation over non-zero pixels; null takes it from the prepared folder'),
  padMultiple: maybe(z.number().int().positive(), 'canvas sides are multiples of this; null is the coarsest stride'),
})

const augment = z.strictObject({
  enabled: flag(true, 'false trains on unchanged images'),
  horizontalFlip: num(0.5, 'probability [KR, MSc]', 0, 1),
  verticalFlip: num(0, 'probability', 0, 1),
  rotation: num(0.1, 'largest angle in radians, both directions [KR]', 0, Math.PI),
  shear: num(0, 'largest shear angle in radians [KR .1]', 0, 1),
  scale: pair([0.9, 1.1], 'factor range, drawn per axis when anisotropic [KR]'),
  anisotropic: flag(false, 'draw the scale for each axis'),
  translation: num(0.05, 'largest shift as a share of the side [ours, KR .1]', 0, 1),
  elastic: num(0, 'largest elastic displacement in pixels of the input, smooth over 64 pixels or more; 0 is off', 0),
  contrast: pair([1, 1], 'factor range on normalised non-zero pixels [KR .9-1.1]'),
  brightness: num(0, 'largest shift in standard deviations on non-zero pixels', 0),
  gamma: pair([1, 1], 'exponent range on raw/65535 of non-zero pixels'),
  noise: num(0, 'sigma of added noise in standard deviations', 0),
  boxRule: choice(
    ['ellipse', 'corners'],
    'ellipse',
    'box of a transformed box: inscribed ellipse, or corners (other tools)',
  ),
})

export const SEMANTICS = ['keras-retinanet', 'torchvision-v1', 'torchvision-v2', 'mammo'] as const
const NORMS = ['frozen', 'train', 'group'] as const

const model = z.strictObject({
  semantics: choice(SEMANTICS, 'mammo', 'whose rules the detector follows; sets the defaults of the keys marked so'),
  backbone: choice(BACKBONES, 'resnet50', 'feature extractor; sets the default of normEps'),
  weights: maybe(z.string(), 'local file of initial weights; null starts at random'),
  norm: choice(
    NORMS,
    'group',
    'batch norms of the backbone; frozen needs weights; backbones without any stay as they are',
  ),
  normEps: num(1e-5, 'epsilon of the norms, of the weight source (torchvision v1 COCO: 0); by backbone', 0),
  strideIn1x1: flag(false, 'bottleneck stride in the first 1x1 [keras-resnet] instead of the 3x3 [TV]; by semantics'),
  padding: choice(['symmetric', 'tf'], 'symmetric', 'zero padding of stride-2 layers; by semantics'),
  stemWidth: int(64, 'channels of the stem of a ResNet or ResNeXt; 64 in every published one', 1),
  levels: z
    .array(z.number().int().min(2).max(8))
    .min(1)
    .default([3, 4, 5, 6, 7])
    .describe('pyramid levels, contiguous'),
  fpnChannels: int(256, 'width of pyramid and towers', 1),
  fpnInit: choice(['kaiming_uniform', 'glorot_uniform'], 'kaiming_uniform', 'initial pyramid weights; by semantics'),
  p6Source: choice(['c5', 'p5'], 'c5', 'what P6 is made from; by semantics'),
  headDepth: int(4, '3x3 convolutions per tower', 0),
  headNorm: z
    .strictObject({
      classification: choice(['none', 'group'], 'group', 'norm of the classification tower; by semantics'),
      box: choice(['none', 'group'], 'none', 'norm of the box tower; none keeps box training local and sparse [ours]'),
    })
    .prefault({}),
  prior: z.number().gt(0).lt(1).default(0.01).describe('initial foreground probability [RetinaNet paper]'),
  frozenStages: int(0, 'n freezes the stem and the first n-1 stages; 5 is the whole backbone', 0, 5),
  checkpointActivations: recompute
    .default(false)
    .describe(
      'recompute activations of residual blocks: less memory, more time; early: of those up to C2 what is large and cheap',
    ),
})

const anchors = z.strictObject({
  sizes: positives([32, 64, 128, 256, 512], 'base side in pixels, one per level'),
  strides: positives([8, 16, 32, 64, 128], 'stride in pixels, one per level'),
  scales: positives([1, 2 ** (1 / 3), 2 ** (2 / 3)], 'factors of the size [RetinaNet paper]'),
  ratios: positives([0.5, 1, 2], 'height / width'),
  shape: choice(['area', 'side'], 'area', 'formula of width and height; by semantics'),
  truncateSizes: flag(false, 'cut size*scale to an integer [TV]; by semantics'),
  roundCorners: flag(false, 'round base corners half to even [TV]; by semantics'),
  offset: num(0.5, 'anchor centre in its cell, in strides [TV 0]; by semantics', 0, 1),
  strideRule: choice(
    ['configured', 'floorDivision'],
    'configured',
    'stride, or padded size // feature size [TV]; by semantics',
  ),
  coder: choice(['centre', 'corner'], 'centre', 'box code: centre and log size, or corners [KR]; by semantics'),
  coderWeights: z
    .tuple([z.number().positive(), z.number().positive(), z.number().positive(), z.number().positive()])
    .default([1, 1, 1, 1])
    .describe('weights (centre) or standard deviations (corner, KR .2); by semantics'),
  coderClamp: z
    .number()
    .positive()
    .nullable()
    .default(Math.log(1000 / 16))
    .describe('limit of dw, dh in decoding [TV ln(1000/16)]; by semantics'),
})

const matcher = z.strictObject({
  kind: choice(['iou', 'atss'], 'iou', 'assignment of anchors to boxes'),
  positiveIou: num(0.5, 'an anchor at or above is positive', 0, 1),
  negativeIou: num(0.4, 'an anchor below is background', 0, 1),
  negativeInclusive: flag(false, 'exactly negativeIou is background [KR]; by semantics'),
  lowQuality: flag(true, 'give every box its best anchors [TV]; by semantics'),
  lowQualityMinIou: num(0.2, 'floor of the low-quality rule [ours; TV 0]; by semantics', 0, 1),
  outside: choice(
    ['background', 'ignoreBackground', 'ignoreAll'],
    'ignoreBackground',
    'anchors centred outside the image; by semantics',
  ),
  atssTopk: int(4, 'ATSS candidates per level, times anchors per cell [MONAI 4]', 1),
  atssCentreInBox: flag(true, 'ATSS: the anchor centre must lie in the box'),
})

const loss = z.strictObject({
  alpha: num(0.25, 'focal alpha, weight of positives [RetinaNet paper; MSc .95]', 0, 1),
  gamma: num(2, 'focal gamma [RetinaNet paper; MSc 5]', 0, 20),
  box: choice(['l1', 'smooth_l1', 'giou', 'diou', 'ciou'], 'giou', 'box loss; by semantics'),
  boxBeta: num(1 / 9, 'beta of smooth_l1 (KR sigma 3: 1/9)', 0),
  classificationWeight: num(1, 'factor of the classification loss', 0),
  boxWeight: num(1, 'factor of the box loss', 0),
  normaliser: choice(
    ['per_image', 'batch', 'ema'],
    'ema',
    'divisor of the sums: positives per image, per batch, or moving average [D2]; by semantics',
  ),
  emaMomentum: num(0.9, 'momentum of the moving average [D2]', 0, 1),
  emaStart: num(100, 'start of the moving average [D2]', 1),
})

const schedule = z.strictObject({
  kind: choice(
    ['constant', 'step', 'cosine', 'onecycle', 'plateau'],
    'cosine',
    'course of the learning rate after warm-up',
  ),
  warmupSteps: int(500, 'linear warm-up steps [ours]', 0),
  warmupFactor: num(0.001, 'factor at step 0 [TV]', 0, 1),
  milestones: z
    .array(z.number().positive())
    .default([16, 22])
    .describe('step: epochs at which the rate is multiplied [TV]'),
  factor: num(0.1, 'step and plateau: multiplier', 0, 1),
  finalFactor: num(0.01, 'cosine and onecycle: factor at the end [ours]', 0, 1),
  patience: int(2, 'plateau: epochs without improvement [KR]', 0),
  monitor: text('val/AP50', 'plateau and early stopping: results.csv column to watch'),
})

const earlyStop = z.strictObject({
  patience: maybe(
    z.number().int().positive(),
    'end the phase after this many evaluations without improvement of schedule.monitor [KR 5]; null: off',
  ),
  minDelta: num(0.01, 'smallest improvement that counts [KR]', 0),
})

const phase = z.strictObject({
  name: z.string().min(1).describe('shown in logs and plots'),
  strategy: z.enum(['resized', 'full', 'crops']).describe('what an image is in this phase'),
  epochs: z.number().int().positive().describe('passes over the data'),
  stepsPerEpoch: z.number().int().positive().nullable().default(null).describe('null: one pass'),
  lr: z.number().positive().nullable().default(null).describe('null: train.lr'),
  batchSize: z.number().int().positive().nullable().default(null).describe('null: data.batchSize'),
  accumulate: z.number().int().positive().nullable().default(null).describe('null: train.accumulate'),
  frozenStages: z.number().int().min(0).max(5).nullable().default(null).describe('null: model.frozenStages'),
  checkpointActivations: recompute.nullable().default(null).describe('null: model.checkpointActivations'),
  augment: z.boolean().nullable().default(null).describe('null: augment.enabled'),
  schedule: schedule.nullable().default(null).describe('null: train.schedule'),
  earlyStop: earlyStop.nullable().default(null).describe('null: train.earlyStop; ends this phase'),
})

const train = z.strictObject({
  strategy: choice(
    ['resized', 'full', 'crops', 'twoStage'],
    'resized',
    'resized or full images, patches, or patches then full images',
  ),
  epochs: int(40, 'passes over the data of a one-phase run [MSc]', 1),
  stepsPerEpoch: maybe(z.number().int().positive(), 'updates per epoch; null is one pass over the data'),
  phases: maybe(z.array(phase).min(1), 'phases of the run; null: one phase, or the two of twoStage'),
  optimizer: choice(['adamw', 'adam', 'sgd'], 'adamw', 'update rule'),
  lr: num(1e-4, 'peak learning rate; scaled linearly by effective batch / lrBatch', 0),
  lrBatch: maybe(z.number().positive(), 'batch that lr is meant for (16 in [TV]); null uses lr as it is'),
  weightDecay: num(0.05, 'AdamW: decoupled; others: L2 [TV v2]', 0),
  decayNorms: flag(false, 'decay norm parameters and biases too [TV, KR]; by semantics'),
  momentum: num(0.9, 'sgd', 0, 1),
  nesterov: flag(false, 'sgd'),
  betas: pair([0.9, 0.999], 'adam, adamw'),
  eps: num(1e-8, 'adam, adamw [KR 1e-7]; by semantics', 0),
  epsOutsideBiasCorrection: flag(false, "Keras' place of epsilon; by semantics"),
  clipNorm: z.number().positive().nullable().default(1).describe('global gradient norm; null: none [ours 1]'),
  clipNormPerTensor: maybe(z.number().positive(), 'norm of each tensor [KR .001 under TensorFlow 2]'),
  clipValue: maybe(z.number().positive(), 'each gradient element'),
  accumulate: int(1, 'micro-batches per update', 1),
  emaDecay: z
    .number()
    .min(0)
    .lt(1)
    .default(0)
    .describe('moving average of weights for evaluation and export, such as 0.999; 0 is off'),
  schedule: schedule.prefault({}),
  earlyStop: earlyStop.prefault({}),
  evaluateEvery: int(1, 'epochs between evaluations', 1),
  checkpointMinutes: num(5, 'minutes between periodic checkpoints', 0),
  keepEvery: int(10, 'keep the checkpoint of every n-th epoch; 0: none', 0),
  onNonFinite: choice(['stop', 'skip'], 'stop', 'what a non-finite loss does'),
})

const evaluate = z.strictObject({
  split: choice(['train', 'val', 'test'], 'val', 'part of the data that is scored'),
  scoreThreshold: num(0.01, 'detections above are scored [ours]', 0, 1),
  iou: num(0.5, 'IoU of the keras-retinanet AP', 0, 1),
  maxDetections: int(100, 'per image', 1),
  hit: z
    .string()
    .regex(/^(centre|iou:(0?\.\d+|1(\.0+)?))$/)
    .default('centre')
    .describe('FROC hit: centre or iou:T'),
  frocCredit: choice(['all', 'best'], 'all', 'lesions that one detection credits'),
  fppi: z
    .array(z.number().positive())
    .min(1)
    .default([0.1, 0.2, 0.3, 0.5, 1, 2, 4, 8])
    .describe('false positives per image'),
  bootstrap: int(2000, 'patient resamples for intervals; 0: none', 0),
})

const predict = z.strictObject({
  scoreThreshold: num(0.05, 'detections strictly above are reported', 0, 1),
  topkPerLevel: z
    .number()
    .int()
    .positive()
    .nullable()
    .default(1000)
    .describe('candidates per level; null: all [KR]; by semantics'),
  nmsIou: num(0.5, 'IoU strictly above suppresses', 0, 1),
  agnostic: flag(false, 'suppress across classes'),
  bestClassOnly: flag(false, 'only the best class of an anchor'),
  maxDetections: int(100, 'per image; by semantics', 1),
  minSize: num(0, 'smallest side in input pixels; boxes without area are dropped when > 0', 0),
  clip: choice(['image', 'canvasMinusOne', 'none'], 'image', 'clipping of boxes; by semantics'),
  crop: maybe(z.boolean(), 'breast crop before the network; null: as in training'),
  cropMargin: num(0.03, 'safety margin of the crop, share of the longer side', 0, 1),
  spacing: choice(['resample', 'warn', 'ignore'], 'resample', 'when the pixel spacing differs from the training'),
  spacingTolerance: num(0.15, 'relative difference that is accepted', 0),
})

const exportSection = z.strictObject({
  normalise: flag(true, 'normalisation inside the graph, from raw values'),
  shape: text('dynamic', 'dynamic, or HxW'),
  precision: z
    .array(z.enum(['fp32', 'fp16', 'int8']))
    .min(1)
    .default(['fp32'])
    .describe('variants to write'),
  scoreFloor: num(0.01, 'scores at or below never leave the graph', 0, 1),
})

export const configSchema = z.strictObject({
  run: run.prefault({}),
  data: data.prefault({}),
  input: input.prefault({}),
  augment: augment.prefault({}),
  model: model.prefault({}),
  anchors: anchors.prefault({}),
  matcher: matcher.prefault({}),
  loss: loss.prefault({}),
  train: train.prefault({}),
  evaluate: evaluate.prefault({}),
  predict: predict.prefault({}),
  export: exportSection.prefault({}),
})

/** A complete, validated configuration. */
export type Config = z.output<typeof configSchema>
/** Any part of a configuration, as presets and files give it. */
export type PartialConfig = { [S in keyof Config]?: Partial<Config[S]> | Record<string, unknown> }
export type Semantics = (typeof SEMANTICS)[number]
export type PhaseConfig = z.output<typeof phase>
export type ScheduleConfig = z.output<typeof schedule>

/** JSON Schema (draft 2020-12) of the configuration file, for editors. `extends` names the preset. */
export function configJsonSchema(presets: readonly string[]): Record<string, unknown> {
  const schema = z.toJSONSchema(configSchema, { io: 'input' }) as { properties: Record<string, unknown> }
  schema.properties['extends'] = { enum: [...presets], description: 'preset that this file starts from' }
  return { title: 'mammo-retinanet configuration', ...schema }
}
