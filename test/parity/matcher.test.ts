// The readable matcher and coders against keras-retinanet (double) and torchvision (float32).
import t from 'tap'
import { type AnchorConfig, anchorTable, gridSizes } from '../../lib/geometry/anchors.js'
import { type Box, boxAt } from '../../lib/geometry/boxes.js'
import { type CoderConfig, type Deltas, decodeBox, encodeBox } from '../../lib/geometry/coder.js'
import { anchorField, BACKGROUND, IGNORED, type MatcherConfig, matchAnchors } from '../../lib/geometry/matcher.js'
import { oracleJson, oracleTensors } from '../oracles.js'

const levels = [3, 4, 5, 6, 7]
const common = {
  sizes: [32, 64, 128, 256, 512],
  strides: [8, 16, 32, 64, 128],
  scales: [1, 2 ** (1 / 3), 2 ** (2 / 3)],
  ratios: [0.5, 1, 2],
  strideRule: 'configured' as const,
}
const keras: AnchorConfig = { ...common, shape: 'area', truncateSizes: false, roundCorners: false, offset: 0.5 }
const torchvision: AnchorConfig = { ...common, shape: 'side', truncateSizes: true, roundCorners: true, offset: 0 }
const rules: MatcherConfig = {
  kind: 'iou',
  positiveIou: 0.5,
  negativeIou: 0.4,
  negativeInclusive: true,
  lowQuality: false,
  lowQualityMinIou: 0,
  outside: 'ignoreAll',
  atssTopk: 4,
  atssCentreInBox: true,
}
const cornerCoder: CoderConfig = { kind: 'corner', weights: [0.2, 0.2, 0.2, 0.2], clamp: null }

function field(config: AnchorConfig, canvas: [number, number], precision: 'float32' | 'float64') {
  const grids = gridSizes(canvas[0], canvas[1], levels)
  const anchors =
    precision === 'float32'
      ? anchorTable(config, grids, canvas, 'float32')
      : anchorTable(config, grids, canvas, 'float64')
  return anchorField(config, grids, canvas, anchors)
}

/** Lists of float32 numbers are stored as shortest decimals. */
const single = <T extends number[]>(rows: T[]) => rows.map((row) => row.map(Math.fround) as T)
const relative = (got: number, want: number) => Math.abs(got - want) / Math.max(1, Math.abs(want))

interface Keras {
  cases: {
    name: string
    canvas: [number, number]
    image: [number, number]
    negative_overlap: number
    positive_overlap: number
    boxes: Box[]
    anchors: number
    positive: number
    ignore: number
    negative: number
    near_threshold_anchors: number[]
    near_tie_between_boxes_anchors: number[]
  }[]
  coder: Record<string, Box[]> & { other_mean: number[]; other_std: number[] }
}

t.test('targets of keras-retinanet', async (t) => {
  const oracle = await oracleJson<Keras>(t, 'targets_keras.json')
  if (oracle === undefined) return
  const tensors = await oracleTensors('targets_keras.safetensors')
  let worst = 0
  let decided = 0
  for (const c of oracle.cases) {
    const of = field(keras, c.canvas, 'float64')
    const config = { ...rules, positiveIou: c.positive_overlap, negativeIou: c.negative_overlap }
    const { state, best } = matchAnchors(of, { boxes: c.boxes, image: c.image }, config)
    const list = (name: string) => Array.from(tensors.get(`${c.name}.${name}`)?.data ?? [])
    // The rule about centres: the reference averages float corners, ours is exact, so centres on the border are compared by the reference's rule.
    const expected = new Int32Array(c.anchors).fill(BACKGROUND)
    list('positive').forEach((a, i) => {
      expected[a] = list('positive_gt')[i]!
    })
    for (const a of list('ignore')) expected[a] = IGNORED
    const near = new Set([...c.near_threshold_anchors, ...c.near_tie_between_boxes_anchors])
    const onBorder = (a: number) => of.centres[2 * a] === c.image[1] || of.centres[2 * a + 1] === c.image[0]
    const wrong = Array.from(expected.keys()).filter((a) => state[a] !== expected[a] && !near.has(a) && !onBorder(a))
    decided += c.anchors
    t.same(wrong, [], `${c.name}: ${c.positive} positive, ${c.ignore} ignored of ${c.anchors}`)
    const band = list('band')
    const regression = tensors.get(`${c.name}.band_regression`)?.data ?? []
    band.forEach((a, i) => {
      if (best[a] !== list('band_gt')[i] && !near.has(a)) t.fail(`${c.name}: best box of anchor ${a}`)
      const deltas = encodeBox(cornerCoder, boxAt(of.anchors, a), c.boxes[list('band_gt')[i]!]!)
      for (let k = 0; k < 4; k++) worst = Math.max(worst, relative(deltas[k]!, regression[4 * i + k]!))
    })
  }
  t.ok(worst <= 1e-6, `${decided} anchors; regression within ${worst}`)

  const { coder } = oracle
  for (const key of ['anchors', 'boxes', 'deltas']) coder[key] = single(coder[key]!)
  const other: CoderConfig = { ...cornerCoder, weights: coder.other_std as Deltas }
  const errors = coder['anchors']!.flatMap((anchor, i) =>
    (
      [
        [encodeBox(cornerCoder, anchor, coder['boxes']![i]!), coder['encoded']![i]!],
        [decodeBox(cornerCoder, anchor, coder['deltas']![i]!), coder['decoded']![i]!],
        [encodeBox(other, anchor, coder['boxes']![i]!, coder.other_mean as Deltas), coder['encoded_other']![i]!],
        [decodeBox(other, anchor, coder['deltas']![i]!, coder.other_mean as Deltas), coder['decoded_other']![i]!],
      ] as [number[], number[]][]
    ).flatMap(([got, want]) => got.map((v, k) => relative(v, want[k]!))),
  )
  t.ok(Math.max(...errors) <= 1e-6, `coder within ${Math.max(...errors)}`)
})

