import t from 'tap'
import { createGraph } from '../../lib/onnx/graph.js'
import { encodeModel, type ModelMessage } from '../../lib/onnx/proto.js'
import { runBytes } from './tiny-model.js'

function wrap(graph: ModelMessage['graph']): ModelMessage {
  return {
    irVersion: 8,
    producerName: 'p',
    producerVersion: '1',
    docString: 'd',
    graph,
    opsetImport: [{ domain: '', version: 17 }],
    metadataProps: [{ key: 'k', value: 'v' }],
  }
}

t.test('the header fields stand where the format has them', async (t) => {
  const bytes = Buffer.from(
    encodeModel(wrap({ name: 'g', docString: '', node: [], initializer: [], input: [], output: [], valueInfo: [] })),
  )
  // tag = field number * 8 + wire type: 1 ir_version, 2 producer_name, 3 producer_version, 6 doc, 7 graph, 8 opset, 14 metadata
  t.equal(bytes.toString('hex'), '08081201701a0131320164' + '3a0512016752' + '00' + '42040a001011' + '72060a016b120176')
})

t.test('the runtime computes what was written', async (t) => {
  const graph = createGraph()
  const x = graph.input('x', 'float32', ['N'], 'numbers')
  graph.op('Add', 'y', [x, graph.float('two', [2], [])])
  graph.output('y', 'float32', ['N'], 'plus two')
  const outputs = await runBytes(t.testdir(), encodeModel(wrap(graph.finish('g', ''))), {
    x: { dims: [3], data: Float32Array.of(1, -2, 0.5) },
  })
  t.strictSame(Array.from(outputs['y']!.data, Number), [3, 0, 2.5])
})

t.test('weights of 2 GiB are refused before anything is written', async (t) => {
  const graph = createGraph().finish('g', '')
  const huge = { byteLength: 2 ** 31 } as Uint8Array
  graph.initializer.push({ name: 'w', dims: [1], dataType: 1, rawData: huge })
  t.throws(() => encodeModel(wrap(graph)), { code: 'ERR_MAMMO_ONNX_UNSUPPORTED' })
})
