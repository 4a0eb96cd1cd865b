import t from 'tap'
import { createGraph } from '../../lib/onnx/graph.js'
import { addNetwork } from '../../lib/onnx/network.js'
import { type TinyOptions, tinyDetector, tinyParameters } from './tiny-model.js'

function build(options: TinyOptions, exactHalves = true) {
  const { model } = tinyDetector(options)
  const graph = createGraph()
  const value = graph.input('x', 'float32', ['N', model.channels, 'H', 'W'], '')
  const levels = addNetwork(graph, {
    model,
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

t.test('group norm is instance norm over groups', async (t) => {
  const { graph } = build({ norm: 'group', headNorm: 'group' })
  const norms = graph.node.filter(({ opType }) => opType === 'InstanceNormalization')
  t.equal(norms.length, 20 + 2 * 2 * 5, 'one per convolution of the backbone and of the towers at each level')
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
