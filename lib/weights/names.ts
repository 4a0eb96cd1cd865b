// Parameter names of the two references and ours, and the maps between them. Pure functions on names: tensors are handled in
// torchvision.ts and keras.ts. Tables: retinanet spec, section 8; the oracle layouts of both references.

type Rule = [pattern: RegExp, name: (match: string[]) => string]

/** Lowest pyramid level with a lateral connection in torchvision's module (index 0 of its lists). */
const TORCHVISION_LOWEST = 3

const HEADS: Record<string, { kind: string; last: string }> = {
  classification_head: { kind: 'cls', last: 'cls_logits' },
  regression_head: { kind: 'box', last: 'bbox_reg' },
}

const headKind = (head: string) => HEADS[head]!.kind
const lastName = (head: string) => (headKind(head) === 'cls' ? 'head.cls.logits' : 'head.box.deltas')

const TORCHVISION_RULES: Rule[] = [
  [/^backbone\.body\.(.+)$/, ([, rest]) => `backbone.${rest}`],
  // Before torchvision 0.13 the pyramid's convolutions were not wrapped, the towers' stood between their ReLUs.
  [
    /^backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.(weight|bias)$/,
    ([, i, p]) => `fpn.lateral.${Number(i) + TORCHVISION_LOWEST}.${p}`,
  ],
  [
    /^backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.(weight|bias)$/,
    ([, i, p]) => `fpn.output.${Number(i) + TORCHVISION_LOWEST}.${p}`,
  ],
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

/** Our name of a torchvision RetinaNet parameter (v1 or v2, old spellings too); undefined when we have no such parameter. */
export function fromTorchvision(name: string): string | undefined {
  if (name.endsWith('.num_batches_tracked')) return undefined
  return applyRules(TORCHVISION_RULES, name)
}

/** Torchvision's present spelling of one of our names; undefined where torchvision has no such parameter. */
export function toTorchvision(name: string): string | undefined {
  const kinds = Object.entries(HEADS)
  const head = (kind: string) => kinds.find(([, value]) => value.kind === kind)![0]
  return applyRules(
    [
      [/^backbone\.(.+)$/, ([, rest]) => `backbone.body.${rest}`],
      [
        /^fpn\.lateral\.([345])\.(.+)$/,
        ([, level, p]) => `backbone.fpn.inner_blocks.${Number(level) - TORCHVISION_LOWEST}.0.${p}`,
      ],
      [
        /^fpn\.output\.([345])\.(.+)$/,
        ([, level, p]) => `backbone.fpn.layer_blocks.${Number(level) - TORCHVISION_LOWEST}.0.${p}`,
      ],
      [/^fpn\.extra\.([67])\.(.+)$/, ([, level, p]) => `backbone.fpn.extra_blocks.p${level}.${p}`],
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

/** Our name of a keras-retinanet parameter, given as `layer/kernel:0` or as the longer dataset path of a weight file. */
export function fromKeras(path: string): string | undefined {
  const [layer, array] = path.split('/').slice(-2)
  const parameter = KERAS_PARAMETERS[array?.replace(/:0$/, '') ?? '']
  const name = layer === undefined ? undefined : applyRules(KERAS_RULES, layer)
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
