import t from 'tap'
import type { Box } from '../../lib/geometry/boxes.js'
import { type CoderConfig, type Deltas, decodeBox, encodeBox } from '../../lib/geometry/coder.js'

const corner: CoderConfig = { kind: 'corner', weights: [0.2, 0.2, 0.2, 0.2], clamp: null }
const centre: CoderConfig = { kind: 'centre', weights: [1, 1, 1, 1], clamp: Math.log(1000 / 16) }
const near = (got: readonly number[], want: readonly number[]) => got.every((v, i) => Math.abs(v - want[i]!) < 1e-6)

t.test('worked examples', (t) => {
  t.ok(near(decodeBox(corner, [100, 100, 300, 300], [0, 0.1, 0, 0]), [100, 104, 300, 300]))
  t.ok(near(decodeBox(corner, [80, 120, 200, 200], [0, 0, 0.1, 0]), [80, 120, 202.4, 200]))
  t.ok(near(decodeBox(corner, [50, 50, 100, 100], [0.1, 0.1, 0, 0]), [51, 51, 100, 100]))
  t.ok(near(decodeBox(corner, [20, 20, 40, 40], [0, 0, 0.1, 0.1]), [20, 20, 40.4, 40.4]))
  t.ok(near(encodeBox(centre, [0, 0, 32, 32], [8, 4, 40, 52]), [0.25, 0.375, 0, 0.405465]))
  t.end()
})

t.test('decoding undoes encoding; the clamp limits growth only', (t) => {
  const anchor: Box = [10, 20, 60, 50]
  const box: Box = [5, 28, 90, 61]
  for (const coder of [corner, centre, { ...centre, weights: [10, 10, 5, 5] as Deltas }])
    t.ok(near(decodeBox(coder, anchor, encodeBox(coder, anchor, box)), box))
  const grown = decodeBox(centre, [0, 0, 16, 16], [0, 0, 100, -100])
  t.ok(Math.abs(grown[2] - grown[0] - 1000) < 1e-9)
  t.ok(grown[3] - grown[1] < 1e-30)
  t.end()
})
