import t from 'tap'
import { IDENTITY } from '../../lib/geometry/affine.js'
import { reduceBlocks, sampleBilinear, type Window, warpWindow } from '../../lib/geometry/warp.js'

const window = (values: number[], height: number, width: number): Window => ({
  pixels: Uint16Array.from(values),
  height,
  width,
  affine: IDENTITY,
  reduce: 0,
  mean: 0,
  std: 1,
  intensity: [1, 0, 1],
})

t.test('identity gives the pixels back, above 8 bits too; padding equals normalised raw 0', (t) => {
  const out = warpWindow({ ...window([300, 65535, 0, 4], 2, 2), mean: 100, std: 2 }, [2, 2], [3, 4])
  t.same(Array.from(out), [100, 32717.5, -50, -50, -50, -48, -50, -50, -50, -50, -50, -50])
  t.end()
})

t.test('half a pixel outside fades to raw 0; blocks average; reduction keeps the full window as its frame', (t) => {
  const image = { values: [8, 4], height: 1, width: 2 }
  t.equal(sampleBilinear(image, 1, 0.5), 6)
  t.equal(sampleBilinear(image, 0, 0.5), 4)
  t.equal(sampleBilinear(image, -1, 0.5), 0)
  const blocks = reduceBlocks({ values: [1, 3, 5, 5, 7, 9], height: 2, width: 3 }, 1)
  t.same(Array.from(blocks.values), [4, 7])
  const shrunk = warpWindow(
    { ...window(new Array(16).fill(40), 4, 4), affine: [2, 0, 0, 0, 2, 0], reduce: 1 },
    [2, 2],
    [2, 2],
  )
  t.same(Array.from(shrunk), [40, 40, 40, 40])
  t.end()
})

t.test('intensity changes act on non-zero pixels only', (t) => {
  const out = warpWindow(
    { ...window([0, 65535, 16384], 1, 3), mean: 0, std: 65535, intensity: [2, 0.5, 0.5] },
    [1, 3],
    [1, 3],
  )
  t.equal(out[0], 0)
  t.equal(out[1], 2.5)
  t.ok(Math.abs(out[2]! - (2 * Math.sqrt(16384 / 65535) + 0.5)) < 1e-6)
  t.end()
})
