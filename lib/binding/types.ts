// The contract between TypeScript and the native addon: values only (numbers, strings, typed arrays with explicit shapes).
// One interface; `native/addon/exports.cc` registers the same names, a contract test compares the two lists.
// Ragged data is flat with an index of n+1 offsets. Boxes are xyxy, half-open, in pixels of the network's input canvas.

/** Raised on both sides whenever a call, a field or its meaning changes. */
export const ABI_VERSION = 3

/** Everything that defines the network and its rules, fully resolved: the native side has no defaults and no named semantics. */
export interface DetectorConfig {
  model: ModelConfig
  anchors: AnchorConfig
  matcher: MatcherConfig
  coder: CoderConfig
  loss: LossConfig
  post: PostConfig
}

export type NormPolicy = 'frozen' | 'train' | 'group'

export interface ModelConfig {
  /** A name of lib/config/backbones.ts. */
  backbone: string
  /** Input channels of the stem, 1 or 3. */
  channels: 1 | 3
  /** Output channels of a ResNet's stem convolution; 64 in every published one, smaller in test fixtures. Other families ignore it. */
  stemWidth: number
  /** Bottleneck stride in the first 1x1 (keras-resnet, Caffe) instead of the 3x3 (torchvision). */
  strideIn1x1: boolean
  /** Zero padding of stride-2 layers: `symmetric` (PyTorch) or `tf` (TensorFlow `same`, one pixel less on top and left for even sizes). */
  padding: 'symmetric' | 'tf'
  norm: NormPolicy
  /** Epsilon of batch norm in the backbone. */
  normEps: number
  /** Contiguous pyramid levels, ascending, within 2..8. */
  levels: number[]
  /** Width of the pyramid and of the heads' towers; 256 in the publications. */
  fpnChannels: number
  p6Source: 'c5' | 'p5'
  fpnInit: 'kaiming_uniform' | 'glorot_uniform'
  /** 3x3 convolutions in each tower before the final one. */
  headDepth: number
  headNorm: { classification: 'none' | 'group'; box: 'none' | 'group' }
  /** Foreground classes K; one logit each, no background column. */
  classes: number
  /** Initial foreground probability; sets the classification bias to -ln((1-p)/p). */
  prior: number
  /** n freezes the stem and the first n-1 stages; 0 none, 5 the whole backbone. */
  frozenStages: number
  /** Activation checkpointing by residual block in trained stages; early: only the large maps up to C2. */
  checkpointActivations: Recompute
}

/** Blocks whose activations are computed again in the backward. */
export type Recompute = boolean | 'early'

/** A backbone as data: operations in execution order, as native/core/model/backbones builds them. */
export interface BackboneGraph {
  nodes: BackboneNode[]
  /** C2..C5 as far as the configuration reads them; `node` is an index into `nodes`. */
  taps: { level: number; node: number; channels: number; stride: number }[]
}

/**
 * One operation. Parameters are called `<name>.weight`, `.bias`, `.running_mean`, `.running_var`. The rule of the names: `backbone.` +
 * torchvision's state dict (SE networks: timm's; MobileNet v1: keras-applications' layer names). Linear layers are 1x1 convolutions
 * (two trailing dimensions more) and a layer scale is `<name>.weight` [C].
 */
export interface BackboneNode {
  name: string
  op:
    | 'conv'
    | 'batchNorm'
    | 'groupNorm'
    | 'layerNorm'
    | 'relu'
    | 'relu6'
    | 'hardswish'
    | 'hardsigmoid'
    | 'silu'
    | 'sigmoid'
    | 'gelu'
    | 'maxPool'
    | 'avgPool'
    | 'globalAvgPool'
    | 'add'
    | 'mul'
    | 'concat'
    | 'scale'
  /** Earlier nodes; -1 is the network's input. */
  inputs: number[]
  /** 1 the stem, 2..5 as a pyramid level: what `frozenStages` counts. */
  stage: number
  /** Of the output. */
  channels: number
  /** Convolutions and pools. Padding: `symmetric` (k-1)/2 on each side; `tf` TensorFlow's `same`; `valid` none; `end` one pixel after, none before. */
  kernel?: number
  stride?: number
  padding?: 'symmetric' | 'tf' | 'valid' | 'end'
  groups?: number
  bias?: boolean
  /** Norms; layer norm runs over the channels of each position. */
  eps?: number
}

