// Parameter names of torchvision, timm, keras-retinanet and keras-applications and ours, and the maps between them. Pure functions on
// names: tensors are handled in import.ts. Tables: retinanet spec, section 8; the oracle layouts of both references; the layer
// names that keras-applications gives. Our backbone names are `backbone.` and torchvision's (timm's where torchvision has none).

type Rule = [pattern: RegExp, name: (match: string[]) => string]

/** Lowest pyramid level with a lateral connection in torchvision's module (index 0 of its lists). */
const TORCHVISION_LOWEST = 3

const HEADS: Record<string, { kind: string; last: string }> = {
  classification_head: { kind: 'cls', last: 'cls_logits' },
  regression_head: { kind: 'box', last: 'bbox_reg' },
}

const headKind = (head: string) => HEADS[head]!.kind
const lastName = (head: string) => (headKind(head) === 'cls' ? 'head.cls.logits' : 'head.box.deltas')

const torchvisionRules = (lowest: number): Rule[] => [
  [/^backbone\.body\.(.+)$/, ([, rest]) => `backbone.${rest}`],
  // Before torchvision 0.13 the pyramid's convolutions were not wrapped, the towers' stood between their ReLUs.
  [
    /^backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.(weight|bias)$/,
    ([, i, p]) => `fpn.lateral.${Number(i) + lowest}.${p}`,
  ],
  [/^backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.(weight|bias)$/, ([, i, p]) => `fpn.output.${Number(i) + lowest}.${p}`],
  [/^backbone\.fpn\.extra_blocks\.p(\d)\.(weight|bias)$/, ([, level, p]) => `fpn.extra.${level}.${p}`],
  [
    /^head\.(classification_head|regression_head)\.conv\.(\d)\.0\.(weight|bias)$/,
    ([, h, i, p]) => `head.${headKind(h!)}.tower.${i}.conv.${p}`,
  ],
  [
    /^head\.(classification_head|regression_head)\.conv\.(\d)\.1\.(weight|bias)$/,
    ([, h, i, p]) => `head.${headKind(h!)}.tower.${i}.norm.${p}`,
  ],
  [
    /^head\.(classification_head|regression_head)\.conv\.(\d)\.(weight|bias)$/,
    ([, h, i, p]) => `head.${headKind(h!)}.tower.${Number(i) / 2}.conv.${p}`,
  ],
  [
    /^head\.(classification_head|regression_head)\.(?:cls_logits|bbox_reg)\.(weight|bias)$/,
    ([, h, p]) => `${lastName(h!)}.${p}`,
  ],
]

/**
 * Our name of a torchvision RetinaNet parameter (v1 or v2, old spellings too); undefined when we have no such parameter. `lowest` is the
 * first level of the file's pyramid.
 */
export function fromTorchvision(name: string, lowest: number = TORCHVISION_LOWEST): string | undefined {
  if (name.endsWith('.num_batches_tracked')) return undefined
  return applyRules(torchvisionRules(lowest), name)
}

/** First level of the pyramid of a torchvision file: its lateral convolutions are counted from 0 and the last is that of C5. */
export function torchvisionLowest(names: Iterable<string>): number {
  const lateral = new Set(Array.from(names, (name) => /^backbone\.fpn\.inner_blocks\.(\d)/.exec(name)?.[1]))
  lateral.delete(undefined)
  return lateral.size === 0 ? TORCHVISION_LOWEST : 6 - lateral.size
}

/** Spellings of older files of one backbone alone, and the present ones. */
const OLD_SPELLINGS: [RegExp, string][] = [
  // DenseNet before torchvision 0.3: `denselayer1.norm.1`.
  [/^(features\..*denselayer\d+\.(?:norm|conv))\.([12]\.)/, '$1$2'],
  // SE-ResNet of Cadene's collection, which timm's began with.
  [/^layer0\.(conv1|bn1)\./, '$1.'],
  [/\.se_module\./, '.se.'],
]

/**
 * Our name of a parameter of a backbone alone (a classification network of torchvision or timm) or of a torchvision detector whose
 * body is the list `features`. `known` decides: undefined when we have no such parameter.
 */
