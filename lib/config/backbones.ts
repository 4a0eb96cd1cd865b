// Every backbone as one row of data: taps, rounding of odd sizes, kind of norm, published weights with the preprocessing and epsilon that
// belong to them. The layers are the engine's (native/core/model/backbones); a test compares both. Sources: retinanet spec 1.1 and 2.2;
// torchvision 0.29, timm 1.0, keras-retinanet 1.0.0.

/** How published weights want their input: `caffe` BGR minus means, `tf` x/127.5 - 1, `torch` x/255 with ImageNet's mean and deviation. */
export type Preprocessing = 'caffe' | 'tf' | 'torch'

/** Where weights of a backbone come from. The epsilon of batch (layer) norm belongs to the weights, not to the architecture. */
export interface WeightSource {
  /** The network's name there. */
  name: string
  preprocessing: Preprocessing
  eps: number
}

export interface Backbone {
  family: string
  /** Of C2, C3, C4, C5, with strides 4, 8, 16, 32. */
  channels: readonly [number, number, number, number]
  /** Rounding of an odd side by the five halvings down to C5: `c` up (ceil), `f` down (floor). */
  halvings: string
  /** Kind of norm as published. `model.norm` decides about batch norms only; other backbones stay as they are. */
  norm: 'batch' | 'layer' | 'none'
  /** What the published recipes do with the batch norms of pretrained weights. */
  pretrained: 'frozen' | 'train'
  /** The stem's width follows `model.stemWidth`. */
  scalable: boolean
  /** Bottleneck blocks, whose stride `model.strideIn1x1` places. */
  bottleneck: boolean
  sources: { torchvision?: WeightSource; timm?: WeightSource; keras?: WeightSource }
  /** Of the body with three input channels: convolutions, biases and affine norm parameters, without running statistics. */
  parameters: number
}

/** Strides of C2..C5. */
export const TAP_STRIDES = [4, 8, 16, 32] as const

const torch = (name: string, eps = 1e-5): WeightSource => ({ name, preprocessing: 'torch', eps })
const keras = (name: string, preprocessing: Preprocessing, eps: number): WeightSource => ({ name, preprocessing, eps })

type Channels = Backbone['channels']
const BASIC: Channels = [64, 128, 256, 512]
const WIDE: Channels = [256, 512, 1024, 2048]

const resnet = (
  name: string,
  channels: Channels,
  parameters: number,
  kerasName?: string,
): readonly [string, Backbone] => [
  name,
  {
    family: name.startsWith('resnext') ? 'resnext' : 'resnet',
    channels,
    halvings: 'ccccc',
    norm: 'batch',
    pretrained: 'frozen',
    scalable: true,
    bottleneck: channels === WIDE,
    sources: {
      torchvision: torch(name),
      ...(kerasName === undefined ? {} : { keras: keras(kerasName, 'caffe', 1e-5) }),
    },
    parameters,
  },
]

const other = (
  name: string,
  family: string,
  channels: Channels,
  halvings: string,
  parameters: number,
  sources: Backbone['sources'],
  norm: Backbone['norm'] = 'batch',
): readonly [string, Backbone] => [
  name,
  {
    family,
    channels,
    halvings,
    norm,
    pretrained: 'train',
    scalable: false,
    bottleneck: false,
    sources,
    parameters,
  },
]

const vgg = (name: string, parameters: number, norm: 'batch' | 'none') =>
  other(
    name,
    'vgg',
    [128, 256, 512, 512],
    'fffff',
    parameters,
    {
      torchvision: torch(name),
      ...(norm === 'none' ? { keras: keras(name, 'caffe', 0) } : {}),
    },
    norm,
  )

const densenet = (name: string, channels: Channels, parameters: number) =>
  other(name, 'densenet', channels, 'ccfff', parameters, {
    torchvision: torch(name),
    keras: keras(name, 'tf', 1.001e-5),
  })

const mobilenetV1 = (percent: number, parameters: number) =>
  other(
    `mobilenet_v1_${String(percent).padStart(3, '0')}`,
    'mobilenet_v1',
    [128, 256, 512, 1024].map((c) => (c * percent) / 100) as unknown as Channels,
    'fffff',
    parameters,
    { keras: keras(`mobilenet_${percent / 100}`, 'tf', 1e-3) },
  )

const se = (name: string, parameters: number) => other(name, 'senet', WIDE, 'ccccc', parameters, { timm: torch(name) })