export interface AnchorConfig {
  /** One per level of `model.levels`. */
  sizes: number[]
  strides: number[]
  scales: number[]
  /** height / width. */
  ratios: number[]
  /** `area`: w = sqrt((size*scale)^2 / r), h = w*r (keras-retinanet, mammo). `side`: h = s*sqrt(r), w = s/sqrt(r) (torchvision). */
  shape: 'area' | 'side'
  /** Truncate size*scale to an integer (torchvision's AnchorGenerator call). */
  truncateSizes: boolean
  /** Round base-anchor corners half to even (torchvision). */
  roundCorners: boolean
  /** Position of the cell's anchor in units of the stride: 0.5 centre, 0 corner. */
  offset: number
  /** `configured`: `strides`; `floorDivision`: padded size // feature size (torchvision). */
  strideRule: 'configured' | 'floorDivision'
}

export interface MatcherConfig {
  kind: 'iou' | 'atss'
  positiveIou: number
  negativeIou: number
  /** At IoU exactly `negativeIou`: true -> background (keras-retinanet ignores only > .4), false -> ignored (torchvision). */
  negativeInclusive: boolean
  lowQuality: boolean
  /** Floor of the low-quality rule; 0 with `lowQualityAllowZero` reproduces torchvision, which also matches ties at IoU 0. */
  lowQualityMinIou: number
  /** Anchors whose centre lies at or beyond the real image: `background` (torchvision), `ignoreBackground` (mammo), `ignoreAll` (keras-retinanet: overrides positives too). */
  outside: 'background' | 'ignoreBackground' | 'ignoreAll'
  atssTopk: number
  atssCentreInBox: boolean
}

export interface CoderConfig {
  /** `corner`: (g-a)/side/std; `centre`: centre offsets and log sizes times `weights`. */
  kind: 'corner' | 'centre'
  /** corner: the four standard deviations; centre: the four weights. */
  weights: [number, number, number, number]
  /** Upper clamp of dw, dh in decoding (ln(1000/16)); null for none. */
  clamp: number | null
}

export type BoxLoss = 'l1' | 'smooth_l1' | 'giou' | 'diou' | 'ciou'

export interface LossConfig {
  alpha: number
  gamma: number
  /** l1 and smooth_l1 act on encoded deltas, the IoU family on decoded boxes. */
  box: BoxLoss
  /** beta of smooth_l1 (keras-retinanet's sigma: beta = 1/sigma^2). */
  boxBeta: number
  classificationWeight: number
  boxWeight: number
  normaliser: 'per_image' | 'batch' | 'ema'
  emaMomentum: number
  emaStart: number
}

export interface PostConfig {
  /** Scores must be strictly above. */
  scoreThreshold: number
  /** Candidates kept per level over (anchor, class) before NMS; null for no limit. */
  topkPerLevel: number | null
  /** IoU strictly above suppresses. */
  nmsIou: number
  /** Suppress across classes. */
  agnostic: boolean
  /** true: only the best class of an anchor competes (keras-retinanet's `class_specific_filter=false`). */
  bestClassOnly: boolean
  maxDetections: number
  /** Drop boxes with a side below this after clipping, in canvas pixels. */
  minSize: number
  /** Clip to `[0,W]x[0,H]` of the real image, to `[0,W-1]x[0,H-1]` of the canvas (keras-retinanet), or not. */
  clip: 'image' | 'canvasMinusOne' | 'none'
}

export interface OptimizerConfig {
  kind: 'sgd' | 'adam' | 'adamw'
  momentum: number
  nesterov: boolean
  beta1: number
  beta2: number
  eps: number
  /** Keras adds epsilon outside the bias correction: change = lr*sqrt(1-b2^t)/(1-b1^t) * m/(sqrt(v)+eps). */
  epsOutsideBiasCorrection: boolean
  /** Apply weight decay to norm parameters and biases too. */
  decayNorms: boolean
}

export interface SessionConfig {
  detector: DetectorConfig
  optimizer: OptimizerConfig
  /** `cpu`, `cuda:0`... */
  device: string
  seed: number
  deterministic: boolean
  precision: 'fp32' | 'bf16' | 'fp16'
}

