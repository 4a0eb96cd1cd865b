// The plan of an import: where every tensor of a file goes, and the reason of each that goes nowhere. Models are lists of names and shapes,
// as the engine gives them; files are the same, so that no tensor data are needed but where they are converted.
import t, { type Test } from 'tap'
import {
  describePlan,
  type FileContents,
  type ImportModel,
  type ImportPlan,
  planImport,
} from '../../lib/weights/import.js'
import { fromTorchvision, toTorchvision } from '../../lib/weights/names.js'
import { oracleJson } from '../oracles.js'

type Shapes = [name: string, shape: number[], type?: string][]

const config: ImportModel['config'] = {
  backbone: 'resnet18',
  channels: 3,
  norm: 'frozen',
  frozenStages: 0,
  normEps: 1e-5,
  strideIn1x1: false,
  headNorm: { classification: 'none', box: 'none' },
}

const norm = (name: string): Shapes =>
  ['weight', 'bias', 'running_mean', 'running_var'].map((part) => [`${name}.${part}`, [4]])

/** A network of two convolutions with a pyramid layer and both last head layers: 3 anchors per cell. */
const small = (classes = 2, channels = 3): Shapes => [
  ['backbone.conv1.weight', [4, channels, 7, 7]],
  ...norm('backbone.bn1'),
  ['backbone.layer1.0.conv1.weight', [4, 4, 3, 3]],
  ...norm('backbone.layer1.0.bn1'),
  ['fpn.output.3.weight', [4, 4, 3, 3]],
  ['head.cls.logits.weight', [3 * classes, 4, 3, 3]],
  ['head.cls.logits.bias', [3 * classes]],
  ['head.box.deltas.weight', [12, 4, 3, 3]],
  ['head.box.deltas.bias', [12]],
]

const model = (
  shapes: Shapes,
  change: Partial<ImportModel['config']> = {},
  classes = ['mass', 'spot'],
): ImportModel => ({
  parameters: shapes.map(([name, shape]) => ({ name, shape })),
  config: { ...config, ...change },
  classes,
})

const contents = (shapes: Shapes, change: Partial<FileContents> = {}): FileContents => ({
  tensors: new Map(shapes.map(([name, shape, type = 'F32']) => [name, { shape, type }])),
  outside: {},
  format: 'torch',
  classes: null,
  ...change,
})

const plan = (file: FileContents, of: ImportModel) => planImport(file, of, 'x.pth')
const places = (p: ImportPlan) => Object.fromEntries(p.tensors.map(({ from, to }) => [from.join(' + '), to]))
const ramp = (shape: number[]) => ({
  shape,
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i + 1),
})

function complete(t: Test, p: ImportPlan, file: FileContents, of: ImportModel) {
  const used = [...p.tensors.flatMap(({ from }) => from), ...p.skipped.map(({ name }) => name)].sort()
  t.strictSame(used, [...file.tensors.keys(), ...Object.keys(file.outside)].sort(), 'every tensor of the file once')
  const filled = [...p.tensors.map(({ to }) => to), ...p.initial.map(({ name }) => name)].sort()
  t.strictSame(filled, of.parameters.map(({ name }) => name).sort(), 'every parameter of the model once')
}

const bare = (channels = 3): Shapes => [
  ['conv1.weight', [4, channels, 7, 7]],
  ...norm('bn1'),
  ['bn1.num_batches_tracked', [], 'I64'],
  ['layer1.0.conv1.weight', [4, 4, 3, 3]],
  ...norm('layer1.0.bn1'),
  ['fc.weight', [10, 4]],
  ['fc.bias', [10]],
]