export function fromClassifier(name: string, known: (ours: string) => boolean): string | undefined {
  const spelled = OLD_SPELLINGS.reduce((text, [old, now]) => text.replace(old, now), name)
  const body = /^backbone\.body\.(.+)$/.exec(spelled)?.[1]
  const candidates = [spelled, `backbone.${spelled}`, `backbone.features.${body ?? spelled}`, `backbone.${body}`]
  // A layer scale is a parameter of its own there and a layer with one here.
  return candidates.flatMap((candidate) => [candidate, `${candidate}.weight`]).find(known)
}

/** Torchvision's present spelling of one of our names; undefined where torchvision has no such parameter. `lowest` is its first level. */
export function toTorchvision(name: string, lowest: number = TORCHVISION_LOWEST): string | undefined {
  const kinds = Object.entries(HEADS)
  const head = (kind: string) => kinds.find(([, value]) => value.kind === kind)![0]
  return applyRules(
    [
      // A body that is a list (VGG, DenseNet, MobileNet...) loses the list's name in torchvision's detectors.
      [/^backbone\.features\.(.+)$/, ([, rest]) => `backbone.body.${rest}`],
      [/^backbone\.(.+)$/, ([, rest]) => `backbone.body.${rest}`],
      [
        /^fpn\.lateral\.([2345])\.(.+)$/,
        ([, level, p]) => `backbone.fpn.inner_blocks.${Number(level) - lowest}.0.${p}`,
      ],
      [/^fpn\.output\.([2345])\.(.+)$/, ([, level, p]) => `backbone.fpn.layer_blocks.${Number(level) - lowest}.0.${p}`],
      [/^fpn\.extra\.([678])\.(.+)$/, ([, level, p]) => `backbone.fpn.extra_blocks.p${level}.${p}`],
      [
        /^head\.(cls|box)\.tower\.(\d)\.(conv|norm)\.(.+)$/,
        ([, k, i, layer, p]) => `head.${head(k!)}.conv.${i}.${layer === 'conv' ? 0 : 1}.${p}`,
      ],
      [/^head\.cls\.logits\.(.+)$/, ([, p]) => `head.classification_head.cls_logits.${p}`],
      [/^head\.box\.deltas\.(.+)$/, ([, p]) => `head.regression_head.bbox_reg.${p}`],
    ],
    name,
  )
}

const KERAS_PARAMETERS: Record<string, string> = {
  kernel: 'weight',
  depthwise_kernel: 'weight',
  bias: 'bias',
  gamma: 'weight',
  beta: 'bias',
  moving_mean: 'running_mean',
  moving_variance: 'running_var',
}

const KERAS_RULES: Rule[] = [
  [/^conv1$/, () => 'backbone.conv1'],
  [/^bn_conv1$/, () => 'backbone.bn1'],
  [/^res(\d)([a-z]\d*)_branch2([abc])$/, ([, s, b, c]) => `backbone.${block(s!, b!)}.conv${letter(c!) + 1}`],
  [/^bn(\d)([a-z]\d*)_branch2([abc])$/, ([, s, b, c]) => `backbone.${block(s!, b!)}.bn${letter(c!) + 1}`],
  [/^res(\d)([a-z]\d*)_branch1$/, ([, s, b]) => `backbone.${block(s!, b!)}.downsample.0`],
  [/^bn(\d)([a-z]\d*)_branch1$/, ([, s, b]) => `backbone.${block(s!, b!)}.downsample.1`],
  [/^C([2345])_reduced$/, ([, level]) => `fpn.lateral.${level}`],
  [/^P([2345])$/, ([, level]) => `fpn.output.${level}`],
  [/^P([678])$/, ([, level]) => `fpn.extra.${level}`],
  [/^pyramid_classification_(\d)$/, ([, i]) => `head.cls.tower.${i}.conv`],
  [/^pyramid_regression_(\d)$/, ([, i]) => `head.box.tower.${i}.conv`],
  [/^pyramid_classification$/, () => 'head.cls.logits'],
  [/^pyramid_regression$/, () => 'head.box.deltas'],
]

