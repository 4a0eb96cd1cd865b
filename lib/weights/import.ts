// Decides what of a weight file goes where in a model: for every tensor of the file its place and what is done on the way, or the
// reason why it is left out; for every parameter of the model where it comes from. Names, shapes and rules only: no tensor is read
// before the whole plan stands, so a file that claims absurd sizes costs nothing. Sources: retinanet spec, sections 1.1 and 8.
import type { ModelConfig } from '../binding/types.js'
import { TrainingError } from '../errors.js'
import { toOihw } from './keras.js'
import { fromClassifier, fromKeras, fromTorchvision, normAfter, torchvisionLowest } from './names.js'
import { isFloat } from './numbers.js'
import { mergeClasses } from './torchvision.js'
import type { TensorEntry, WeightFile, Weights } from './weight-file.js'

/** The model that is to be filled. */
export interface ImportModel {
  parameters: readonly { name: string; shape: readonly number[] }[]
  config: Pick<ModelConfig, 'backbone' | 'channels' | 'norm' | 'frozenStages' | 'normEps' | 'strideIn1x1' | 'headNorm'>
  /** Names of the classes in index order. */
  classes: readonly string[]
}

/** Whose names a file uses. */
export type Layout = 'mammo-retinanet' | 'torchvision detector' | 'classification network' | 'keras'

/** One parameter of the model and the tensors of the file that give it. */
export interface PlannedTensor {
  to: string
  /** The first is the parameter itself, a second one is a bias that goes into it. */
  from: string[]
  /** What is done on the way, in words; empty when the numbers are taken as they are. */
  how: string[]
  /** The model's own numbers are needed too, for classes that the file does not know. */
  keepsOwn: boolean
  convert(parts: readonly Weights[], own: Weights | undefined): Weights
}

export interface LeftOut {
  name: string
  shape: number[]
  reason: string
}

export interface ImportPlan {
  layout: Layout
  tensors: PlannedTensor[]
  /** Tensors of the file that are left out on purpose. */
  skipped: LeftOut[]
  /** Parameters of the model that keep their initial values. */
  initial: LeftOut[]
  /** What the file's source does otherwise than the configuration, with the key to change. */
  hints: string[]
}

export interface FileContents {
  tensors: ReadonlyMap<string, TensorEntry>
  outside: Readonly<Record<string, string>>
  format: WeightFile['format']
  /** Classes that an own checkpoint was trained on. */
  classes: readonly string[] | null
}

const same = (a: readonly number[], b: readonly number[]) => a.length === b.length && a.every((dim, i) => dim === b[i])
const text = (shape: readonly number[]) => `[${shape.join(', ')}]`

/**
 * Plans the import. Throws TrainingError CHECKPOINT when nothing fits, when tensors of the backbone do not fit the model's, when the
 * backbone is given in part only, and when frozen norms would stay without statistics; `path` is for the message.
 */
export function planImport(file: FileContents, model: ImportModel, path: string): ImportPlan {
  const shapes = new Map(model.parameters.map(({ name, shape }) => [name, shape]))
  const layout = layoutOf(file, shapes)
  const plan: ImportPlan = { layout, tensors: [], skipped: [], initial: [], hints: [] }
  const biases: [string, string][] = []
  const misfits: string[] = []
  const skip = (name: string, reason: string) =>
    plan.skipped.push({ name, shape: file.tensors.get(name)?.shape ?? [], reason })
  const renamed = new Map<string, string>()
  const lowest = torchvisionLowest(file.tensors.keys())
  for (const name of file.tensors.keys()) {
    const ours = rename(name, layout, model.config.backbone, shapes, lowest)
    if (ours !== undefined) renamed.set(name, ours)
  }
  const anchors = anchorsPerCell(file, renamed, shapes)

  for (const [name, entry] of file.tensors) {
    const ours = renamed.get(name)
    const wanted = ours === undefined ? undefined : shapes.get(ours)
    if (ours === undefined || wanted === undefined) {
      const bias = ours === undefined ? undefined : biasTarget(ours, shapes)
      if (bias !== undefined) biases.push([name, bias])
      else skip(name, reasonFor(name, ours, model))
      continue
    }
    if (!isFloat(entry.type)) {
      skip(name, `numbers of type ${entry.type}, parameters are floating point`)
      continue
    }
    if (plan.tensors.some((tensor) => tensor.to === ours)) {
      throw unfit(path, `two tensors of the file belong to ${ours}`)
    }
    const step = fit(name, entry, ours, wanted, layout, file, model, anchors)
    if (typeof step !== 'string') plan.tensors.push({ to: ours, from: [name], ...step })
    else if (ours.startsWith('backbone.')) {
      misfits.push(`${name} has shape ${text(entry.shape)}, ${ours} has ${text(wanted)}`)
    } else skip(name, step)
  }
  if (misfits.length > 0) {
    const more = misfits.length > 3 ? ` and ${misfits.length - 3} more` : ''
    throw unfit(path, `${misfits.length} tensors are of another backbone: ${misfits.slice(0, 3).join('; ')}${more}`)
  }
  for (const [bias, target] of biases) foldBias(plan, bias, target, file.tensors.get(bias)!.shape)
  for (const [name, reason] of Object.entries(file.outside)) plan.skipped.push({ name, shape: [], reason })

  if (plan.tensors.length === 0) {
    throw unfit(path, `none of its ${file.tensors.size} tensors has a place in this model`)
  }
  const filled = new Set(plan.tensors.map((tensor) => tensor.to))
  for (const { name, shape } of model.parameters) {
    if (!filled.has(name)) plan.initial.push({ name, shape: [...shape], reason: initialReason(name, plan) })
  }
  refuseHalfBackbone(plan, filled, model, path)
  plan.hints.push(...hintsFor(file, plan, model))
  return plan
}

