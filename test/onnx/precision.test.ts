// fp16 and int8 graphs: what becomes an integer and what stays, number formats bit by bit, and detections close to those of fp32.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { calibrate } from '../../lib/onnx/calibrate.js'
import { writeModel } from '../../lib/onnx/export.js'
import { splitDetections } from '../../lib/onnx/parity.js'
import {
  activationScale,
  calibrationTensors,
  float16Bits,
  planQuantisation,
  quantise,
  toFloat16,
  weightIntegers,
} from '../../lib/onnx/precision.js'
import { ELEMENT_TYPES, encodeModel, type ModelMessage } from '../../lib/onnx/proto.js'
import { openOnnx, type Tensor } from '../../lib/onnx/runtime.js'
import { randomStream } from '../../lib/random.js'
import { tinyExport } from './tiny-export.js'
import { type TinyOptions, testImage } from './tiny-model.js'

t.setTimeout(600_000)

async function tiny(t: Test, options: TinyOptions = {}): Promise<ModelMessage> {
  return (await writeModel(tinyExport(join(t.testdir(), 'model.onnx'), options))).message
}

function feeds(side = 256): Record<string, Tensor> {
  return {
    image: { dims: [1, 1, side, side], data: testImage(side, side) },
    imageSize: { dims: [1, 2], data: BigInt64Array.of(BigInt(side), BigInt(side)) },
  }
}

/** More than the listeners that Node takes for a leak. */
async function* images(count = 12): AsyncGenerator<Record<string, Tensor>> {
  for (let i = 0; i < count; i++) yield feeds(128)
}

async function* once(): AsyncGenerator<Record<string, Tensor>> {
  yield feeds()
}

async function detect(folder: string, model: ModelMessage) {
  const path = join(folder, 'run.onnx')
  writeFileSync(path, encodeModel(model))
  const session = await openOnnx(path, { threads: 1 })
  const found = splitDetections(await session.run(feeds()), 1)[0]!
  await session.close()
  return found
}

t.test('halves are the nearest, ties to even', async (t) => {
  const known: [number, number][] = [
    [0, 0],
    [-0, 0x8000],
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [65520, 0x7c00],
    [2 ** -14, 0x0400],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [0.333251953125, 0x3555],
    [1 + 1 / 2048, 0x3c00],
    [1 + 3 / 2048, 0x3c02],
    [2047.9999, 0x6800],
    [Number.POSITIVE_INFINITY, 0x7c00],
  ]
  for (const [value, word] of known) t.equal(float16Bits(value), word, String(value))
  const value = (word: number) => {
    const exponent = (word >> 10) & 31
    const mantissa = word & 1023
    return exponent === 0 ? mantissa * 2 ** -24 : (1 + mantissa / 1024) * 2 ** (exponent - 15)
  }
  const random = randomStream(3, 'halves')
  for (let i = 0; i < 2000; i++) {
    const x = Math.fround(2 ** random.uniform(-24, 15))
    const word = float16Bits(x)
    const error = Math.abs(value(word) - x)
    t.ok(error <= Math.abs(value(word + 1) - x) && error <= Math.abs(value(Math.max(0, word - 1)) - x), `${x}`)
  }
})

t.test('scales hold 0 exactly; weights are symmetric per channel', async (t) => {
  t.strictSame(activationScale([0, 25.5]), { scale: Math.fround(0.1), zero: 0 })
  t.equal(activationScale([-1, 3]).zero, 64)
  t.equal(activationScale([2, 4]).zero, 0, 'widened to 0')
  t.strictSame(activationScale([0, 0]), { scale: 1, zero: 0 })
  const data = Float32Array.of(1, -2, 0.5, 0.25, 0, 0)
  const tensor = { name: 'w', dims: [3, 2, 1, 1], dataType: 1, rawData: new Uint8Array(data.buffer) }
  const { values, scales } = weightIntegers(tensor, 8)
  t.strictSame([...values], [64, -127, 127, 64, 0, 0])
  t.strictSame([...scales], [Math.fround(2 / 127), Math.fround(0.5 / 127), 1])
  t.equal(Math.max(...weightIntegers(tensor, 7).values), 63)
})