/** ResNet of keras-applications since 2.2. */
const KERAS_RESNET_RULES: Rule[] = [
  [/^conv1_conv$/, () => 'backbone.conv1'],
  [/^conv1_bn$/, () => 'backbone.bn1'],
  [/^conv(\d)_block(\d+)_0_conv$/, ([, s, i]) => `backbone.layer${Number(s) - 1}.${Number(i) - 1}.downsample.0`],
  [/^conv(\d)_block(\d+)_0_bn$/, ([, s, i]) => `backbone.layer${Number(s) - 1}.${Number(i) - 1}.downsample.1`],
  [
    /^conv(\d)_block(\d+)_([123])_(conv|bn)$/,
    ([, s, i, k, kind]) => `backbone.layer${Number(s) - 1}.${Number(i) - 1}.${kind}${k}`,
  ],
]

const KERAS_DENSENET_RULES: Rule[] = [
  [/^conv1[/_]conv$/, () => 'backbone.features.conv0'],
  [/^conv1[/_]bn$/, () => 'backbone.features.norm0'],
  [/^conv(\d)_block(\d+)_0_bn$/, ([, s, i]) => `${denseLayer(s!, i!)}.norm1`],
  [/^conv(\d)_block(\d+)_1_conv$/, ([, s, i]) => `${denseLayer(s!, i!)}.conv1`],
  [/^conv(\d)_block(\d+)_1_bn$/, ([, s, i]) => `${denseLayer(s!, i!)}.norm2`],
  [/^conv(\d)_block(\d+)_2_conv$/, ([, s, i]) => `${denseLayer(s!, i!)}.conv2`],
  [/^pool(\d)_bn$/, ([, s]) => `backbone.features.transition${Number(s) - 1}.norm`],
  [/^pool(\d)_conv$/, ([, s]) => `backbone.features.transition${Number(s) - 1}.conv`],
  [/^bn$/, () => 'backbone.features.norm5'],
]

/** Our names are those of keras-applications, the only source of these weights. */
const KERAS_MOBILENET_RULES: Rule[] = [[/^(conv1|conv_[dp]w_\d+)(_bn)?$/, ([layer]) => `backbone.${layer}`]]

const KERAS_MOBILENET_V2_RULES: Rule[] = [
  [/^Conv1$/, () => 'backbone.features.0.0'],
  [/^bn_Conv1$/, () => 'backbone.features.0.1'],
  // The first block does not expand.
  [/^expanded_conv_depthwise(_BN)?$/, ([, bn]) => `backbone.features.1.conv.0.${bn ? 1 : 0}`],
  [/^expanded_conv_project(_BN)?$/, ([, bn]) => `backbone.features.1.conv.${bn ? 2 : 1}`],
  [/^block_(\d+)_expand(_BN)?$/, ([, i, bn]) => `backbone.features.${Number(i) + 1}.conv.0.${bn ? 1 : 0}`],
  [/^block_(\d+)_depthwise(_BN)?$/, ([, i, bn]) => `backbone.features.${Number(i) + 1}.conv.1.${bn ? 1 : 0}`],
  [/^block_(\d+)_project(_BN)?$/, ([, i, bn]) => `backbone.features.${Number(i) + 1}.conv.${bn ? 3 : 2}`],
  [/^Conv_1(_bn)?$/, ([, bn]) => `backbone.features.18.${bn ? 1 : 0}`],
]

/** Of keras-applications and of the package that keras-retinanet uses, which share them. */
const KERAS_EFFICIENTNET_RULES: Rule[] = [
  [/^stem_(conv|bn)$/, ([, kind]) => `backbone.features.0.${kind === 'bn' ? 1 : 0}`],
  [/^block(\d)([a-z])_expand_(conv|bn)$/, ([, s, b, kind]) => `${mbConv(s!, b!, 0)}.${kind === 'bn' ? 1 : 0}`],
  [/^block(\d)([a-z])_(dwconv|bn)$/, ([, s, b, kind]) => `${mbConv(s!, b!, 1)}.${kind === 'bn' ? 1 : 0}`],
  [/^block(\d)([a-z])_se_(reduce|expand)$/, ([, s, b, way]) => `${mbConv(s!, b!, 2)}.fc${way === 'reduce' ? 1 : 2}`],
  [/^block(\d)([a-z])_project_(conv|bn)$/, ([, s, b, kind]) => `${mbConv(s!, b!, 3)}.${kind === 'bn' ? 1 : 0}`],
  [/^top_(conv|bn)$/, ([, kind]) => `backbone.features.8.${kind === 'bn' ? 1 : 0}`],
]