/** A batch of images. Exactly one of `windows` and `input` is given. */
export interface ImageBatch {
  /** Height and width of the input tensor, multiples of the coarsest stride (or the reference's own padding). */
  canvas: [number, number]
  /** [n,2] height, width of the real image inside the canvas (top left); the rest is padding. */
  sizes: Int32Array
  /** 16-bit pixels, normalised and warped on the device. */
  windows?: WindowBatch
  /** Ready network input, float32 [n, channels, canvas h, canvas w]: parity tests and ONNX comparison. */
  input?: Float32Array
}

export interface WindowBatch {
  /** All windows one after the other, each row-major [height, width]. */
  pixels: Uint16Array
  /** [n,2] height, width of each window. */
  shapes: Int32Array
  /**
   * [n,6] row-major 2x3 matrix that maps an output pixel to its place in the window, both in pixel-edge coordinates
   * (the centre of pixel i is i + 0.5): src = A * (x, y, 1). Sampled bilinearly; outside the window is raw 0.
   */
  affines: Float64Array
  /** [n] k >= 0: average 2^k x 2^k blocks of the window first (antialiasing of reductions beyond 2); the affine stays that of the full window. */
  reduce: Int32Array
  /** [n,2] mean, standard deviation: x -> (x - mean) / std after sampling. Canvas padding is the same as raw 0. */
  normalise: Float32Array
  /** [n,4] contrast factor about the normalised mean 0, brightness (added, in standard deviations), gamma on raw/65535, noise sigma (standard deviations); on non-zero pixels. (1,0,1,0) changes nothing. */
  intensity: Float32Array
  /** [n] seeds of the noise. */
  noiseSeed: Uint32Array
  /**
   * [n,3] elastic displacement: amplitude and distance of the nodes in output pixels (at least 5 amplitudes, so that nothing folds), seed
   * (an integer below 2^32). The output place p shows affine(p + d(p)); d is in lib/geometry/elastic.ts. Amplitude 0, or no array: none.
   */
  elastic?: Float64Array
}

/** Ground truth of a batch, in canvas pixels. */
export interface TargetBatch {
  /** [m,4] */
  boxes: Float32Array
  /** [m] class index */
  labels: Int32Array
  /** [n+1] */
  boxOffsets: Int32Array
  /** [k,4] regions in which background anchors (by centre) are ignored. */
  ignore: Float32Array
  /** [n+1] */
  ignoreOffsets: Int32Array
}

export interface StepOptions {
  lr: number
  weightDecay: number
  /** Clip the global gradient norm to this; null for none. */
  clipNorm: number | null
  /** Clip each parameter tensor's own norm to this (Keras `clipnorm` under TensorFlow 2); null for none. */
  clipNormPerTensor: number | null
  /** Clamp each gradient element to +-this; null for none. */
  clipValue: number | null
  /** Multiply the loss before backward: 1/n with n accumulated micro-batches. */
  lossScale: number
  /** false: only accumulate gradients, no update. */
  update: boolean
  /** Leave the update out when loss or gradient norm is not finite (the step reports it either way). */
  skipNonFinite: boolean
  /**
   * After an update: average += (1 - emaDecay) * (weight - average), running statistics included; the first starts from the weights.
   * `evaluateLoss`, `detect` and `forward` then use the averages, a checkpoint holds both. Absent: no average.
   */
  emaDecay?: number
}

export interface StepResult {
  loss: number
  classification: number
  box: number
  /** Global norm before clipping; NaN when not updated. */
  gradNorm: number
  positives: number
  /** [n] per-image sums of the classification loss before the normaliser, to find the culprit of a non-finite loss. */
  perImage: Float64Array
  finite: boolean
  updated: boolean
  /** What fp16 multiplied the loss by in this step; 1 in every other precision. Gradients and their norm are told without it. */
  scale: number
  /** fp16: the loss is finite but the scaled gradients were not. The update was left out, the next scale is half. */
  overflowed: boolean
  /**
   * Seconds by part: copy, warp, matching, backbone, neck, classification, box, loss (with its gradient), classificationBackward,
   * boxBackward, neckBackward, backboneBackward, optimizer.
   */
  seconds: Record<string, number>
}

export interface Detections {
  /** [d,4] canvas pixels */
  boxes: Float32Array
  /** [d], descending within an image */
  scores: Float32Array
  labels: Int32Array
  /** [n+1] */
  offsets: Int32Array
  seconds: Record<string, number>
}

