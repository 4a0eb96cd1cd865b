import t from 'tap'
import { createGraph } from '../../lib/onnx/graph.js'
import { groupNorm } from '../../lib/onnx/layers.js'
import { addNetwork } from '../../lib/onnx/network.js'
import { encodeModel } from '../../lib/onnx/proto.js'
import { fillTensor } from '../deterministic-fill.js'
import { resnetGraph } from './resnet-graph.js'
import { runBytes, type TinyOptions, tinyDetector, tinyParameters } from './tiny-model.js'

function build(options: TinyOptions, exactHalves = true) {
  const { model } = tinyDetector(options)
  const graph = createGraph()
  const value = graph.input('x', 'float32', ['N', model.channels, 'H', 'W'], '')
  const levels = addNetwork(graph, {
    model,
    backbone: resnetGraph(model),
    parameters: tinyParameters(tinyDetector(options)),
    input: { value, channels: model.channels, size: ['H', 'W'] },
    batch: 'N',
    foldStem: false,
    exactHalves,
  })
  return { levels, graph: graph.finish('n', '') }
}

t.test('names tell where a node belongs', async (t) => {
  const { graph, levels } = build({})
  const names = graph.node.map(({ name }) => name)
  for (const name of [
    'backbone.conv1',
    'backbone.layer3.1.conv2',
    'backbone.layer2.0.downsample.0',
    'fpn.lateral.4',
    'fpn.p4.up',
    'fpn.extra.7',
    'head.cls.p5.tower.1.conv',
    'head.box.p7.deltas',
  ]) {
    t.ok(names.includes(name), name)
  }
  t.strictSame(
    levels.map(({ level }) => level),
    [3, 4, 5, 6, 7],
  )
})

t.test('heads share their weights between levels; batch norm leaves no node', async (t) => {
  const { graph } = build({})
  const uses = graph.node.filter(({ input }) => input[1] === 'head.cls.tower.0.conv.weight')
  t.equal(uses.length, 5)
  t.equal(graph.initializer.filter(({ name }) => name === 'head.cls.tower.0.conv.weight').length, 1)
  t.notOk(graph.node.some(({ opType }) => opType === 'BatchNormalization'))
  t.notOk(graph.initializer.some(({ name }) => name.includes('running')))
})

t.test('group norm follows every convolution of backbone and towers', async (t) => {
  const { graph } = build({ norm: 'group', headNorm: 'group' })
  const norms = graph.node.filter(({ opType }) => opType === 'ReduceSumSquare')
  t.equal(norms.length, 20 + 2 * 2 * 5, 'one per convolution of the backbone and of the towers at each level')
})

t.test('group norm keeps its digits over large maps with a large mean', async (t) => {
  const [rows, columns] = [600, 500]
  const channels = 64
  const graph = createGraph()
  const value = graph.input('x', 'float32', ['N', channels, 'H', 'W'], '')
  const weights = (name: string, offset: number) => {
    const shape = [channels]
    return [name, { shape, data: fillTensor({ name, shape, offset, amp: 0.5 }, 3) }] as const
  }
  const parameters = new Map([weights('n.weight', 1), weights('n.bias', 0)])
  const { model: tiny } = tinyDetector({})
  const build = { graph, parameters, model: tiny, backbone: resnetGraph(tiny), batch: 'N', exactHalves: true }
  const map = groupNorm(build, { value, channels, size: ['H', 'W'] }, 'n', 'y', 1e-5)
  graph.output(map.value, 'float32', ['N', channels, 'H', 'W'], '')
  const model = encodeModel({
    irVersion: 8,
    producerName: 't',
    producerVersion: '0',
    docString: '',
    graph: graph.finish('g', ''),
    opsetImport: [{ domain: '', version: 17 }],
    metadataProps: [],
  })
  const area = rows * columns
  const data = fillTensor({ name: 'x', shape: [channels, rows, columns], offset: 5, amp: 2 }, 3)
  const out = (await runBytes(t.testdir(), model, { x: { dims: [1, channels, rows, columns], data } }))['y']!
    .data as Float32Array
  let worst = 0
  for (let group = 0; group < 32; group++) {
    const from = group * 2 * area
    let [sum, squares] = [0, 0]
    for (let i = from; i < from + 2 * area; i++) sum += data[i]!
    const mean = sum / (2 * area)
    for (let i = from; i < from + 2 * area; i++) squares += (data[i]! - mean) ** 2
    const inverse = 1 / Math.sqrt(squares / (2 * area) + 1e-5)
    for (let i = from; i < from + 2 * area; i += 97) {
      const c = Math.floor(i / area)
      const expected =
        (data[i]! - mean) * inverse * parameters.get('n.weight')!.data[c]! + parameters.get('n.bias')!.data[c]!
      worst = Math.max(worst, Math.abs(out[i]! - expected))
    }
  }
  t.ok(worst < 3e-6, `within ${worst}`)
})

t.test('upsampling is by 2, or to the exact size where maps do not halve', async (t) => {
  const resize = (exact: boolean) => build({}, exact).graph.node.find(({ name }) => name === 'fpn.p4.up')!.input
  t.equal(resize(true)[2], 'fpn.twice')
  t.equal(resize(false)[3], 'fpn.p4.up.sizes')
})

t.test('the pyramid stops at the lowest level in use', async (t) => {
  const { graph } = build({ levels: [4, 5, 6, 7] })
  t.notOk(graph.node.some(({ name }) => /lateral.3|output.3/.test(name)))
})

t.test('TensorFlow padding is asked for at stride 2 only', async (t) => {
  const { graph } = build({ padding: 'tf' })
  const padded = graph.node
    .filter(({ attribute }) => attribute.some(({ name }) => name === 'auto_pad'))
    .map(({ name }) => name)
  t.ok(padded.includes('backbone.conv1') && padded.includes('backbone.maxpool') && padded.includes('fpn.extra.6'))
  t.notOk(padded.includes('backbone.layer1.0.conv1'))
})
