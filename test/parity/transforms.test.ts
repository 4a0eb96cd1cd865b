// Affine maps, boxes under them, and sampling, against keras-retinanet and SciPy.
import t from 'tap'
import {
  type Affine,
  about,
  compose,
  cornerBounds,
  invert,
  rotation,
  scaling,
  shear,
  translation,
} from '../../lib/geometry/affine.js'
import type { Box } from '../../lib/geometry/boxes.js'
import { warpWindow } from '../../lib/geometry/warp.js'
import { oracleJson, oracleTensors } from '../oracles.js'

type Matrix = [number, number, number][]
const affine = (m: Matrix): Affine => [m[0]![0], m[0]![1], m[0]![2], m[1]![0], m[1]![1], m[1]![2]]
const worst = (got: readonly number[], want: readonly number[]) =>
  Math.max(...got.map((v, i) => Math.abs(v - want[i]!)))

t.test('keras-retinanet: parts and boxes', async (t) => {
  const oracle = await oracleJson<{
    transforms: {
      matrix: Matrix
      adjusted_for_image: Matrix
      image_shape: number[]
      box: Box
      box_transformed: Box
    }[]
    parts: Record<string, Matrix>
  }>(t, 'image_ops_keras.json')
  if (oracle === undefined) return
  const parts: [string, Affine][] = [
    ['rotation_0.3', rotation(0.3)],
    ['translation_3_4', translation(3, 4)],
    ['shear_0.2', shear(0.2)],
    ['scaling_0.5_2', scaling(0.5, 2)],
  ]
  for (const [name, map] of parts) t.ok(worst(map, affine(oracle.parts[name]!)) <= 1e-12, name)
  for (const [i, c] of oracle.transforms.entries()) {
    const placed = affine(c.adjusted_for_image)
    const difference = worst(cornerBounds(placed, c.box), c.box_transformed)
    t.ok(difference <= 1e-9, `box ${i} within ${difference}`)
    // The stored matrix has its translation in pixels already: the reference scales it in place.
    const [height, width] = c.image_shape as [number, number]
    const moved = worst(about(affine(c.matrix), 0.5 * width, 0.5 * height), placed)
    t.ok(moved <= 1e-9, `matrix ${i} about the centre within ${moved}`)
  }
})

t.test('SciPy: bilinear sampling of interior pixels, boxes', async (t) => {
  const oracle = await oracleJson<{
    image: { shape: [number, number] }
    affine: {
      key: string
      matrix_source_to_output_xy1: Matrix
      output_shape: [number, number]
      pixel_centres: string
      box: Box
      box_transformed: Box
    }[]
  }>(t, 'image_ops.json')
  if (oracle === undefined) return
  const tensors = await oracleTensors('image_ops.safetensors')
  const [height, width] = oracle.image.shape
  const pixels = Uint16Array.from(tensors.get('image')!.data)
  for (const c of oracle.affine) {
    const map = affine(c.matrix_source_to_output_xy1)
    t.ok(worst(cornerBounds(map, c.box), c.box_transformed) <= 1e-9, `${c.key}: box`)
    // The oracle's other convention puts pixel centres at whole numbers: half a pixel on both sides of the map.
    const half = c.pixel_centres === 'i + 0.5' ? 0 : 0.5
    const inverse = invert(compose(translation(half, half), map, translation(-half, -half)))
    const want = tensors.get(c.key)!.data
    const got = warpWindow(
      { pixels, height, width, affine: inverse, reduce: 0, mean: 0, std: 1, intensity: [1, 0, 1] },
      c.output_shape,
      c.output_shape,
    )
    let compared = 0
    let most = 0
    for (let row = 0; row < c.output_shape[0]; row++)
      for (let column = 0; column < c.output_shape[1]; column++) {
        const [a, b, d, e, f, g] = inverse
        const x = a * (column + 0.5) + b * (row + 0.5) + d
        const y = e * (column + 0.5) + f * (row + 0.5) + g
        if (x < 0.5 || y < 0.5 || x > width - 0.5 || y > height - 0.5) continue
        const at = row * c.output_shape[1] + column
        most = Math.max(most, Math.abs(got[at]! - want[at]!))
        compared++
      }
    t.ok(compared > 0 && most <= 0.01, `${c.key}: ${compared} interior pixels within ${most} grey levels`)
  }
})
