// Files of classification networks against the engine's own parameters: every tensor that torchvision publishes for a backbone has its place
// with its shape, and every parameter of the backbone is given. Names and shapes come from a Python with torchvision when there is one;
// no weights are made. The other families' names: test/weights/names.test.ts.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import t from 'tap'
import { openSession } from '../../lib/binding/session.js'
import { sessionConfig } from '../../lib/config/detector.js'
import { loadConfig } from '../../lib/config/load.js'
import { type Config, configJsonSchema } from '../../lib/config/schema.js'
import { addonPath } from '../../lib/package-root.js'
import { planImport } from '../../lib/weights/import.js'
import { fromKeras } from '../../lib/weights/names.js'

const PEER = `
import json, torch, torchvision, sys
found = {}
for name in sys.argv[1:]:
    if not hasattr(torchvision.models, name): continue
    with torch.device('meta'): model = getattr(torchvision.models, name)(weights=None)
    found[name] = [[key, list(v.shape), 'I64' if v.dtype == torch.int64 else 'F32'] for key, v in model.state_dict().items()]
print(json.dumps(found))
`

/** The engine's parameters; undefined when it does not know the backbone. */
async function parametersOf(config: Config) {
  const session = await openSession(sessionConfig(config)).catch((error: Error) => {
    if (/detector\.model\.backbone: expected one of/.test(error.message)) return undefined
    throw error
  })
  const parameters = await session?.parameters()
  await session?.dispose()
  return parameters
}

t.setTimeout(300_000)
const python = process.env['MAMMO_PEER_PYTHON']
const peer = python !== undefined && spawnSync(python, ['-c', 'import torchvision']).status === 0
const reason =
  (!existsSync(addonPath()) && 'the addon is not built; run `npm run build`') ||
  (!peer && 'no Python with torchvision; set MAMMO_PEER_PYTHON')

t.test('torchvision classification networks', { skip: reason }, async (t) => {
  type Node = { properties: { model: { properties: { backbone: { enum: string[] } } } } }
  const names = (configJsonSchema([]) as Node).properties.model.properties.backbone.enum
  const found = JSON.parse(
    execFileSync(python!, ['-c', PEER, ...names], { encoding: 'utf8', maxBuffer: 2 ** 28 }),
  ) as Record<string, [string, number[], string][]>
  t.ok(Object.keys(found).length >= 5, Object.keys(found).join(' '))
  for (const [name, state] of Object.entries(found)) {
    const set = { 'model.backbone': name, 'model.norm': 'train', 'input.channels': 3 }
    const { config } = await loadConfig({ set, hasWeights: true })
    const parameters = await parametersOf(config)
    if (parameters === undefined) {
      t.pass(name, { skip: 'this addon was built without the backbone' })
      continue
    }
    const tensors = new Map(state.map(([key, shape, type]) => [key, { shape, type }]))
    const plan = planImport(
      { tensors, outside: {}, format: 'torch', classes: null },
      { parameters, config: sessionConfig(config).detector.model, classes: ['mass'] },
      name,
    )
    const odd = plan.skipped.filter(
      ({ reason }) => !/counter|classification layer|norm behind the last features/.test(reason),
    )
    t.strictSame(odd, [], `${name}: nothing is left out but the classifier and its norm`)
    // ConvNeXt's taps have norms of our own.
    const rest = plan.initial.filter(
      ({ name }) => name.startsWith('backbone.') && !name.startsWith('backbone.tap_norm.'),
    )
    t.strictSame(rest, [], `${name}: ${plan.tensors.length} tensors give the whole backbone`)
  }
})

const NORM = ['gamma:0', 'beta:0', 'moving_mean:0', 'moving_variance:0']
const norm = (layer: string) => NORM.map((array) => `${layer}/${array}`)
const kernel = (layer: string) => [`${layer}/kernel:0`]
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1)

const depthwise = (layer: string) => [`${layer}/depthwise_kernel:0`]
const biased = (layer: string) => ['kernel:0', 'bias:0'].map((array) => `${layer}/${array}`)

function vgg(depths: number[]): string[] {
  return depths.flatMap((depth, b) => upTo(depth).flatMap((c) => biased(`block${b + 1}_conv${c}`)))
}

