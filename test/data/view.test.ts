import t from 'tap'
import { greyPicture, label, newPicture, outline, percentileWindow } from '../../lib/data/draw.js'
import { renderSvg } from '../../lib/data/raster.js'
import { contactSheet, drawView, renderImage, VIEW_COLOURS } from '../../lib/data/view.js'
import { breastPixels } from './fixtures.js'

type Rgb = readonly number[]
const pixel = (p: { width: number; rgb: Uint8Array }, x: number, y: number): Rgb => [
  ...p.rgb.subarray((y * p.width + x) * 3, (y * p.width + x) * 3 + 3),
]

t.test('16-bit values are windowed, not cut to 8 bits', async (t) => {
  const ramp = Uint16Array.from({ length: 1001 }, (_, n) => n * 4)
  t.same(percentileWindow(ramp, 0, 1), [4, 4000])
  const picture = greyPicture(ramp, 1001, 1, [0, 4000])
  for (const n of [0, 250, 500, 1000]) t.same(pixel(picture, n, 0), new Array(3).fill(Math.round((n * 4 * 255) / 4000)))
  const half = greyPicture(ramp, 1001, 1, [1000, 2000])
  t.same([pixel(half, 250, 0)[0], pixel(half, 600, 0)[0]], [0, 255])
  t.same(percentileWindow(new Uint16Array(9)), [0, 1])
  const averaged = greyPicture(Uint16Array.from([0, 100, 200, 300]), 2, 2, [0, 300], 2)
  t.same([averaged.width, pixel(averaged, 0, 0)[0]], [1, Math.round(150 * 0.85)])
})

t.test('truth is red and solid, predictions blue and dashed, matched lesions have green corners', async (t) => {
  const [width, height] = [300, 400]
  const picture = drawView({
    pixels: breastPixels(width, height, 1),
    width,
    height,
    truth: [{ box: [100, 120, 180, 200], matched: true }],
    predictions: [{ box: [40, 250, 240, 330], score: 0.874, tag: 'FP' }],
  })
  t.same(pixel(picture, 140, 119), VIEW_COLOURS.truth)
  t.not(pixel(picture, 140, 120)[0], VIEW_COLOURS.truth[0])
  const along = Array.from(
    { length: 200 },
    (_, n) => String(pixel(picture, 40 + n, 249)) === String(VIEW_COLOURS.prediction),
  )
  const blue = along.filter(Boolean).length
  t.ok(blue > 100 && blue < 140, `${blue} of 200 pixels are dashes`)
  let green = 0
  for (let n = 0; n < picture.rgb.length; n += 3)
    if (String([...picture.rgb.subarray(n, n + 3)]) === String(VIEW_COLOURS.matched)) green++
  t.ok(green > 20)
})

t.test('labels stay inside the picture; letters are letters', async (t) => {
  const picture = newPicture(100, 40)
  label(picture, 90, -5, 'mass 0.87', [220, 30, 30], [255, 255, 255], 1)
  const ink = []
  for (let y = 0; y < 40; y++) for (let x = 0; x < 100; x++) if (pixel(picture, x, y)[1] === 255) ink.push([x, y])
  t.ok(ink.length > 60 && ink.every(([x, y]) => x! > 40 && x! < 100 && y! < 10))
  outline(picture, [-10, -10, 200, 200], [1, 2, 3], 2)
  t.pass('boxes beyond the picture are clipped')
})

t.test('parts at 1:1, reduction, contact sheet, PNG', async (t) => {
  const [width, height] = [300, 400]
  const pixels = breastPixels(width, height, 1)
  const truth = [{ box: [100, 120, 180, 200] as [number, number, number, number] }]
  const part = drawView({ pixels, width, height, truth, part: [90, 110, 190, 210] })
  t.same([part.width, part.height], [100, 100])
  t.same(pixel(part, 50, 9), VIEW_COLOURS.truth)
  const small = drawView({ pixels, width, height, truth, maxSide: 100 })
  t.same([small.width, small.height], [75, 100])
  const sheet = contactSheet([part, small, part], 2)
  t.same([sheet.width, sheet.height], [208, 208])
  const png = await renderImage({ pixels, width, height, truth })
  const uri = `data:image/png;base64,${Buffer.from(png).toString('base64')}`
  const { rgb } = await renderSvg(
    `<svg xmlns="http://www.w3.org/2000/svg" width="300" height="400"><image href="${uri}" width="300" height="400"/></svg>`,
  )
  t.same([...rgb.subarray((119 * 300 + 140) * 3, (119 * 300 + 140) * 3 + 3)], VIEW_COLOURS.truth)
})
