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

/** Arrays of keras-applications' networks without their classifier, as their sources name the layers. */
const KERAS: Record<string, string[]> = {
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
  vgg19: [2, 2, 4, 4, 4].flatMap((depth, b) =>
    upTo(depth).flatMap((c) => ['kernel:0', 'bias:0'].map((array) => `block${b + 1}_conv${c}/${array}`)),
  ),
  densenet121: [
    ...[...kernel('conv1/conv'), ...norm('conv1/bn')],
    ...[6, 12, 24, 16].flatMap((depth, s) => [
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
    ]),
  ],
  mobilenet_v1_050: [
    ...[...kernel('conv1'), ...norm('conv1_bn')],
    ...upTo(13).flatMap((k) => [
      ...[`conv_dw_${k}/depthwise_kernel:0`, ...norm(`conv_dw_${k}_bn`)],
      ...[...kernel(`conv_pw_${k}`), ...norm(`conv_pw_${k}_bn`)],
    ]),
  ],
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
