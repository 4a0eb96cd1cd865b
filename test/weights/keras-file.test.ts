// Keras' HDF5 files, written here by the library that reads them: plain, chunked and compressed arrays, models within models, long lists
// of names spread over attributes, the names of Keras 1, full snapshots; damaged files. Real Keras files: test/parity/weight-files.test.ts.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { File, type Group, ready } from 'h5wasm/node'
import t from 'tap'
import { openWeightFile } from '../../lib/weights/weight-file.js'

type Layers = Record<string, Record<string, number[]>>

/** The group at a path, made where it is missing. */
function ensure(root: Group, path: string): Group {
  let group = root
  for (const part of path.split('/').filter(Boolean)) {
    group = group.keys().includes(part) ? (group.get(part) as Group) : group.create_group(part)
  }
  return group
}

/** `layers`: layer -> weight name -> shape; values count up from 0. */
async function write(path: string, layers: Layers, options: { under?: string; compressed?: boolean } = {}) {
  await ready
  const file = new File(path, 'w')
  const root: Group = options.under === undefined ? file : file.create_group(options.under)
  root.create_attribute('layer_names', Object.keys(layers))
  for (const [layer, weights] of Object.entries(layers)) {
    const group = ensure(root, layer)
    group.create_attribute('weight_names', Object.keys(weights))
    for (const [name, shape] of Object.entries(weights)) {
      const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i)
      ensure(group, name.split('/').slice(0, -1).join('/'))
      const chunks = options.compressed ? shape.map((dim) => Math.ceil(dim / 2)) : null
      group.create_dataset({ name, data, shape, ...(chunks ? { chunks, compression: 'gzip' as const } : {}) })
    }
  }
  if (options.under !== undefined) {
    const optimizer = file.create_group('optimizer_weights')
    optimizer.create_dataset({ name: 'iterations', data: Float32Array.of(1), shape: [1] })
  }
  file.close()
}

t.test('names and values', async (t) => {
  const folder = t.testdir()
  const layers: Layers = {
    conv1: { 'conv1/kernel:0': [3, 3, 2, 4], 'conv1/bias:0': [4] },
    'conv1/bn': { 'conv1/bn/gamma:0': [4] },
    bn2a: { 'bn2a_1/beta:0': [4] },
    submodel: { 'inner_0/kernel:0': [1, 1, 4, 4], 'inner_1/kernel:0': [1, 1, 4, 2] },
    block1_conv1: { 'block1_conv1_W_1:0': [3, 3, 2, 2], 'block1_conv1_b_1:0': [2] },
    old_bn: { 'old_bn_running_std:0': [2], 'old_bn_running_mean:0': [2] },
  }
  const wanted = [
    'conv1/kernel:0',
    'conv1/bias:0',
    'conv1/bn/gamma:0',
    'bn2a/beta:0',
    'inner_0/kernel:0',
    'inner_1/kernel:0',
    'block1_conv1/kernel:0',
    'block1_conv1/bias:0',
    'old_bn/moving_variance:0',
    'old_bn/moving_mean:0',
  ]
  for (const [name, options] of Object.entries({
    plain: {},
    packed: { compressed: true },
    full: { under: 'model_weights' },
  })) {
    const path = join(folder, `${name}.h5`)
    await write(path, layers, options)
    const file = await openWeightFile(path)
    t.equal(file.format, 'keras')
    t.strictSame([...file.tensors.keys()], wanted, name)
    t.strictSame(file.tensors.get('conv1/kernel:0'), { type: 'F32', shape: [3, 3, 2, 4] })
    const { shape, data } = await file.read('conv1/kernel:0')
    t.strictSame([shape, [...data]], [[3, 3, 2, 4], Array.from({ length: 72 }, (_, i) => i)])
    t.strictSame(
      file.outside,
      name === 'full' ? { 'optimizer_weights/iterations': 'optimiser state: a new run starts its own' } : {},
    )
    await t.rejects(file.read('conv9/kernel:0'), { code: 'ERR_MAMMO_CHECKPOINT' })
    await file.close()
  }
})

t.test('lists of names over several attributes, other types', async (t) => {
  const path = join(t.testdir(), 'long.h5')
  await ready
  const file = new File(path, 'w')
  file.create_attribute('layer_names0', ['a'])
  file.create_attribute('layer_names1', ['b'])
  for (const layer of ['a', 'b']) {
    const group = file.create_group(layer)
    group.create_attribute('weight_names', ['kernel:0'])
    group.create_dataset({
      name: 'kernel:0',
      data: layer === 'a' ? Float64Array.of(0.1) : Int32Array.of(1),
      shape: [1],
    })
  }
  file.close()
  const read = await openWeightFile(path)
  t.strictSame(await read.read('a/kernel:0'), { shape: [1], data: Float32Array.of(0.1) })
  await t.rejects(read.read('b/kernel:0'), { code: 'ERR_MAMMO_CHECKPOINT', message: /not float32 or float64/ })
  await read.close()
})

t.test('other layouts and damaged files are refused without a word on the error stream', async (t) => {
  const folder = t.testdir()
  const path = join(folder, 'x.h5')
  await ready
  new File(path, 'w').close()
  await t.rejects(openWeightFile(path), { code: 'ERR_MAMMO_CHECKPOINT', message: /no list "layer_names"/, where: path })

  const listed = new File(path, 'w')
  listed.create_attribute('layer_names', ['gone'])
  listed.close()
  await t.rejects(openWeightFile(path), { code: 'ERR_MAMMO_CHECKPOINT', message: /layer "gone" is listed and missing/ })

  await write(path, { conv1: { 'conv1/kernel:0': [8, 8, 8, 8] } })
  const good = readFileSync(path)
  for (const length of [8, 100, 1000, good.length - 1]) {
    writeFileSync(path, good.subarray(0, length))
    await t.rejects(openWeightFile(path), { code: 'ERR_MAMMO_CHECKPOINT', where: path }, `cut at ${length}`)
  }
  writeFileSync(path, good.subarray(0, good.length - 1))
  await t.rejects(openWeightFile(path), { message: /truncated file/ })
})
