import t, { type Test } from 'tap'
import {
  type Affine,
  about,
  applyToPoint,
  compose,
  cornerBounds,
  determinant,
  ellipseBounds,
  flip,
  IDENTITY,
  invert,
  rotation,
  scaling,
  shear,
  transformBox,
  transformPolygon,
  translation,
} from '../../lib/geometry/affine.js'

const near = (t: Test, got: readonly number[], want: readonly number[], tolerance = 1e-6) => {
  const worst = Math.max(...got.map((x, i) => Math.abs(x - want[i]!)))
  t.ok(got.length === want.length && worst <= tolerance, `${got} within ${tolerance} of ${want}`)
}

t.test('the worked example of the specification', (t) => {
  const map = about(
    compose(rotation(0.1), translation(0.05 * 640, -0.02 * 480), shear(0.05), scaling(1.1, 0.9), flip(true, false)),
    320,
    240,
  )
  near(t, map, [-1.094505, -0.134494, 735.318637, -0.109817, 0.889894, 55.209439])
  near(t, cornerBounds(map, [100, 120, 200, 260]), [481.449198, 140.033364, 609.72886, 275.600196])
  t.end()
})

t.test('compose, invert, apply', (t) => {
  const map = compose(translation(3, 4), rotation(0.3), scaling(2, 0.5))
  near(t, applyToPoint(map, 0, 0), [3, 4])
  near(t, compose(map, invert(map)), IDENTITY, 1e-12)
  near(t, compose(invert(map), map), IDENTITY, 1e-12)
  t.equal(determinant(scaling(2, 3)), 6)
  t.same(compose(), IDENTITY)
  t.throws(() => invert([1, 2, 0, 2, 4, 0]), RangeError)
  near(t, applyToPoint(about(rotation(1), 5, 6), 5, 6), [5, 6], 1e-12)
  t.end()
})

t.test('box rules: a round lesion keeps its size when turned, corner bounds inflate', (t) => {
  const turn = about(rotation(Math.PI / 4), 50, 50)
  const ellipse = ellipseBounds(turn, [0, 0, 100, 100])
  near(t, ellipse, [0, 0, 100, 100], 1e-9)
  const corners = cornerBounds(turn, [0, 0, 100, 100])
  near(t, [corners[2] - corners[0]], [141.42], 0.01)
  const mirror: Affine = about(flip(true, false), 320, 0)
  for (const rule of ['ellipse', 'corners'] as const)
    near(t, transformBox(mirror, [100, 10, 200, 50], rule), [440, 10, 540, 50], 1e-9)
  near(t, transformPolygon(scaling(2, 3), [[1, 1], [4, 2], [2, 5]]), [2, 3, 8, 15]) // biome-ignore format: short
  t.end()
})
