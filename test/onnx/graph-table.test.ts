import { truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { writeModel } from '../../lib/onnx/export.js'
import { graphTable, readGraphTable } from '../../lib/onnx/graph-table.js'
import { tinyExport } from './tiny-export.js'

t.test('the file says what was written', async (t) => {
  const { path, message } = await writeModel(tinyExport(join(t.testdir(), 'model.onnx')))
  const table = await readGraphTable(path)
  t.strictSame(table, graphTable(message), 'reading gives back what was encoded')
  t.match(table, {
    name: 'mammo_retinanet',
    inputs: [
      { name: 'image', type: 'uint16', shape: '[N, 1, H, W]' },
      { name: 'imageSize', type: 'int64' },
    ],
    outputs: [{ name: 'boxes', type: 'float32' }, { name: 'scores' }, { name: 'labels', type: 'int64' }, {}],
  })
  t.equal(table.nodes.length, message.graph.node.length)
  t.equal(
    Object.values(table.operators).reduce((sum, n) => sum + n, 0),
    table.nodes.length,
  )
  const numbers = message.graph.initializer.map(({ dims }) => dims.reduce((product, dim) => product * dim, 1))
  t.equal(
    table.parameters,
    numbers.reduce((sum, n) => sum + n, 0),
  )
  t.equal(
    table.nodes.reduce((sum, { weights }) => sum + weights, 0),
    table.parameters,
    'every constant is counted once',
  )
  const stem = table.nodes.find(({ operator }) => operator === 'Conv')!
  t.match(stem, { name: 'backbone.conv1', shape: /H_2, W_2/ })
  t.ok(stem.weights > 0)
})

t.test('what is no model is refused', async (t) => {
  const folder = t.testdir()
  const code = { code: 'ERR_MAMMO_MODEL_MANIFEST', where: /\.onnx$/ }
  writeFileSync(join(folder, 'text.onnx'), 'no model')
  await t.rejects(readGraphTable(join(folder, 'text.onnx')), code)
  writeFileSync(join(folder, 'empty.onnx'), '')
  await t.rejects(readGraphTable(join(folder, 'empty.onnx')), code)
  const { path } = await writeModel(tinyExport(join(folder, 'model.onnx')))
  truncateSync(path, 5000)
  await t.rejects(readGraphTable(path), code)
})