function layoutOf(file: FileContents, shapes: ReadonlyMap<string, unknown>): Layout {
  if (file.format === 'keras') return 'keras'
  const names = [...file.tensors.keys()]
  if (names.some((name) => shapes.has(name))) return 'mammo-retinanet'
  if (names.some((name) => /^(backbone\.(body|fpn)|head)\./.test(name))) return 'torchvision detector'
  return 'classification network'
}

function rename(
  name: string,
  layout: Layout,
  backbone: string,
  shapes: ReadonlyMap<string, unknown>,
  lowest: number,
): string | undefined {
  if (layout === 'keras') return fromKeras(name, backbone)
  if (shapes.has(name)) return name
  if (layout === 'mammo-retinanet') return /^(backbone|fpn|head)\./.test(name) ? name : undefined
  const detector = fromTorchvision(name, lowest)
  if (detector !== undefined && shapes.has(detector)) return detector
  return fromClassifier(name, (ours) => shapes.has(ours)) ?? detector
}

/** A bias of a convolution that has none here belongs into the mean of the batch norm behind it: BN(x + b) has mean - b. */
function biasTarget(ours: string, shapes: ReadonlyMap<string, unknown>): string | undefined {
  const convolution = /^(.*)\.bias$/.exec(ours)?.[1]
  if (convolution === undefined || !shapes.has(`${convolution}.weight`)) return undefined
  const norm = normAfter(convolution)
  return norm !== undefined && shapes.has(`${norm}.running_mean`) ? `${norm}.running_mean` : undefined
}

function foldBias(plan: ImportPlan, bias: string, target: string, shape: number[]): void {
  const tensor = plan.tensors.find(({ to }) => to === target)
  if (tensor === undefined) {
    plan.skipped.push({ name: bias, shape, reason: `the file has no ${target} that it could go into` })
    return
  }
  tensor.from.push(bias)
  tensor.how.push('less the bias of the convolution before it')
  tensor.convert = ([mean, offset]) => ({
    shape: mean!.shape,
    data: mean!.data.map((value, i) => value - offset!.data[i]!),
  })
}

type Fit = Pick<PlannedTensor, 'how' | 'keepsOwn' | 'convert'>

/** How a tensor gets the model's shape; a text says why it cannot. */
function fit(
  name: string,
  entry: TensorEntry,
  ours: string,
  wanted: readonly number[],
  layout: Layout,
  file: FileContents,
  model: ImportModel,
  anchors: { file: number; model: number },
): Fit | string {
  const how: string[] = entry.type === 'F32' ? [] : [`from ${entry.type}`]
  const steps: ((weights: Weights) => Weights)[] = []
  let shape = entry.shape
  if (layout === 'keras') {
    const order = kerasOrder(name, shape)
    if (order !== undefined) {
      shape = order.shape
      steps.push(order.convert)
      how.push(`transposed from ${order.name}`)
    }
  }
  if (!same(shape, wanted) && same(squeezed(shape), squeezed(wanted))) {
    steps.push(({ data }) => ({ shape: [...wanted], data }))
    shape = [...wanted]
    how.push('reshaped')
  }
  const run = (weights: Weights) => steps.reduce((value, step) => step(value), weights)
  const classes = ours.startsWith('head.cls.logits.')
  if (same(shape, wanted) && !(classes && (reorders(file, model) || anchors.file !== anchors.model))) {
    return { how, keepsOwn: false, convert: ([weights]) => run(weights!) }
  }
  if (isStem(shape, wanted, ours)) {
    const factor = stemFactor(file, model)
    how.push(factor === 1 ? '3 channels summed' : `3 channels summed, times ${factor}`)
    return { how, keepsOwn: false, convert: ([weights]) => sumChannels(run(weights!), factor) }
  }
  if (classes) {
    return fitClasses(shape, wanted, layout, file, model, anchors, how, run)
  }
  return `shape ${text(shape)}, the model's ${ours} has ${text(wanted)}`
}

