import t from 'tap'
import type { AnchorConfig } from '../../lib/binding/types.js'
import { cellAnchors as geometryCellAnchors } from '../../lib/geometry/anchors.js'
import { cellAnchors } from '../../lib/onnx/anchors.js'

const base: AnchorConfig = {
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
const torchvision: AnchorConfig = { ...base, shape: 'side', truncateSizes: true, roundCorners: true, offset: 0 }

t.test('half sides of the default anchors', async (t) => {
  const halves = cellAnchors(base, 0)
  const expected = [
    [22.627417, 11.313708],
    [28.50876, 14.25438],
    [35.918785, 17.959393],
    [16, 16],
    [20.158737, 20.158737],
    [25.398417, 25.398417],
    [11.313708, 22.627417],
    [14.25438, 28.50876],
    [17.959393, 35.918785],
  ]
  expected.forEach(([w, h], i) => {
    t.strictSame(
      Array.from(halves.slice(4 * i, 4 * i + 4)).map((v, j) => Math.abs(v - [-w!, -h!, w!, h!][j]!) < 4e-6),
      [true, true, true, true],
    )
  })
})

t.test("torchvision's are whole numbers, halves rounded to even", async (t) => {
  t.strictSame(Array.from(cellAnchors(torchvision, 0).slice(0, 4)), [-23, -11, 23, 11])
  t.strictSame(Array.from(cellAnchors(torchvision, 4).slice(-4)), [-287, -574, 287, 574])
  t.ok(cellAnchors(torchvision, 2).every(Number.isInteger))
})

t.test('the same as lib/geometry', async (t) => {
  const unusual: AnchorConfig = { ...base, scales: [0.7, 1.189, 1.563], ratios: [0.725, 1, 1.38, 3] }
  for (const config of [base, torchvision, unusual, { ...unusual, shape: 'side' } as AnchorConfig]) {
    for (let level = 0; level < 5; level++) {
      const ours = cellAnchors(config, level)
      const theirs = Float32Array.from(geometryCellAnchors(config, level))
      t.equal(ours.length, theirs.length)
      const worst = ours.reduce((m, v, i) => Math.max(m, Math.abs(v - theirs[i]!) / Math.abs(theirs[i]!)), 0)
      t.ok(worst < 1.2e-7, `level ${level}: within one unit in the last place, ${worst}`)
    }
  }
})