/** Part 0 expands, 1 is the depthwise convolution, 2 squeeze and excitation, 3 projects; the blocks of stage 1 do not expand. */
function mbConv(stage: string, block: string, part: number): string {
  return `backbone.features.${stage}.${letter(block)}.block.${stage === '1' ? part - 1 : part}`
}

function denseLayer(stage: string, index: string): string {
  return `backbone.features.denseblock${Number(stage) - 1}.denselayer${index}`
}

/** Convolutions stand between ReLUs and pools in torchvision's list: block b, convolution c -> its place. */
function vggRules(backbone: string): Rule[] {
  const blocks = backbone.startsWith('vgg19') ? [2, 2, 4, 4, 4] : [2, 2, 3, 3, 3]
  const place = (b: number, c: number) => blocks.slice(0, b - 1).reduce((sum, n) => sum + 2 * n + 1, 0) + 2 * (c - 1)
  return [[/^block(\d)_conv(\d)$/, ([, b, c]) => `backbone.features.${place(Number(b), Number(c))}`]]
}

/** Rules for a backbone; the pyramid and the heads of keras-retinanet are called the same on all. */
function kerasRules(backbone: string): Rule[] {
  if (backbone.startsWith('vgg')) return [...vggRules(backbone), ...KERAS_RULES]
  if (backbone.startsWith('densenet')) return [...KERAS_DENSENET_RULES, ...KERAS_RULES]
  if (backbone.startsWith('efficientnet')) return [...KERAS_EFFICIENTNET_RULES, ...KERAS_RULES]
  if (backbone === 'mobilenet_v2') return [...KERAS_MOBILENET_V2_RULES, ...KERAS_RULES]
  if (backbone.startsWith('mobilenet_v1')) return [...KERAS_MOBILENET_RULES, ...KERAS_RULES]
  return [...KERAS_RULES, ...KERAS_RESNET_RULES]
}

/**
 * Our name of a parameter of keras-retinanet or keras-applications, given as `layer/kernel:0` or as the longer dataset path of a weight
 * file. `backbone` is ours: the same layer name has another place in each family.
 */
export function fromKeras(path: string, backbone = 'resnet50'): string | undefined {
  const parts = path.split('/')
  const parameter = KERAS_PARAMETERS[parts.at(-1)!.replace(/:0$/, '')]
  const rules = kerasRules(backbone)
  // Layers of DenseNet have a slash in their name.
  const name = applyRules(rules, parts.slice(-3, -1).join('/')) ?? applyRules(rules, parts.at(-2) ?? '')
  return parameter === undefined || name === undefined ? undefined : `${name}.${parameter}`
}

/** Stage 2 block b -> layer1.1; deep networks count blocks after the first as b1, b2... */
function block(stage: string, text: string): string {
  const index = text.length === 1 ? letter(text) : Number(text.slice(1))
  return `layer${Number(stage) - 1}.${index}`
}

function letter(text: string): number {
  return text.charCodeAt(0) - 'a'.charCodeAt(0)
}

function applyRules(rules: Rule[], name: string): string | undefined {
  for (const [pattern, rename] of rules) {
    const match = pattern.exec(name)
    if (match) return rename(match)
  }
  return undefined
}

/** The norm after a convolution of a ResNet or a MobileNet v1, where a bias of the convolution can go. */
export function normAfter(convolution: string): string | undefined {
  return applyRules(
    [
      [/^(.*\.)?conv(\d?)$/, ([, path = '', k]) => `${path}bn${k}`],
      [/^(.*\.downsample)\.0$/, ([, path]) => `${path}.1`],
    ],
    convolution,
  )
}

/** What became of a file's tensors. */
export interface NameReport {
  /** Reference name -> our name. */
  mapped: Map<string, string>
  /** Reference names we have no parameter for. */
  unused: string[]
}

/** Maps a list of names with one of the functions above. */
export function mapParameters(names: Iterable<string>, rename: (name: string) => string | undefined): NameReport {
  const mapped = new Map<string, string>()
  const unused: string[] = []
  for (const name of names) {
    const ours = rename(name)
    if (ours === undefined) unused.push(name)
    else mapped.set(name, ours)
  }
  return { mapped, unused }
}