/** Without the ones at the end: a fully connected layer is a 1x1 convolution. */
function squeezed(shape: readonly number[]): number[] {
  const end = shape.findLastIndex((dim) => dim !== 1)
  return shape.slice(0, end + 1)
}

function kerasOrder(
  name: string,
  shape: readonly number[],
): { name: string; shape: number[]; convert(weights: Weights): Weights } | undefined {
  if (shape.length === 4 && name.includes('depthwise_kernel')) {
    const [h, w, channels, times] = shape as [number, number, number, number]
    // [h, w, c, m] is [h, w, 1, c*m] to a convolution of c groups.
    const flat = [h, w, 1, channels * times]
    return {
      name: 'HWCM',
      shape: [channels * times, 1, h, w],
      convert: ({ data }) => toOihw({ shape: flat, data }),
    }
  }
  if (shape.length === 4) {
    const [h, w, i, o] = shape as [number, number, number, number]
    return { name: 'HWIO', shape: [o, i, h, w], convert: (weights) => toOihw(weights) }
  }
  return undefined
}

function isStem(shape: readonly number[], wanted: readonly number[], ours: string): boolean {
  const [o, i, h, w] = shape
  return ours.startsWith('backbone.') && i === 3 && shape.length === 4 && same([o!, 1, h!, w!], wanted)
}

/** Grey levels copied to three equal channels: the kernels add. `factor` brings the source's input to unit variance. */
function sumChannels({ shape, data }: Weights, factor: number): Weights {
  const [outputs, , height, width] = shape as [number, number, number, number]
  const area = height * width
  const folded = new Float32Array(outputs * area)
  for (let o = 0; o < outputs; o++) {
    for (let p = 0; p < area; p++) {
      const at = o * 3 * area + p
      folded[o * area + p] = (data[at]! + data[at + area]! + data[at + 2 * area]!) * factor
    }
  }
  return { shape: [outputs, 1, height, width], data: folded }
}

/** Mean of the three channels' standard deviations that torchvision divides by, in grey levels of 0..255. */
const GREY_DEVIATION = (255 * (0.229 + 0.224 + 0.225)) / 3

/**
 * Keras' networks of ImageNet saw grey levels less their mean (ResNet, VGG), within -1..1 (DenseNet, MobileNet) or with unit variance
 * (EfficientNet); ours has unit variance, which the fixed statistics of the norms must find again. Detectors were trained with their
 * owner's preprocessing: left as they are.
 */
function stemFactor(file: FileContents, model: ImportModel): number {
  if (file.format !== 'keras' || isKerasDetector(file)) return 1
  if (model.config.backbone.startsWith('efficientnet')) return 1
  const scaled = /^(densenet|mobilenet)/.test(model.config.backbone)
  return Number((scaled ? GREY_DEVIATION / 127.5 : GREY_DEVIATION).toFixed(4))
}

function isKerasDetector(file: FileContents): boolean {
  return [...file.tensors.keys()].some((name) => /^(pyramid_|C5_reduced\/)/.test(name))
}

/** Anchors per cell on both sides, from the box layers. */
function anchorsPerCell(
  file: FileContents,
  renamed: ReadonlyMap<string, string>,
  shapes: ReadonlyMap<string, readonly number[]>,
): { file: number; model: number } {
  const bias = [...renamed].find(([, ours]) => ours === 'head.box.deltas.bias')?.[0]
  const own = (shapes.get('head.box.deltas.bias')?.[0] ?? 0) / 4
  const rows = bias === undefined ? undefined : file.tensors.get(bias)!.shape[0]
  return { file: rows === undefined ? own : rows / 4, model: own }
}

/** The same number of classes in another order, which only names can tell. */
function reorders(file: FileContents, model: ImportModel): boolean {
  return file.classes !== null && String(file.classes) !== String(model.classes)
}

