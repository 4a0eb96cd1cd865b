import t from 'tap'
import { selectClasses, torchvisionParameters } from '../../lib/weights/torchvision.js'

t.test('names change, data stay; foreign files are refused', async (t) => {
  const data = Float32Array.of(1, 2)
  const { parameters, report } = torchvisionParameters(
    new Map([
      ['backbone.body.bn1.weight', { shape: [2], data }],
      ['backbone.body.bn1.num_batches_tracked', { shape: [1], data: Float32Array.of(0) }],
    ]),
  )
  t.strictSame([...parameters], [['backbone.bn1.weight', { shape: [2], data }]])
  t.strictSame(report.unused, ['backbone.body.bn1.num_batches_tracked'])
  t.throws(() => torchvisionParameters(new Map([['fc.weight', { shape: [2], data }]])), {
    code: 'ERR_MAMMO_CHECKPOINT',
  })
})

t.test('columns of a classification layer', async (t) => {
  const layer = { shape: [6, 2], data: Float32Array.from({ length: 12 }, (_, i) => i) }
  const kept = selectClasses(layer, 3, [2, 0])
  t.strictSame(kept, { shape: [4, 2], data: Float32Array.of(4, 5, 0, 1, 10, 11, 6, 7) })
})