for (const backbone of ['resnet18', 'resnet50'] as const) {
  t.test(`int8 of ${backbone}: convolutions between the first and the heads' last`, async (t) => {
    const model = await tiny(t, { backbone })
    const plan = planQuantisation(model)
    const all = model.graph.node.filter(({ opType }) => opType === 'Conv').map(({ name }) => name)
    const kept = all.filter((name) => !plan.convolutions.has(name))
    t.equal(kept[0], all[0], 'the first')
    t.equal(kept.length, 1 + 2 * 5, 'and two per level')
    const folder = t.testdir()
    const scratch = join(folder, 'scratch.onnx')
    const ranges = await calibrate(model, once(), { percentile: 100, threads: 1, scratch })
    t.strictSame([...ranges.keys()].sort(), calibrationTensors(plan).sort())
    const whole = quantise(model, plan, ranges, { weightBits: 8 })
    const count = (type: string) => whole.graph.node.filter(({ opType }) => opType === type).length
    t.equal(count('QuantizeLinear'), plan.scaleOf.size)
    const producer = (name: string) => whole.graph.node.find(({ output }) => output[0] === name)
    const stem = [producer('backbone.maxpool')!]
    for (let i = 0; i < 2; i++) stem.push(producer(stem[i]!.input[0]!)!)
    t.strictSame(
      stem.map(({ opType }) => opType),
      ['Relu', 'MaxPool', 'Conv'],
      'the stem is pooled before its ReLU, and quantised after both',
    )
    const int8 = whole.graph.initializer.filter(({ dataType }) => dataType === ELEMENT_TYPES.int8)
    t.ok(int8.length > 0)
    t.ok(encodeModel(whole).length < encodeModel(model).length / 1.5, 'smaller')
    const narrow = await calibrate(model, once(), { percentile: 99, threads: 1, scratch })
    const widths = [...ranges].map(([name, [low, high]]) => high - low >= narrow.get(name)![1] - narrow.get(name)![0])
    t.ok(widths.every(Boolean), 'a percentile is within the extremes')

    const [before, after] = [await detect(folder, model), await detect(folder, whole)]
    t.ok(before.scores.length > 0)
    const top = (set: typeof before) => Array.from(set.scores as Float32Array).slice(0, 5)
    for (const [i, score] of top(before).entries()) {
      t.ok(Math.abs(score - (top(after)[i] ?? 0)) < 0.1, `score ${i}: ${score} and ${top(after)[i]}`)
    }
    t.throws(() => quantise(model, plan, new Map(), { weightBits: 8 }), { code: 'ERR_MAMMO_ONNX_UNSUPPORTED' })
  })
}

t.test('calibration on many images leaves no listener behind', async (t) => {
  const warnings: Error[] = []
  const onWarning = (warning: Error) => warnings.push(warning)
  process.on('warning', onWarning)
  const scratch = join(t.testdir(), 'scratch.onnx')
  const model = await tiny(t)
  const ranges = await calibrate(model, images(), { percentile: 100, threads: 1, scratch })
  process.off('warning', onWarning)
  t.equal(ranges.size, calibrationTensors(planQuantisation(model)).length)
  t.strictSame(warnings, [])
})

t.test('fp16: half the weights, the same detections', async (t) => {
  for (const options of [{}, { norm: 'group', headNorm: 'group' }] as const) {
    const model = await tiny(t, options)
    const half = toFloat16(model)
    const size = (message: ModelMessage) => message.graph.initializer.reduce((n, { rawData }) => n + rawData.length, 0)
    t.ok(size(half) < 0.6 * size(model))
    const folder = t.testdir()
    const [before, after] = [await detect(folder, model), await detect(folder, half)]
    t.ok(before.scores.length > 0)
    for (let i = 0; i < 5; i++) t.ok(Math.abs(before.scores[i]! - after.scores[i]!) < 5e-3)
  }
  const model = await tiny(t)
  const first = model.graph.node.find(({ opType }) => opType === 'Conv')!
  const weight = model.graph.initializer.find(({ name }) => name === first.input[1])!
  new Float32Array(weight.rawData.buffer, weight.rawData.byteOffset, 1)[0] = 1e6
  const kept = toFloat16(model).graph.node.find(({ name }) => name === first.name)!
  t.strictSame(kept.input, first.input, 'a weight beyond the range stays in fp32')
})
