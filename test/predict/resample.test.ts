import t from 'tap'
import { warpWindow } from '../../lib/geometry/warp.js'
import { reduction, resampleInto, scaledSide } from '../../lib/predict/resample.js'

/** Direct formula: block means, then bilinear at (i + 0.5) / scale - 0.5, zero beyond the crop. */
function direct(
  pixels: Uint16Array,
  width: number,
  [x1, y1, x2, y2]: [number, number, number, number],
  scale: number,
  reduce: number,
  x: number,
  y: number,
): number {
  const block = 2 ** reduce
  const mean = (bx: number, by: number) => {
    let [sum, count] = [0, 0]
    for (let v = y1 + by * block; v < Math.min(y2, y1 + (by + 1) * block); v++) {
      for (let u = x1 + bx * block; u < Math.min(x2, x1 + (bx + 1) * block); u++) {
        sum += pixels[v * width + u]!
        count++
      }
    }
    return bx < 0 || by < 0 || count === 0 ? 0 : sum / count
  }
  const px = (x + 0.5) / (scale * block) - 0.5
  const py = (y + 0.5) / (scale * block) - 0.5
  const [ix, iy] = [Math.floor(px), Math.floor(py)]
  const [fx, fy] = [px - ix, py - iy]
  return (
    (mean(ix, iy) * (1 - fx) + mean(ix + 1, iy) * fx) * (1 - fy) +
    (mean(ix, iy + 1) * (1 - fx) + mean(ix + 1, iy + 1) * fx) * fy
  )
}

const width = 37
const height = 29
const pixels = Uint16Array.from({ length: width * height }, (_, i) => (i * 7919) % 60013)

for (const [scale, crop] of [
  [0.7, [0, 0, 37, 29]],
  [1.6, [3, 5, 30, 29]],
  [0.31, [1, 0, 37, 28]],
  [0.12, [0, 0, 37, 29]],
] as [number, [number, number, number, number]][]) {
  t.test(`scale ${scale}`, async (t) => {
    const reduce = reduction(scale, true)
    const rows = scaledSide(crop[3] - crop[1], scale)
    const columns = scaledSide(crop[2] - crop[0], scale)
    const stride = columns + 5
    const data = new Float32Array(stride * (rows + 2)).fill(-1)
    resampleInto({ data, stride }, { pixels, width, height }, crop, scale, reduce)
    let worst = 0
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        worst = Math.max(worst, Math.abs(data[y * stride + x]! - direct(pixels, width, crop, scale, reduce, x, y)))
      }
      t.ok(
        data.subarray(y * stride + columns, (y + 1) * stride).every((v) => v === -1),
        'padding untouched',
      )
    }
    t.ok(worst < 0.01, `within ${worst} grey levels of the formula`)
    const rounded = new Uint16Array(stride * rows)
    resampleInto({ data: rounded, stride }, { pixels, width, height }, crop, scale, reduce)
    t.ok(Math.abs(rounded[stride + 1]! - data[stride + 1]!) <= 0.51)
  })
}

t.test('scale 1 copies the crop', async (t) => {
  const data = new Uint16Array(8 * 3)
  resampleInto({ data, stride: 8 }, { pixels, width, height }, [2, 1, 8, 4], 1, 0)
  t.strictSame(data.subarray(8, 14), pixels.subarray(2 * width + 2, 2 * width + 8))
})

t.test('the block average starts beyond a reduction by 2', async (t) => {
  t.strictSame(
    [1, 0.5, 0.49, 0.26, 0.25, 0.24, 0.1].map((s) => reduction(s, true)),
    [0, 0, 1, 1, 2, 2, 3],
  )
  t.equal(reduction(0.1, false), 0)
})

t.test("the same grey levels as training's warp", async (t) => {
  for (const scale of [0.2, 0.45, 0.8, 1, 1.5]) {
    const reduce = reduction(scale, true)
    const size: [number, number] = [scaledSide(height, scale), scaledSide(width, scale)]
    const canvas: [number, number] = [size[0] + 3, size[1] + 4]
    const affine: [number, number, number, number, number, number] = [1 / scale, 0, 0, 0, 1 / scale, 0]
    const window = { pixels, height, width, affine, reduce, mean: 0, std: 1, intensity: [1, 0, 1] as const }
    const expected = warpWindow(window, size, canvas)
    const data = new Float32Array(canvas[0] * canvas[1])
    resampleInto({ data, stride: canvas[1] }, { pixels, width, height }, [0, 0, width, height], scale, reduce)
    const worst = data.reduce((m, v, i) => Math.max(m, Math.abs(v - expected[i]!)), 0)
    t.ok(worst < 0.01, `scale ${scale}: within ${worst}`)
  }
})