const efficientnet = (index: number, channels: Channels, parameters: number) =>
  other(`efficientnet_b${index}`, 'efficientnet', channels, 'ccccc', parameters, {
    torchvision: torch(`efficientnet_b${index}`, index < 5 ? 1e-5 : 1e-3),
    keras: keras(`efficientnet-b${index}`, 'torch', 1e-3),
  })

export const backbones = Object.fromEntries([
  resnet('resnet18', BASIC, 11_176_512),
  resnet('resnet34', BASIC, 21_284_672),
  resnet('resnet50', WIDE, 23_508_032, 'resnet50'),
  resnet('resnet101', WIDE, 42_500_160, 'resnet101'),
  resnet('resnet152', WIDE, 58_143_808, 'resnet152'),
  resnet('resnext50_32x4d', WIDE, 22_979_904),
  resnet('resnext101_32x8d', WIDE, 86_742_336),
  vgg('vgg16', 14_714_688, 'none'),
  vgg('vgg19', 20_024_384, 'none'),
  vgg('vgg16_bn', 14_723_136, 'batch'),
  vgg('vgg19_bn', 20_035_392, 'batch'),
  densenet('densenet121', [256, 512, 1024, 1024], 6_953_856),
  densenet('densenet169', [256, 512, 1280, 1664], 12_484_480),
  densenet('densenet201', [256, 512, 1792, 1920], 18_092_928),
  mobilenetV1(100, 3_206_976),
  mobilenetV1(75, 1_816_560),
  mobilenetV1(50, 818_592),
  mobilenetV1(25, 213_072),
  other('mobilenet_v2', 'mobilenet_v2', [24, 32, 96, 1280], 'ccccc', 2_223_872, {
    torchvision: torch('mobilenet_v2'),
    keras: keras('mobilenetv2_1.00', 'tf', 1e-3),
  }),
  other('mobilenet_v3_large', 'mobilenet_v3', [24, 40, 112, 960], 'ccccc', 2_971_952, {
    torchvision: torch('mobilenet_v3_large', 1e-3),
  }),
  se('seresnet50', 26_039_024),
  se('seresnet101', 47_277_872),
  se('seresnet152', 64_772_848),
  se('seresnext50_32x4d', 25_510_896),
  se('seresnext101_32x4d', 46_906_416),
  efficientnet(0, [144, 240, 672, 1280], 4_007_548),
  efficientnet(1, [144, 240, 672, 1280], 6_513_184),
  efficientnet(2, [144, 288, 720, 1408], 7_700_994),
  efficientnet(3, [192, 288, 816, 1536], 10_696_232),
  efficientnet(4, [192, 336, 960, 1792], 17_548_616),
  efficientnet(5, [240, 384, 1056, 2048], 28_340_784),
  efficientnet(6, [240, 432, 1200, 2304], 40_735_704),
  efficientnet(7, [288, 480, 1344, 2560], 63_786_960),
  // One layer norm per tap is ours (retinanet spec 1.1) and not counted.
  other(
    'convnext_tiny',
    'convnext',
    [96, 192, 384, 768],
    'fffff',
    27_818_592,
    {
      torchvision: torch('convnext_tiny', 1e-6),
    },
    'layer',
  ),
]) satisfies Record<string, Backbone>

/** All names, in the table's order. */
export const BACKBONES = Object.keys(backbones) as [string, ...string[]]

/** The row of a name that the schema accepted. */
export function backboneOf(name: string): Backbone {
  const row = backbones[name]
  if (row === undefined) throw new RangeError(`expected one of ${BACKBONES.join(', ')}, got "${name}"`)
  return row
}

/**
 * What a backbone changes in the schema's defaults: the epsilon of its weights' source, and no place of a bottleneck's stride where there
 * are no bottlenecks. Nothing for a ResNet.
 */
export function backboneDefaults(
  name: string,
  semantics: string,
): { model: { normEps?: number; strideIn1x1?: false } } {
  const row = backbones[name]
  if (row === undefined || row.family === 'resnet') return { model: {} }
  const { torchvision, timm, keras: kerasSource } = row.sources
  const source = semantics === 'keras-retinanet' ? (kerasSource ?? torchvision) : (torchvision ?? timm ?? kerasSource)
  const eps = source?.eps ?? 0
  return {
    model: {
      ...(eps === 0 || eps === 1e-5 ? {} : { normEps: eps }),
      ...(row.bottleneck || semantics !== 'keras-retinanet' ? {} : { strideIn1x1: false }),
    },
  }
}