function dense(depths: number[]): string[] {
  const stages = depths.flatMap((depth, s) => [
    ...upTo(depth).flatMap((i) => {
      const name = `conv${s + 2}_block${i}`
      return [
        ...norm(`${name}_0_bn`),
        ...kernel(`${name}_1_conv`),
        ...norm(`${name}_1_bn`),
        ...kernel(`${name}_2_conv`),
      ]
    }),
    ...(s < 3 ? [...norm(`pool${s + 2}_bn`), ...kernel(`pool${s + 2}_conv`)] : []),
  ])
  return [...kernel('conv1/conv'), ...norm('conv1/bn'), ...stages]
}

function mobileV1(): string[] {
  const blocks = upTo(13).flatMap((k) => [
    ...[...depthwise(`conv_dw_${k}`), ...norm(`conv_dw_${k}_bn`)],
    ...[...kernel(`conv_pw_${k}`), ...norm(`conv_pw_${k}_bn`)],
  ])
  return [...kernel('conv1'), ...norm('conv1_bn'), ...blocks]
}

/** Seven stages, each as many times as deep; blocks are lettered. */
function efficient(deep: number): string[] {
  const blocks = [1, 2, 2, 3, 3, 4, 1].flatMap((repeats, s) =>
    upTo(Math.ceil(repeats * deep)).flatMap((i) => {
      const name = `block${s + 1}${String.fromCharCode(96 + i)}_`
      return [
        ...(s > 0 ? [...kernel(`${name}expand_conv`), ...norm(`${name}expand_bn`)] : []),
        ...[...depthwise(`${name}dwconv`), ...norm(`${name}bn`)],
        ...[...biased(`${name}se_reduce`), ...biased(`${name}se_expand`)],
        ...[...kernel(`${name}project_conv`), ...norm(`${name}project_bn`)],
      ]
    }),
  )
  return [...kernel('stem_conv'), ...norm('stem_bn'), ...kernel('top_conv'), ...norm('top_bn'), ...blocks]
}

/** Arrays of keras-applications' networks without their classifier, as their sources name the layers. */
const KERAS: Record<string, string[]> = {
  vgg16: vgg([2, 2, 3, 3, 3]),
  resnet50: [
    ...[...kernel('conv1_conv'), ...norm('conv1_bn')],
    ...[3, 4, 6, 3].flatMap((depth, s) =>
      upTo(depth).flatMap((i) =>
        (i === 1 ? [0, 1, 2, 3] : [1, 2, 3]).flatMap((k) => {
          const name = `conv${s + 2}_block${i}_${k}`
          return [...kernel(`${name}_conv`), ...norm(`${name}_bn`)]
        }),
      ),
    ),
  ],
  vgg19: vgg([2, 2, 4, 4, 4]),
  densenet121: dense([6, 12, 24, 16]),
  densenet169: dense([6, 12, 32, 32]),
  densenet201: dense([6, 12, 48, 32]),
  mobilenet_v1_100: mobileV1(),
  mobilenet_v1_050: mobileV1(),
  mobilenet_v2: [
    ...[...kernel('Conv1'), ...norm('bn_Conv1'), ...kernel('Conv_1'), ...norm('Conv_1_bn')],
    ...[...depthwise('expanded_conv_depthwise'), ...norm('expanded_conv_depthwise_BN')],
    ...[...kernel('expanded_conv_project'), ...norm('expanded_conv_project_BN')],
    ...upTo(16).flatMap((i) => [
      ...[...kernel(`block_${i}_expand`), ...norm(`block_${i}_expand_BN`)],
      ...[...depthwise(`block_${i}_depthwise`), ...norm(`block_${i}_depthwise_BN`)],
      ...[...kernel(`block_${i}_project`), ...norm(`block_${i}_project_BN`)],
    ]),
  ],
  efficientnet_b0: efficient(1),
  efficientnet_b3: efficient(1.4),
  efficientnet_b7: efficient(3.1),
}

t.test('keras-applications', { skip: !existsSync(addonPath()) && 'the addon is not built' }, async (t) => {
  for (const [name, arrays] of Object.entries(KERAS)) {
    const { config } = await loadConfig({ set: { 'model.backbone': name, 'model.norm': 'train' }, hasWeights: true })
    const parameters = await parametersOf(config)
    if (parameters === undefined) {
      t.pass(name, { skip: 'this addon was built without the backbone' })
      continue
    }
    const own = parameters.map(({ name }) => name).filter((parameter) => parameter.startsWith('backbone.'))
    t.strictSame(arrays.map((array) => fromKeras(array, name)).sort(), own.sort(), name)
  }
})