t.test('a classification network', (t) => {
  const file = contents(bare(), { outside: { 'optimizer.state.0': 'elsewhere' } })
  const of = model(small())
  const p = plan(file, of)
  complete(t, p, file, of)
  t.equal(p.layout, 'classification network')
  t.equal(p.tensors.length, 10)
  t.equal(places(p)['layer1.0.conv1.weight'], 'backbone.layer1.0.conv1.weight')
  t.match(p.skipped, [
    { name: 'bn1.num_batches_tracked', shape: [], reason: /counter/ },
    { name: 'fc.weight', shape: [10, 4], reason: /classification layer/ },
    { name: 'fc.bias' },
    { name: 'optimizer.state.0', reason: 'elsewhere' },
  ])
  t.ok(p.initial.every(({ name, reason }) => /^(fpn|head)/.test(name) && /has none/.test(reason)))
  const text = describePlan(p, of.parameters.length).join('\n')
  t.match(text, /10 of the model's 15 tensors/)
  t.match(text, /left out +2 {2}classification layer of the source, which a detector has not: fc\.weight, fc\.bias/)
  t.end()
})

t.test('group norm takes no statistics, and says so', (t) => {
  const shapes = small().filter(([name]) => !name.includes('running'))
  const p = plan(contents(bare()), model(shapes, { norm: 'group' }))
  t.equal(
    p.skipped.filter(({ reason }) => /statistics of batch norm, the model has model\.norm=group/.test(reason)).length,
    4,
  )
  t.match(p.hints, [/4 statistics of batch norm are dropped/])
  t.end()
})

t.test('another backbone is an error, not half a load', (t) => {
  const error = (message: RegExp) => ({ code: 'ERR_MAMMO_CHECKPOINT', message, where: 'x.pth' })
  const of = model(small())
  const wider = bare().map(([name, shape, type]) => [
    name,
    name === 'layer1.0.conv1.weight' ? [8, 4, 3, 3] : shape,
    type,
  ]) as Shapes
  t.throws(
    () => plan(contents(wider), of),
    error(/1 tensors are of another backbone: layer1\.0\.conv1\.weight has shape \[8/),
  )
  const deeper: Shapes = [...bare(), ['layer1.1.conv1.weight', [4, 4, 3, 3]]]
  t.throws(
    () => plan(contents(deeper), of),
    error(/1 of its tensors have no place in backbone resnet18; layer1\.1\.conv1/),
  )
  const shallower = bare().filter(([name]) => !name.startsWith('layer1'))
  t.throws(
    () => plan(contents(shallower), of),
    error(/it gives 3 of the 6 parameters of backbone resnet18; backbone\.layer1/),
  )
  const bald = bare().filter(([name]) => !name.includes('running'))
  t.throws(() => plan(contents(bald), of), error(/model\.norm=frozen never learns it/))
  t.doesNotThrow(() => plan(contents(bald), model(small(), { norm: 'train' })))
  t.throws(
    () =>
      plan(
        contents([
          ['a', [1]],
          ['b', [2]],
        ]),
        of,
      ),
    error(/none of its 2 tensors has a place/),
  )
  t.throws(() => plan(contents([['conv1.weight', [4, 3, 7, 7], 'I64']]), of), error(/none of its 1 tensors/))
  const twice: Shapes = [...bare(), ['layer0.conv1.weight', [4, 3, 7, 7]]]
  t.throws(() => plan(contents(twice), of), error(/two tensors of the file belong to backbone\.conv1\.weight/))
  t.end()
})

t.test('three channels become one; numbers of other types are told', (t) => {
  const shapes = bare().map(([name, shape]) => [name, shape, 'F16']) as Shapes
  const p = plan(contents(shapes), model(small(2, 1), { channels: 1 }))
  const stem = p.tensors.find(({ to }) => to === 'backbone.conv1.weight')!
  t.strictSame(stem.how, ['from F16', '3 channels summed'])
  const { shape, data } = stem.convert([ramp([4, 3, 7, 7])], undefined)
  t.strictSame(shape, [4, 1, 7, 7])
  t.equal(data[0], 1 + 50 + 99)
  t.equal(data.at(-1), 588 + 539 + 490)
  t.end()
})

const head = (classes: number): Shapes => [
  ['backbone.fpn.layer_blocks.0.0.weight', [4, 4, 3, 3]],
  ['head.classification_head.cls_logits.weight', [3 * classes, 4, 3, 3]],
  ['head.classification_head.cls_logits.bias', [3 * classes]],
  ['head.regression_head.bbox_reg.weight', [12, 4, 3, 3]],
  ['head.regression_head.bbox_reg.bias', [12]],
]
const body = bare()
  .filter(([name]) => !name.startsWith('fc'))
  .map(([name, ...rest]) => [`backbone.body.${name}`, ...rest]) as Shapes

t.test('a torchvision detector and its classes', (t) => {
  const of = model(small())
  const equal = plan(contents([...body, ...head(2)]), of)
  complete(t, equal, contents([...body, ...head(2)]), of)
  t.equal(equal.layout, 'torchvision detector')
  t.strictSame(equal.initial, [])
  t.match(equal.hints, [/semantics=torchvision/, /normEps=0/])

  const background = plan(contents([...body, ...head(3)]), of)
  const bias = background.tensors.find(({ to }) => to === 'head.cls.logits.bias')!
  t.strictSame(bias.how, ['column 0, the background, dropped'])
  t.strictSame(bias.convert([ramp([9])], undefined), { shape: [6], data: Float32Array.of(2, 3, 5, 6, 8, 9) })

  const coco = plan(contents([...body, ...head(91)]), of)
  complete(t, coco, contents([...body, ...head(91)]), of)
  t.strictSame(
    coco.initial.map(({ name }) => name),
    ['head.cls.logits.weight', 'head.cls.logits.bias'],
  )
  t.match(coco.initial[0], { reason: /91 classes, the model has 2: the layer starts anew/ })

  const anchors = plan(
    contents([...body, ...head(2).map(([n, s]) => [n, n.includes('bbox') ? [24, ...s.slice(1)] : s] as Shapes[0])]),
    of,
  )
  t.match(
    anchors.skipped.map(({ reason }) => reason),
    [/counter/, /6 anchors per cell, the model has 3/, /6 anchors per cell/, /shape/, /shape/],
    'other anchors per cell',
  )
  t.end()
})

t.test('our own checkpoints across classes', (t) => {
  const of = model(small(2), {}, ['spot', 'mass'])
  const own = (classes: string[]) =>
    contents([...small(classes.length), ['optimizer.step.a', [1], 'I64']], { format: 'safetensors', classes })
  const layer = (p: ImportPlan) => p.tensors.find(({ to }) => to === 'head.cls.logits.bias')!
  const turned = plan(own(['mass', 'spot']), of)
  t.equal(turned.layout, 'mammo-retinanet')
  t.strictSame(layer(turned).convert([ramp([6])], undefined).data, Float32Array.of(2, 1, 4, 3, 6, 5))
  const fewer = plan(own(['a', 'spot', 'mass']), of)
  t.strictSame(layer(fewer).how, ['classes spot, mass of a, spot, mass'])
  t.strictSame(layer(fewer).convert([ramp([9])], undefined).data, Float32Array.of(2, 3, 5, 6, 8, 9))
  const more = plan(own(['mass']), of)
  t.equal(layer(more).keepsOwn, true)
  const initial = { shape: [6], data: new Float32Array(6).fill(-4) }
  t.strictSame(layer(more).convert([ramp([3])], initial).data, Float32Array.of(-4, 1, -4, 2, -4, 3))
  const others = plan(own(['cyst', 'duct']), of)
  t.match(
    others.initial.map(({ reason }) => reason),
    [/its classes are cyst, duct/, /its classes are cyst, duct/],
  )
  t.match(plan(own(['spot', 'mass']), of).skipped, [{ name: 'optimizer.step.a', reason: /state of the training/ }])
  const averaged = contents([
    ...small(),
    ['optimizer.trained.backbone.conv1.weight', [4, 3, 7, 7]],
    ['lossScale.factor', [1], 'F64'],
  ])
  t.match(plan(averaged, of).skipped, [{ reason: /averages are taken/ }, { reason: /state of the training/ }])
  t.end()
})

t.test('keras: transposed, biases into the means, stems scaled', (t) => {
  const kerasNorm = (name: string): Shapes =>
    ['gamma:0', 'beta:0', 'moving_mean:0', 'moving_variance:0'].map((part) => [`${name}/${part}`, [4]])
  const shapes: Shapes = [
    ['conv1_conv/kernel:0', [7, 7, 3, 4]],
    ['conv1_conv/bias:0', [4]],
    ...kerasNorm('conv1_bn'),
    ['conv2_block1_1_conv/kernel:0', [3, 3, 4, 4]],
    ...kerasNorm('conv2_block1_1_bn'),
    ['probs/kernel:0', [4, 10]],
  ]
  const file = contents(shapes, { format: 'keras' })
  const of = model(small(2, 1), { channels: 1 })
  const p = plan(file, of)
  complete(t, p, file, of)
  const mean = p.tensors.find(({ to }) => to === 'backbone.bn1.running_mean')!
  t.strictSame(mean.from, ['conv1_bn/moving_mean:0', 'conv1_conv/bias:0'])
  t.strictSame(
    mean.convert([ramp([4]), { shape: [4], data: Float32Array.of(1, 1, 1, 5) }], undefined).data,
    Float32Array.of(0, 1, 2, -1),
  )
  const stem = p.tensors.find(({ to }) => to === 'backbone.conv1.weight')!
  t.strictSame(stem.how, ['transposed from HWIO', '3 channels summed, times 57.63'])
  const source = ramp([7, 7, 3, 4])
  const first = (source.data[0]! + source.data[4]! + source.data[8]!) * 57.63
  t.ok(Math.abs(stem.convert([source], undefined).data[0]! / first - 1) < 1e-6)
  t.match(p.hints, [/strideIn1x1=true/, /normEps=0\.00001001/])
  const detector = contents([...shapes, ['pyramid_regression/bias:0', [12]]], { format: 'keras' })
  const unscaled = plan(detector, of).tensors.find(({ to }) => to === 'backbone.conv1.weight')!
  t.strictSame(unscaled.how, ['transposed from HWIO', '3 channels summed'])
  t.end()
})

t.test('depthwise kernels and layers that are 1x1 convolutions', (t) => {
  const of = model([['backbone.conv_dw_1.weight', [6, 1, 2, 2]]], {
    backbone: 'mobilenet_v1_100',
    norm: 'train',
  })
  const keras = plan(contents([['conv_dw_1/depthwise_kernel:0', [2, 2, 3, 2]]], { format: 'keras' }), of)
  const { shape, data } = keras.tensors[0]!.convert([ramp([2, 2, 3, 2])], undefined)
  t.strictSame(shape, [6, 1, 2, 2])
  // Channel c, multiple m at [h, w] is number ((h * 2 + w) * 3 + c) * 2 + m.
  for (let o = 0; o < 6; o++) {
    for (let p = 0; p < 4; p++) t.equal(data[o * 4 + p], (p * 3 + Math.floor(o / 2)) * 2 + (o % 2) + 1)
  }
  const squeeze = model([['backbone.layer1.0.se.fc1.weight', [2, 4, 1, 1]]], { backbone: 'seresnet50', norm: 'train' })
  const se = plan(contents([['layer1.0.se_module.fc1.weight', [2, 4]]]), squeeze)
  t.strictSame(se.tensors[0]!.how, ['reshaped'])
  t.strictSame(se.tensors[0]!.convert([ramp([2, 4])], undefined), { ...ramp([2, 4]), shape: [2, 4, 1, 1] })
  t.end()
})

t.test("EfficientNet of Keras: unit variance already, and its input's statistics are its own", (t) => {
  const file = contents(
    [
      ['normalization/mean:0', [3]],
      ['normalization/count:0', [], 'I64'],
      ['stem_conv/kernel:0', [3, 3, 3, 4]],
      ['block1a_dwconv/depthwise_kernel:0', [3, 3, 4, 1]],
      ['block1a_se_reduce/kernel:0', [1, 1, 4, 1]],
      ['block1a_se_reduce/bias:0', [1]],
      ['block1a_project_conv/kernel:0', [1, 1, 4, 4]],
      ['block2a_expand_conv/kernel:0', [1, 1, 4, 8]],
      ['top_conv/kernel:0', [1, 1, 8, 8]],
      ['predictions/bias:0', [10]],
    ],
    { format: 'keras' },
  )
  const shapes: Shapes = [
    ['backbone.features.0.0.weight', [4, 1, 3, 3]],
    ['backbone.features.1.0.block.0.0.weight', [4, 1, 3, 3]],
    ['backbone.features.1.0.block.1.fc1.weight', [1, 4, 1, 1]],
    ['backbone.features.1.0.block.1.fc1.bias', [1]],
    ['backbone.features.1.0.block.2.0.weight', [4, 4, 1, 1]],
    ['backbone.features.2.0.block.0.0.weight', [8, 4, 1, 1]],
    ['backbone.features.8.0.weight', [8, 8, 1, 1]],
  ]
  const of = model(shapes, { backbone: 'efficientnet_b0', norm: 'train', channels: 1 })
  const p = plan(file, of)
  complete(t, p, file, of)
  t.strictSame(p.initial, [])
  t.strictSame(p.tensors[0]!.how, ['transposed from HWIO', '3 channels summed'])
  t.match(
    p.skipped.map(({ reason }) => reason),
    [/input\.mean/, /input\.mean/, /classification layer/],
  )
  t.match(p.hints, [/normEps=0\.001/])
  t.throws(() => plan(file, model(small())), { message: /none of its 10 tensors has a place/ }, 'another backbone')
  t.end()
})

t.test('both torchvision models, as their state dicts are', async (t) => {
  const layout = await oracleJson<{ models: { name: string; state_dict: [string, number[], string][] }[] }>(
    t,
    'torchvision_state_dict.json',
  )
  for (const { name, state_dict } of layout?.models ?? []) {
    const shapes = state_dict.map(([key, shape, type]) => [key, shape, type === 'float32' ? 'F32' : 'I64']) as Shapes
    const ours = shapes.flatMap(([key, shape]) => {
      const mapped = fromTorchvision(key)
      return mapped === undefined ? [] : [[mapped, shape]]
    }) as Shapes
    const classes = Array.from({ length: 91 }, (_, i) => `class ${i}`)
    const of = model(ours, { backbone: 'resnet50' }, classes)
    const p = plan(contents(shapes), of)
    complete(t, p, contents(shapes), of)
    t.strictSame(p.initial, [], name)
    t.ok(p.skipped.every(({ name }) => name.endsWith('num_batches_tracked')))
  }
})

t.test('levels of a pyramid go by their number, not by their place in the file', (t) => {
  const layers = (levels: number[]): Shapes =>
    levels.flatMap((level): Shapes => {
      if (level > 5) return [[`fpn.extra.${level}.weight`, [4, 4, 3, 3]]]
      return [
        [`fpn.lateral.${level}.weight`, [4, 2 ** level, 1, 1]],
        [`fpn.output.${level}.weight`, [4, 4, 3, 3]],
      ]
    })
  const body = small().slice(0, 10)
  const recipe = [...body, ...layers([4, 5, 6, 7])]
  const file = contents(recipe.map(([name, shape]) => [toTorchvision(name, 4)!, shape]))
  const same = plan(file, model(recipe))
  t.strictSame([same.skipped, same.initial], [[], []], 'the model that it came from')
  const other = model([...body, ...layers([2, 3, 4, 5, 6])])
  const p = plan(file, other)
  complete(t, p, file, other)
  const pyramid = p.tensors.filter(({ to }) => to.startsWith('fpn.'))
  t.strictSame(
    pyramid.map(({ to, from }) => toTorchvision(to, 4) === from[0]),
    [true, true, true, true, true],
  )
  t.match(p.skipped, [{ name: 'backbone.fpn.extra_blocks.p7.weight', reason: /model\.levels/ }])
  t.strictSame(
    p.initial.map(({ name }) => name),
    layers([2, 3]).map(([name]) => name),
  )
  t.end()
})
