import t from 'tap'
import { fromView, mergeViews, planViews, type View } from '../../lib/predict/combine.js'

const rules = { nmsIou: 0.5, maxDetections: 10, merge: 'nms' } as const
const box = (x1: number, y1: number, x2: number, y2: number, score: number, label = 0) => ({
  box: [x1, y1, x2, y2] as [number, number, number, number],
  score,
  label,
})

t.test('tiles cover the image, start on the stride, and end at its border', async (t) => {
  const views = planViews([700, 900], { tile: { size: 512, step: 256 } }, 128)
  t.strictSame([...new Set(views.map(({ x }) => x))], [0, 256, 512])
  t.strictSame([...new Set(views.map(({ y }) => y))], [0, 256])
  t.ok(views.every(({ x, y, width, height }) => x + width <= 900 && y + height <= 700))
  t.equal(Math.max(...views.map(({ x, width }) => x + width)), 900)
  t.equal(planViews([700, 900], {}, 128).length, 1)
  t.equal(planViews([700, 900], { mirror: true }, 128).length, 2)
  t.equal(planViews([100, 100], { tile: { size: 512, step: 256 } }, 128).length, 1)
  for (const tile of [
    { size: 500, step: 256 },
    { size: 512, step: 100 },
    { size: 256, step: 512 },
    { size: 0, step: 0 },
  ]) {
    t.throws(() => planViews([700, 900], { tile }, 128), { code: 'ERR_MAMMO_ARGUMENT' })
  }
})

t.test('mirrored boxes come back', async (t) => {
  const view: View = { x: 100, y: 50, width: 200, height: 80, mirrored: true }
  t.strictSame(fromView(view, [10, 5, 30, 25]), [270, 55, 290, 75])
  t.strictSame(fromView({ ...view, mirrored: false }, [10, 5, 30, 25]), [110, 55, 130, 75])
})

const [left, middle] = planViews([512, 768], { tile: { size: 512, step: 256 } }, 128) as [View, View]
const size = [512, 768] as const

t.test('a mass on a seam is found once, whole', async (t) => {
  const whole = box(450, 100, 600, 200, 0.6)
  const cut = box(450, 100, 512, 200, 0.9)
  const merged = mergeViews(
    [
      { view: left, detections: [cut] },
      { view: middle, detections: [whole] },
    ],
    size,
    rules,
  )
  t.strictSame(merged, [whole], 'the cut half has the higher score and goes')
  t.strictSame(
    mergeViews(
      [
        { view: left, detections: [cut] },
        { view: middle, detections: [] },
      ],
      size,
      rules,
    ),
    [],
    'the tile that holds it whole decides',
  )
})

t.test('a box wider than every overlap stays', async (t) => {
  const wide = box(100, 100, 512, 200, 0.5)
  t.strictSame(
    mergeViews(
      [
        { view: left, detections: [wide] },
        { view: middle, detections: [] },
      ],
      size,
      rules,
    ),
    [wide],
  )
})

t.test('equal finds of two tiles are one; classes do not suppress each other', async (t) => {
  const a = box(300, 100, 400, 200, 0.8)
  const b = box(301, 100, 401, 200, 0.7)
  const other = box(300, 100, 400, 200, 0.6, 1)
  t.strictSame(
    mergeViews(
      [
        { view: left, detections: [b] },
        { view: middle, detections: [a, other] },
      ],
      size,
      rules,
    ),
    [a, other],
  )
})

t.test('plain and mirrored: fusion averages, NMS keeps the better', async (t) => {
  const plain: View = { x: 0, y: 0, width: 768, height: 512, mirrored: false }
  const parts = [
    { view: plain, detections: [box(100, 100, 200, 200, 0.8), box(400, 100, 500, 200, 0.4)] },
    { view: { ...plain, mirrored: true }, detections: [box(104, 100, 204, 200, 0.6)] },
  ]
  t.strictSame(
    mergeViews(parts, size, rules).map(({ score }) => score),
    [0.8, 0.4],
  )
  const fused = mergeViews(parts, size, { ...rules, merge: 'fusion' })
  t.equal(fused.length, 2)
  t.ok(Math.abs(fused[0]!.score - 0.7) < 1e-6 && fused[0]!.box[0] > 100 && fused[0]!.box[0] < 104)
  t.ok(Math.abs(fused[1]!.score - 0.2) < 1e-6, 'seen by one of two')
  t.equal(mergeViews(parts, size, { ...rules, maxDetections: 1 }).length, 1)
})
