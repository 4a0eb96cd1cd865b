// Anchors against torchvision (byte for byte) and keras-retinanet (1 ulp of float32).
import { createHash } from 'node:crypto'
import t from 'tap'
import {
  type AnchorConfig,
  anchorCounts,
  anchorStrides,
  anchorTable,
  cellAnchors,
  gridSizes,
} from '../../lib/geometry/anchors.js'
import { oracleJson, oracleTensors } from '../oracles.js'

const sha256 = (values: Float32Array) =>
  createHash('sha256')
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest('hex')

interface Case {
  key: string
  config: string
  image: [number, number]
  grids: [number, number][]
  count_per_level: number[]
  count: number
}

interface Torchvision {
  configs: Record<string, { levels: number[]; sizes: number[][]; aspect_ratios: number[] }>
  cell_anchors: Record<string, number[][][]>
  cases: (Case & { padded: [number, number]; strides_yx: [number, number][]; sha256_f32: string; sum: number })[]
}

/** Sizes per level are multiples of the first by common scales up to truncation, which the configuration repeats. */
function torchvisionConfig(
  name: string,
  { levels, sizes, aspect_ratios }: Torchvision['configs'][string],
  exact: boolean,
) {
  const scales = name === 'default' ? [1, 2 ** (1 / 3), 2 ** (2 / 3)] : sizes[0]!.map((size) => size / sizes[0]![0]!)
  const config: AnchorConfig = {
    sizes: sizes.map((of) => of[0]!),
    strides: levels.map((level) => 2 ** level),
    scales,
    ratios: aspect_ratios,
    shape: 'side',
    truncateSizes: true,
    roundCorners: true,
    offset: 0,
    strideRule: exact ? 'configured' : 'floorDivision',
  }
  return config
}

t.test('torchvision', async (t) => {
  const oracle = await oracleJson<Torchvision>(t, 'anchors_torchvision.json')
  if (oracle === undefined) return
  const tensors = await oracleTensors('anchors_torchvision.safetensors')
  for (const [name, cells] of Object.entries(oracle.cell_anchors)) {
    const config = torchvisionConfig(name, oracle.configs[name]!, true)
    t.same(
      cells.map((_, level) => Array.from(cellAnchors(config, level))),
      cells.map((cell) => cell.flat()),
      `${name}: anchors of a cell`,
    )
  }
  for (const c of oracle.cases) {
    const config = torchvisionConfig(c.config, oracle.configs[c.config]!, c.key.endsWith('.exact_strides'))
    const grids = gridSizes(c.padded[0], c.padded[1], oracle.configs[c.config]!.levels)
    t.same(grids, c.grids, `${c.key}: grids`)
    t.same(anchorStrides(config, c.grids, c.padded), c.strides_yx, `${c.key}: strides`)
    t.same(anchorCounts(config, c.grids), c.count_per_level, `${c.key}: counts`)
    const anchors = anchorTable(config, c.grids, c.padded, 'float32')
    t.equal(sha256(anchors), c.sha256_f32, `${c.key}: bytes of all ${c.count} anchors`)
    const index = tensors.get(`${c.key}.index`)!.data
    const stored = tensors.get(`${c.key}.anchors`)!.data
    t.ok(
      Array.from(index).every((a, i) => [0, 1, 2, 3].every((k) => anchors[4 * a + k] === stored[4 * i + k])),
      `${c.key}: stored anchors`,
    )
  }
})

interface Keras {
  configs: Record<string, { ini: string | null; levels: number[] }>
  base_anchors_f64: Record<string, number[][][]>
  cases: (Case & {
    sha256_f32_of_f64: string
    sha256_f32_tf_layer: string
    sum_f64: number
    abs_f64: number
    max_abs_difference_layer_f64: number
  })[]
}

function kerasConfig({ ini, levels }: Keras['configs'][string]): AnchorConfig {
  const list = (key: string, otherwise: number[]) =>
    ini === null ? otherwise : new RegExp(`^${key}\\s*=(.*)$`, 'm').exec(ini)![1]!.trim().split(/\s+/).map(Number)
  return {
    sizes: list('sizes', [32, 64, 128, 256, 512]),
    strides: list(
      'strides',
      levels.map((level) => 2 ** level),
    ),
    ratios: list('ratios', [0.5, 1, 2]),
    scales: list('scales', [1, 2 ** (1 / 3), 2 ** (2 / 3)]),
    shape: 'area',
    truncateSizes: false,
    roundCorners: false,
    offset: 0.5,
    strideRule: 'configured',
  }
}

/** Distance of float32 numbers at this size. */
const ulp = (value: number) => 2 ** (Math.floor(Math.log2(Math.max(Math.abs(value), 2 ** -126))) - 23)

t.test('keras-retinanet', async (t) => {
  const oracle = await oracleJson<Keras>(t, 'anchors_keras.json')
  if (oracle === undefined) return
  const tensors = await oracleTensors('anchors_keras.safetensors')
  for (const [name, cells] of Object.entries(oracle.base_anchors_f64)) {
    const config = kerasConfig(oracle.configs[name]!)
    const worst = cells.flatMap((cell, level) => {
      const ours = cellAnchors(config, level)
      return cell.flat().map((v, i) => Math.abs(ours[i]! - v))
    })
    t.ok(Math.max(...worst) <= 1e-12, `${name}: anchors of a cell within ${Math.max(...worst)}`)
  }
  let equal = 0
  let equalLayer = 0
  let layers = 0
  for (const c of oracle.cases) {
    const config = kerasConfig(oracle.configs[c.config]!)
    t.same(gridSizes(c.image[0], c.image[1], oracle.configs[c.config]!.levels), c.grids, `${c.key}: grids`)
    t.same(anchorCounts(config, c.grids), c.count_per_level, `${c.key}: counts`)
    const wide = anchorTable(config, c.grids, c.image, 'float64')
    const sum = wide.reduce((total, v) => total + v, 0)
    t.ok(Math.abs(sum - c.sum_f64) <= 1e-9 * c.abs_f64, `${c.key}: sum of all coordinates`)
    equal += Number(sha256(Float32Array.from(wide)) === c.sha256_f32_of_f64)
    const table = anchorTable(config, c.grids, c.image, 'float32')
    equalLayer += Number(sha256(table) === c.sha256_f32_tf_layer)
    const index = tensors.get(`${c.key}.index`)!.data
    const stored = tensors.get(`${c.key}.anchors`)!.data
    let worst = 0
    for (const [i, a] of Array.from(index).entries())
      for (let k = 0; k < 4; k++) {
        const want = stored[4 * i + k]!
        worst = Math.max(worst, Math.abs(Math.fround(wide[4 * a + k]!) - want) / ulp(want))
      }
    t.ok(worst <= 1, `${c.key}: double table within ${worst} ulp`)
    // The reference's inference layer is float32 and was not run on the largest images.
    if (c.sha256_f32_tf_layer === undefined) continue
    layers++
    const apart = table.reduce((most, v, i) => Math.max(most, Math.abs(v - wide[i]!)), 0)
    t.ok(apart <= c.max_abs_difference_layer_f64!, `${c.key}: float32 table within ${apart} of the double one`)
  }
  t.comment(
    `equal byte for byte: ${equal} of ${oracle.cases.length} to the double table, ${equalLayer} of ${layers} to the float32 layer`,
  )
})