interface Torchvision {
  cases: {
    name: string
    canvas: [number, number]
    boxes: Box[]
    anchors: number
    'near_0.3_0.4_0.5_0.6_anchors': number[]
    near_tie_between_boxes_anchors: number[]
    near_best_of_box_but_not_equal: number[]
  }[]
  coder: Record<string, unknown> & { anchors: Box[]; boxes: Box[]; deltas: Deltas[]; clip: number }
}

t.test('matcher of torchvision', async (t) => {
  const oracle = await oracleJson<Torchvision>(t, 'matcher_torchvision.json')
  if (oracle === undefined) return
  const tensors = await oracleTensors('matcher_torchvision.safetensors')
  for (const c of oracle.cases) {
    const of = field(torchvision, c.canvas, 'float32')
    for (const [positiveIou, negativeIou] of [[0.5, 0.4], [0.6, 0.3]] as const) // biome-ignore format: pairs
      for (const quality of ['low', 'plain']) {
        const name = `${c.name}.${positiveIou}_${negativeIou}.${quality}`
        const index = Array.from(tensors.get(`${name}.index`)!.data)
        const match = tensors.get(`${name}.match`)!.data
        const expected = new Int32Array(c.anchors).fill(BACKGROUND)
        index.forEach((a, i) => {
          expected[a] = match[i]!
        })
        const config: MatcherConfig = {
          ...rules,
          positiveIou,
          negativeIou,
          negativeInclusive: false,
          lowQuality: quality === 'low',
          outside: 'background',
        }
        const { state } = matchAnchors(of, { boxes: c.boxes, image: c.canvas }, config)
        const wrong = Array.from(state.keys()).filter((a) => state[a] !== expected[a])
        t.same(wrong, [], `${name}: ${index.length} anchors that are not background`)
      }
  }
  const [anchors, boxes, deltas] = [
    single(oracle.coder.anchors),
    single(oracle.coder.boxes),
    single(oracle.coder.deltas),
  ]
  const { clip } = oracle.coder
  for (const [key, weights] of [
    ['weights_1_1_1_1_float64', [1, 1, 1, 1]],
    ['weights_10_10_5_5_float64', [10, 10, 5, 5]],
  ] as [string, Deltas][]) {
    // biome-ignore format: pairs
    const { encoded, decoded } = oracle.coder[key] as { encoded: Deltas[]; decoded: Box[] }
    const coder: CoderConfig = { kind: 'centre', weights, clamp: clip }
    const errors = anchors.flatMap((anchor, i) =>
      (
        [
          [encodeBox(coder, anchor, boxes[i]!), encoded[i]!],
          [decodeBox(coder, anchor, deltas[i]!), decoded[i]!],
        ] as [number[], number[]][]
      ).flatMap(([got, want]) => got.map((v, k) => relative(v, want[k]!))),
    )
    t.ok(Math.max(...errors) <= 1e-12, `${key} within ${Math.max(...errors)}`)
  }
})
