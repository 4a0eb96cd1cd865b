import t from 'tap'
import {
  type AnchorConfig,
  anchorCounts,
  anchorStrides,
  anchorTable,
  cellAnchors,
  gridSizes,
  roundHalfToEven,
} from '../../lib/geometry/anchors.js'

const levels = [3, 4, 5, 6, 7]
const standard: AnchorConfig = {
  sizes: [32, 64, 128, 256, 512],
  strides: [8, 16, 32, 64, 128],
  scales: [1, 2 ** (1 / 3), 2 ** (2 / 3)],
  ratios: [0.5, 1, 2],
  shape: 'area',
  truncateSizes: false,
  roundCorners: false,
  offset: 0.5,
  strideRule: 'configured',
}
const torchvision: AnchorConfig = { ...standard, shape: 'side', truncateSizes: true, roundCorners: true, offset: 0 }
const sum = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0)
const total = (config: AnchorConfig, height: number, width: number, of = levels) =>
  sum(anchorCounts({ ...config, sizes: of }, gridSizes(height, width, of)))

t.test('the worked numbers of the specification', (t) => {
  const grids = gridSizes(64, 64, levels)
  const keras = anchorTable(standard, grids, [64, 64], 'float64')
  t.equal(keras.length, 4 * 774)
  const near = (got: Float64Array, want: number[]) =>
    t.ok(want.every((v, i) => Math.abs(v - got[i]!) < 2e-5), `${got} is ${want}`) // biome-ignore format: short
  near(keras.slice(0, 4), [-18.627417, -7.313708, 26.627417, 15.313708])
  near(keras.slice(36, 40), [-10.627417, -7.313708, 34.627417, 15.313708])
  near(keras.slice(-4), [-223.35028, -510.70056, 351.35028, 638.70056])
  t.ok(Math.abs(sum(keras) - 100224) < 1e-3)
  const vision = anchorTable(torchvision, grids, [64, 64], 'float32')
  t.equal(sum(vision), 80640)
  t.same(Array.from(vision.slice(0, 4)), [-23, -11, 23, 11])
  t.same(Array.from(vision.slice(-4)), [-287, -574, 287, 574])
  const single = { ...standard, sizes: [32], strides: [8], scales: [1], ratios: [1] }
  t.same(
    Array.from(anchorTable(single, [[2, 2]], [16, 16], 'float32')),
    [-12, -12, 20, 20, -4, -12, 28, 20, -12, -4, 20, 28, -4, -4, 28, 28],
  )
  t.end()
})

t.test('counts of full-size mammograms', (t) => {
  t.equal(total(standard, 3328, 2560), 1595880)
  t.equal(total(standard, 4084, 3328), 2549664)
  t.equal(total(standard, 4096, 3328), 2553408)
  t.equal(total(standard, 4084, 3328, [4, 5, 6, 7]), 636480)
  t.equal(total(standard, 4084, 3328, [4, 5, 6, 7, 8]), 638352)
  t.equal(total(standard, 4084, 3328, [2, 3, 4, 5, 6, 7]), 10194912)
  t.equal(total(standard, 800, 1333), 200700)
  t.end()
})

t.test('backbones that round odd sides down have fewer cells', (t) => {
  const of = (height: number, width: number, halvings: string) =>
    sum(anchorCounts(standard, gridSizes(height, width, levels, halvings)))
  t.equal(of(200, 400, 'ccfff'), 14814, 'DenseNet')
  t.equal(of(200, 400, 'ccccc'), 15318, 'rounding up')
  t.equal(of(1024, 363, 'fffff'), 68760, 'MobileNet v1')
  t.equal(of(1024, 363, ''), 70776, 'rounding up, not said')
  t.same(gridSizes(363, 31, [2, 5, 6], 'fffff'), [
    [90, 7],
    [11, 0],
    [6, 0],
  ])
  t.end()
})

t.test('strides are the configured ones; torchvision divides', (t) => {
  const grids = gridSizes(800, 800, levels)
  const of = (config: AnchorConfig) => anchorStrides(config, grids, [800, 800]).map(([y]) => y)
  t.same(of(standard), [8, 16, 32, 64, 128])
  t.same(of({ ...torchvision, strideRule: 'floorDivision' }), [8, 16, 32, 61, 114])
  t.end()
})

t.test('rounding half to even, wrong lengths', (t) => {
  t.same([0.5, 1.5, 2.5, -0.5, -1.5, 2.4, 2.6].map(roundHalfToEven), [0, 2, 2, -0, -2, 2, 3])
  t.throws(() => anchorTable(standard, [[1, 1]], [8, 8], 'float32'), RangeError)
  t.throws(() => cellAnchors(standard, 5), RangeError)
  t.end()
})
