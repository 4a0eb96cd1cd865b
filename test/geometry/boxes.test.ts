import t from 'tap'
import { area, type Box, bounds, boxAt, centre, clip, intersection, iou, iouFloat32 } from '../../lib/geometry/boxes.js'

t.test('area, intersection and IoU', (t) => {
  t.equal(area([1, 2, 4, 6]), 12)
  t.equal(area([4, 2, 1, 6]), 0)
  t.equal(intersection([0, 0, 10, 10], [5, 5, 15, 15]), 25)
  t.equal(iou([0, 0, 10, 10], [5, 5, 15, 15]), 25 / 175)
  t.equal(iou([0, 0, 10, 10], [0, 0, 10, 10]), 1)
  t.equal(iou([0, 0, 10, 10], [10, 0, 20, 10]), 0, 'touching edges share nothing: boxes are half-open')
  t.equal(iou([3, 3, 3, 3], [3, 3, 3, 3]), 0, 'an empty union is no match')
  t.end()
})

t.test('float32 IoU is the rounded chain', (t) => {
  const a: Box = [0, 0, 10, 10]
  t.equal(iouFloat32(...a, 5, 5, 15, 15), Math.fround(25 / 175))
  t.equal(iouFloat32(...a, 20, 20, 30, 30), 0)
  t.equal(iouFloat32(1, 1, 1, 1, 1, 1, 1, 1), 0)
  t.equal(iouFloat32(0, 0, 2, 1, 0, 0, 5, 1), Math.fround(0.4))
  t.end()
})

t.test('clip, centre, bounds, boxAt', (t) => {
  t.same(clip([-5, -5, 20, 30], 10, 12), [0, 0, 10, 12])
  t.same(clip([20, 20, 30, 30], 10, 12), [10, 12, 10, 12])
  t.same(centre([0, 2, 4, 10]), [2, 6])
  t.same(
    bounds([
      [3, 1],
      [-1, 5],
    ]),
    [-1, 1, 3, 5],
  )
  t.throws(() => bounds([]), RangeError)
  t.same(boxAt(new Float32Array([0, 0, 0, 0, 1, 2, 3, 4]), 1), [1, 2, 3, 4])
  t.end()
})
