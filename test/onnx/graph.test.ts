import t from 'tap'
import { createGraph } from '../../lib/onnx/graph.js'

t.test('names are unique and inputs must exist', async (t) => {
  const graph = createGraph()
  graph.input('x', 'float32', ['N', 3], 'numbers')
  t.equal(graph.op('Relu', 'y', ['x']), 'y')
  t.throws(() => graph.op('Relu', 'y', ['x']), /unique names.*"y"/)
  t.throws(() => graph.op('Relu', 'z', ['nowhere']), /earlier value.*"nowhere"/)
  t.throws(() => graph.output('nowhere', 'float32', [], ''), /"nowhere"/)
  t.doesNotThrow(
    () => graph.op('Resize', 'r', ['x', '', graph.float('s', [1, 2], [2])]),
    'an empty name is an omitted input',
  )
})

t.test('equal constants are one tensor, unequal ones an error', async (t) => {
  const graph = createGraph()
  t.equal(graph.int64('one', 1), graph.int64('one', 1))
  t.throws(() => graph.int64('one', 2), /one value for ONNX constant "one"/)
  t.throws(() => graph.float('f', [1, 2, 3], [2]), /expected 2 numbers/)
  t.equal(graph.finish('g', '').initializer.filter(({ name }) => name === 'one').length, 1)
})

t.test('attributes carry their types', async (t) => {
  const graph = createGraph()
  graph.input('x', 'float32', [1], '')
  graph.op('Op', 'n', ['x'], { axis: 1, pads: [0, 1], mode: 'nearest', epsilon: { float: 0.5 } }, 'why')
  const [node] = graph.finish('g', '').node
  t.strictSame(
    node!.attribute.map(({ name, type }) => [name, type]),
    [
      ['axis', 2],
      ['pads', 7],
      ['mode', 3],
      ['epsilon', 1],
    ],
  )
  t.equal(node!.docString, 'why')
})