export interface RawOutputs {
  /** Per level height, width: [levels,2]. */
  grids: Int32Array
  /** [n, sum(h*w*A), K], order level, y, x, anchor. */
  logits: Float32Array
  /** [n, sum(h*w*A), 4] */
  deltas: Float32Array
  /** [sum(h*w*A), 4] */
  anchors: Float32Array
}

export interface ParameterInfo {
  name: string
  shape: number[]
  /** `weight` (decayed), `bias`, `norm` (affine), `buffer` (running statistics). */
  role: 'weight' | 'bias' | 'norm' | 'buffer'
  trainable: boolean
}

export interface LoadReport {
  loaded: string[]
  /** name -> reason */
  skipped: Record<string, string>
}

export interface BuildInfo {
  abiVersion: number
  libtorch: string
  cuda: string | null
  compiler: string
  /** Functions registered by the addon. */
  functions: string[]
}

/** A session lives on the engine thread; this is its number. */
export type SessionHandle = number

/** The calls of the addon. All promises settle on the JS thread; the engine runs jobs one after another. */
export interface NativeBinding {
  buildInfo(): BuildInfo
  /** Threads of the engine (intra-op). Resolves to what is in force and the CPU capability LibTorch uses. */
  configure(threads: number): Promise<{ threads: number; capability: string; cudaDevices: number; bf16: boolean }>
  /** `config` is a JSON text of `SessionConfig`. Parameters are initialised from the seed. */
  createSession(config: string): Promise<SessionHandle>
  /** The layers of a backbone, without building it. `model` is a JSON text of `ModelConfig`; resolves to a JSON text of `BackboneGraph`. */
  describeBackbone(model: string): Promise<string>
  /** Idempotent; waits for queued work of the session. */
  disposeSession(session: SessionHandle): Promise<void>
  parameters(session: SessionHandle): Promise<ParameterInfo[]>
  getTensor(session: SessionHandle, name: string): Promise<{ shape: number[]; data: Float32Array }>
  /** Shape must agree. */
  setTensor(session: SessionHandle, name: string, data: Float32Array): Promise<void>
  /** The accumulated gradient of a trainable parameter (zeros before any backward). */
  getGradient(session: SessionHandle, name: string): Promise<{ shape: number[]; data: Float32Array }>
  zeroGradients(session: SessionHandle): Promise<void>
  trainStep(session: SessionHandle, batch: ImageBatch, targets: TargetBatch, options: StepOptions): Promise<StepResult>
  /** Loss without gradients, for validation. */
  evaluateLoss(session: SessionHandle, batch: ImageBatch, targets: TargetBatch): Promise<StepResult>
  detect(session: SessionHandle, batch: ImageBatch): Promise<Detections>
  /** Head outputs before decoding. */
  forward(session: SessionHandle, batch: ImageBatch): Promise<RawOutputs>
  /** The warped, normalised input [n, channels, h, w], to draw what the network sees. */
  preprocess(session: SessionHandle, batch: ImageBatch): Promise<Float32Array>
  /** Change what may change within a run: trainable prefix, loss constants, post-processing. JSON text of `SessionUpdate`. */
  updateSession(session: SessionHandle, update: string): Promise<void>
  /** Writes weights, optimiser, normaliser, fp16's loss scale, RNG and `metadata` (JSON text) to one safetensors file: temporary name, fsync, rename. */
  saveCheckpoint(session: SessionHandle, path: string, metadata: string): Promise<void>
  /** `all` restores everything (configuration must agree); `weights` loads parameters by name and shape only. Resolves to the metadata. */
  loadCheckpoint(
    session: SessionHandle,
    path: string,
    what: 'all' | 'weights',
  ): Promise<{ metadata: string; report: LoadReport }>
  /** Runs one op of native/core/ops on given values, for tests and benchmarks; see native/addon/op_calls.cc for names and arguments. */
  runOp(name: string, args: Record<string, unknown>): Promise<Record<string, unknown>>
  /** Peak and current memory of the engine's device and the process, in bytes. */
  memory(): Promise<{ deviceBytes: number; devicePeakBytes: number; residentBytes: number; residentPeakBytes: number }>
}

export interface SessionUpdate {
  frozenStages?: number
  checkpointActivations?: Recompute
  loss?: LossConfig
  post?: PostConfig
}