/** Columns of the classification layer by class name, or by torchvision's rule that the first is the background. */
function fitClasses(
  shape: readonly number[],
  wanted: readonly number[],
  layout: Layout,
  file: FileContents,
  model: ImportModel,
  anchors: { file: number; model: number },
  how: string[],
  run: (weights: Weights) => Weights,
): Fit | string {
  const count = model.classes.length
  if (anchors.file !== anchors.model) return `${anchors.file} anchors per cell, the model has ${anchors.model}`
  if (!same(shape.slice(1), wanted.slice(1))) {
    return `shape ${text(shape)}, the model's layer has ${text(wanted)}`
  }
  const inFile = shape[0]! / anchors.model
  let columns: (number | null)[]
  if (file.classes !== null && file.classes.length === inFile) {
    columns = model.classes.map((name) => {
      const at = file.classes!.indexOf(name)
      return at < 0 ? null : at
    })
    if (columns.every((column) => column === null)) {
      return `its classes are ${file.classes.join(', ')}, the model's ${model.classes.join(', ')}`
    }
    const kept = model.classes.filter((_, i) => columns[i] !== null)
    how.push(`classes ${kept.join(', ')} of ${file.classes.join(', ')}`)
  } else if (layout === 'torchvision detector' && inFile === count + 1) {
    columns = model.classes.map((_, i) => i + 1)
    how.push('column 0, the background, dropped')
  } else {
    return `${inFile} classes, the model has ${count}: the layer starts anew`
  }
  return {
    how,
    keepsOwn: columns.includes(null),
    convert: ([weights], own) => mergeClasses(run(weights!), inFile, columns, own),
  }
}

