import t from 'tap'
import { kerasParameters } from '../../lib/weights/keras.js'

t.test('kernels are transposed, vectors kept, the stem reversed on request', async (t) => {
  const kernel = { shape: [1, 2, 3, 2], data: Float32Array.from({ length: 12 }, (_, i) => i) }
  const gamma = { shape: [2], data: Float32Array.of(5, 6) }
  const source = new Map([
    ['conv1/kernel:0', kernel],
    ['bn_conv1/gamma:0', gamma],
  ])
  const { parameters } = kerasParameters(source)
  // [h, w, in, out] index ((h*2 + w)*3 + i)*2 + o
  t.strictSame(parameters.get('backbone.conv1.weight'), {
    shape: [2, 3, 1, 2],
    data: Float32Array.of(0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11),
  })
  t.equal(parameters.get('backbone.bn1.weight'), gamma)
  const reversed = kerasParameters(source, { reverseStem: true }).parameters.get('backbone.conv1.weight')!
  t.strictSame(reversed.data, Float32Array.of(4, 10, 2, 8, 0, 6, 5, 11, 3, 9, 1, 7))
})
