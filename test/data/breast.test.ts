import t from 'tap'
import { findBreast, protectLesions } from '../../lib/data/breast.js'
import { breastPixels } from './fixtures.js'

t.test('finds a breast on either side, without the label', async (t) => {
  for (const side of ['L', 'R'] as const) {
    const pixels = breastPixels(640, 800, 3, side)
    // A bright label far from the breast.
    const x0 = side === 'L' ? 560 : 20
    for (let y = 40; y < 70; y++) for (let x = x0; x < x0 + 60; x++) pixels[y * 640 + x] = 4000
    const region = findBreast(pixels, 640, 800)
    t.ok(region.found)
    const [x1, y1, x2, y2] = region.crop
    // Ellipse: 0.6 of the width, 0.38 of the height to both sides of the middle.
    const inner = side === 'L' ? x2 : 640 - x1
    t.ok(inner >= 380 && inner <= 420, `inner edge ${inner}`)
    t.equal(side === 'L' ? x1 : 640 - x2, 0)
    t.ok(y1 > 60 && y1 <= 96 && y2 >= 704 && y2 < 740, `rows ${y1} to ${y2}`)
  }
})

t.test('mirrored images have mirrored crops', async (t) => {
  const pixels = breastPixels(640, 800, 5)
  const mirror = new Uint16Array(pixels.length)
  for (let y = 0; y < 800; y++) for (let x = 0; x < 640; x++) mirror[y * 640 + x] = pixels[y * 640 + 639 - x]!
  const [x1, y1, x2, y2] = findBreast(pixels, 640, 800).crop
  t.same(findBreast(mirror, 640, 800).crop, [640 - x2, y1, 640 - x1, y2])
})

t.test('a white frame does not widen the crop', async (t) => {
  const pixels = breastPixels(640, 800, 3)
  const plain = findBreast(pixels, 640, 800).crop
  const framed = Uint16Array.from(pixels)
  for (let y = 0; y < 800; y++) {
    for (let x = 0; x < 640; x++) if (y < 12 || y >= 784 || x >= 628) framed[y * 640 + x] = 4095
  }
  const crop = findBreast(framed, 640, 800).crop
  t.ok(Math.abs(crop[2] - plain[2]) <= 8 && Math.abs(crop[1] - plain[1]) <= 8 && Math.abs(crop[3] - plain[3]) <= 8)
})

t.test('blank and full images are kept whole', async (t) => {
  for (const value of [0, 1000]) {
    const region = findBreast(new Uint16Array(200 * 100).fill(value), 200, 100)
    t.notOk(region.found)
    t.same(region.crop, [0, 0, 200, 100])
  }
})

t.test('protection widens to whole pixels and counts', async (t) => {
  const { crop, extended } = protectLesions(
    [10, 10, 50, 50],
    [
      [5.5, 20, 30, 50.5],
      [12, 12, 20, 20],
    ],
    100,
    100,
  )
  t.same(crop, [5, 10, 50, 51])
  t.equal(extended, 1)
  t.same(protectLesions([10, 10, 50, 50], [[-3, 0, 200, 20]], 100, 100).crop, [0, 0, 100, 50])
})