function reasonFor(name: string, ours: string | undefined, model: ImportModel): string {
  if (name.endsWith('num_batches_tracked')) return 'a counter of training batches, which nothing here uses'
  if (name.startsWith('optimizer.trained.')) return 'weights that training went on with: their averages are taken'
  if (/^(optimizer|normaliser|lossScale|random|ema)\./.test(name))
    return 'state of the training: a new run starts its own'
  if (
    /^(fc|classifier|last_linear|head\.fc|head)\.|^(fc1000|predictions|fc1|fc2|conv_preds|probs|Logits)\//.test(name)
  ) {
    return 'classification layer of the source, which a detector has not'
  }
  if (name.startsWith('normalization/')) return "statistics of the source's input, ours are input.mean and input.std"
  if (/(^|\.)norm5\.|^bn\//.test(name)) return 'norm behind the last features that the pyramid takes'
  if (/running_(mean|var)$/.test(ours ?? name)) {
    return `statistics of batch norm, the model has model.norm=${model.config.norm}`
  }
  if (/^(rpn|roi_heads|aux_classifier)\./.test(name)) return 'part of another kind of detector'
  if (ours !== undefined && /\.norm\.(weight|bias)$/.test(ours))
    return 'norm of a tower, the model has none there (model.headNorm)'
  if (ours?.startsWith('fpn.')) return "part of a pyramid level that is not the model's (model.levels)"
  return 'the model has no parameter of that name'
}

function initialReason(name: string, plan: ImportPlan): string {
  const layer = name.startsWith('head.cls.logits')
    ? plan.skipped.find(({ reason }) => reason.includes('classes'))
    : undefined
  if (layer !== undefined) return layer.reason
  if (plan.layout === 'classification network' && /^(fpn|head)\./.test(name)) return 'a classification network has none'
  return 'not in the file'
}

/** Half a backbone is nobody's intention: the file is of another one. */
function refuseHalfBackbone(plan: ImportPlan, filled: ReadonlySet<string>, model: ImportModel, path: string): void {
  const own = model.parameters.filter(({ name }) => name.startsWith('backbone.'))
  const statistics = (name: string) => /\.running_(mean|var)$/.test(name)
  // Norms that this detector adds behind the last features of ConvNeXt.
  const ours = (name: string) => name.startsWith('backbone.tap_norm.')
  const weights = own.filter(({ name }) => !statistics(name) && !ours(name))
  const absent = weights.filter(({ name }) => !filled.has(name))
  const given = weights.length - absent.length
  const unknown = plan.skipped.filter(({ reason }) => reason === 'the model has no parameter of that name')
  if (given > 0 && absent.length > 0) {
    throw unfit(
      path,
      `it gives ${given} of the ${weights.length} parameters of backbone ${model.config.backbone}; ${absent[0]!.name} is the first that it lacks`,
    )
  }
  const body = unknown.filter(({ name }) =>
    /^(backbone\.|layer\d|features|blocks|block\d|block_\d|expanded_conv|conv\d_block|res\d|bn\d)/.test(name),
  )
  if (given > 0 && body.length > 0) {
    throw unfit(
      path,
      `${body.length} of its tensors have no place in backbone ${model.config.backbone}; ${body[0]!.name} is the first`,
    )
  }
  if (model.config.norm !== 'frozen') return
  const missing = own.find(({ name }) => !filled.has(name) && !ours(name))
  if (missing !== undefined) {
    throw new TrainingError(
      'CHECKPOINT',
      `expected ${missing.name} in the file, since model.norm=frozen never learns it`,
      {
        where: path,
        fix: 'use weights of a network with batch norm, or model.norm=train or group',
      },
    )
  }
}

/** Where the source computes otherwise than this configuration. */
function hintsFor(file: FileContents, plan: ImportPlan, { config }: ImportModel): string[] {
  const hints: string[] = []
  const detector = plan.tensors.some(({ to }) => to.startsWith('head.'))
  if (plan.layout === 'torchvision detector' && detector) {
    hints.push(
      "torchvision's heads were trained with its own anchors, box code and P6: they fit model.semantics=torchvision-v1 or torchvision-v2",
    )
    if (config.normEps !== 0 && config.norm === 'frozen') {
      hints.push("torchvision's RetinaNet of COCO, version 1, was trained with model.normEps=0")
    }
  }
  if (plan.layout === 'keras') {
    if (detector) {
      hints.push(
        "keras-retinanet's heads were trained with its anchors and box code: they fit model.semantics=keras-retinanet",
      )
    }
    if (config.backbone.startsWith('resnet') && !config.strideIn1x1) {
      hints.push('Keras puts the stride of a bottleneck into its first 1x1 convolution: model.strideIn1x1=true')
    }
    const eps = kerasEps(file, config.backbone)
    if (eps !== undefined && config.norm !== 'group' && Math.abs(eps - config.normEps) > 1e-9) {
      hints.push(`this network was trained with model.normEps=${eps}`)
    }
  }
  const statistics = plan.skipped.filter(({ reason }) => reason.startsWith('statistics of batch norm')).length
  if (statistics > 0) {
    hints.push(
      `${statistics} statistics of batch norm are dropped: with model.norm=frozen or train the backbone computes what the file's did`,
    )
  }
  return hints
}

/** Epsilon of batch norm in keras-applications and in the EfficientNet package; keras-retinanet's ResNets have 1e-5. */
function kerasEps(file: FileContents, backbone: string): number | undefined {
  if (/^(mobilenet_v[12]|efficientnet)/.test(backbone)) return 1e-3
  if (backbone.startsWith('densenet')) return 1.001e-5
  if (backbone.startsWith('resnet')) return file.tensors.has('conv1_conv/kernel:0') ? 1.001e-5 : 1e-5
  return undefined
}

function unfit(path: string, what: string): TrainingError {
  return new TrainingError('CHECKPOINT', `expected weights of this model: ${what}`, {
    where: path,
    fix: 'give weights of the same model.backbone',
  })
}

/** The plan as lines for people: what is loaded and how, what is left out, what stays as it was. */
export function describePlan(plan: ImportPlan, modelSize: number): string[] {
  const rows: [string, number, string][] = []
  const group = (kind: string, items: readonly { name: string; note: string }[]) => {
    const notes = new Map<string, string[]>()
    for (const { name, note } of items) notes.set(note, [...(notes.get(note) ?? []), name])
    for (const [note, names] of notes)
      rows.push([kind, names.length, note === '' ? example(names) : `${note}: ${example(names)}`])
  }
  group(
    'loaded',
    plan.tensors.map(({ from, how }) => ({ name: from[0]!, note: how.join(', ') })),
  )
  group(
    'left out',
    plan.skipped.map(({ name, reason }) => ({ name, note: reason })),
  )
  group(
    'as it was',
    plan.initial.map(({ name, reason }) => ({ name, note: reason })),
  )
  const width = Math.max(...rows.map(([, count]) => String(count).length))
  return [
    `weights: names of ${plan.layout}, ${plan.tensors.length} of the model's ${modelSize} tensors`,
    ...rows.map(([kind, count, note]) => `  ${kind.padEnd(9)} ${String(count).padStart(width)}  ${note}`),
  ]
}

function example(names: readonly string[]): string {
  return names.length <= 2 ? names.join(', ') : `${names[0]} ... ${names.at(-1)}`
}
