import t from 'tap'
import { drawAugmentation } from '../../lib/data/augment.js'
import { lesionTargets } from '../../lib/data/targets.js'
import type { Box, Point } from '../../lib/data/types.js'
import { type Affine, about, applyToPoint, flip, invert, rotation } from '../../lib/geometry/affine.js'
import { elasticOf, moved } from '../../lib/geometry/elastic.js'
import { randomStream } from '../../lib/random.js'
import { config } from './fixtures.js'

const RULES = { boxRule: 'ellipse' as const, minVisible: 0.5, minSidePx: 16 }
const IDENTITY: Affine = [1, 0, 0, 0, 1, 0]
const mass = (box: Box, polygon: Point[] | null = null, ignore = false) => ({ label: 2, box, polygon, ignore })
const WIDE = {
  ...config.augment,
  rotation: Math.PI,
  shear: 0.4,
  verticalFlip: 0.5,
  anisotropic: true,
  scale: [0.5, 1.6] as [number, number],
}

t.test('visibility rule', async (t) => {
  const on = (box: Box) => lesionTargets([mass(box)], IDENTITY, 100, 100, RULES)
  t.same(on([10, 10, 40, 40]), { boxes: [[10, 10, 40, 40]], labels: [2], ignore: [] })
  t.same(on([-10, 10, 30, 40]).boxes, [[0, 10, 30, 40]], 'three quarters visible')
  t.same(on([-40, 10, 30, 40]), { boxes: [], labels: [], ignore: [[0, 10, 30, 40]] }, 'less than half')
  t.same(on([-14, 10, 15, 40]).ignore, [[0, 10, 15, 40]], 'half visible, clipped to 15 px')
  t.same(on([-14, 10, 16, 40]).boxes, [[0, 10, 16, 40]], 'clipped to 16 px')
  t.same(on([50, 50, 60, 62]).boxes, [[50, 50, 60, 62]], 'a small lesion that nothing clipped stays')
  t.same(on([-50, 10, 0, 40]), { boxes: [], labels: [], ignore: [] }, 'outside')
  t.same(lesionTargets([mass([10, 10, 40, 40], null, true)], IDENTITY, 100, 100, RULES).ignore, [[10, 10, 40, 40]])
})

t.test('flip twice is the identity, 45 degrees as the specification says', async (t) => {
  const box: Box = [10, 20, 33, 47]
  const once = lesionTargets([mass(box)], about(flip(true, false), 50, 50), 100, 100, RULES).boxes[0]!
  t.same(once, [67, 20, 90, 47])
  t.same(lesionTargets([mass(once)], about(flip(true, false), 50, 50), 100, 100, RULES).boxes[0], box)
  const turned = about(rotation(Math.PI / 4), 200, 200)
  const side = (rule: 'ellipse' | 'corners') => {
    const [x1, , x2] = lesionTargets([mass([150, 150, 250, 250])], turned, 400, 400, { ...RULES, boxRule: rule })
      .boxes[0]!
    return x2 - x1
  }
  t.ok(Math.abs(side('ellipse') - 100) < 1e-9)
  t.ok(Math.abs(side('corners') - 141.4213562) < 1e-6)
})

t.test(
  '1000 random affines: the box is that of the transformed ellipse and contour, nothing is mirrored wrongly',
  async (t) => {
    let faults = 0
    for (let n = 0; n < 1000; n++) {
      const random = randomStream(n, 'targets')
      const { matrix, mirrored } = drawAugmentation(WIDE, 4000, 4000, random)
      const determinant = matrix[0] * matrix[4] - matrix[1] * matrix[3]
      if (mirrored && determinant === 0) faults++
      const [w, h] = [30 + random.uniform(0, 300), 30 + random.uniform(0, 300)]
      const [x, y] = [1600 + random.uniform(0, 500), 1600 + random.uniform(0, 500)]
      const contour = Array.from({ length: 720 }, (_, i): Point => {
        const angle = (i * Math.PI) / 360
        return [x + (w / 2) * Math.cos(angle), y + (h / 2) * Math.sin(angle)]
      })
      const points = contour.map(([px, py]) => applyToPoint(matrix, px, py))
      const bounds = [0, 1].map((axis) => [
        Math.min(...points.map((p) => p[axis]!)),
        Math.max(...points.map((p) => p[axis]!)),
      ])
      const expected = [bounds[0]![0]!, bounds[1]![0]!, bounds[0]![1]!, bounds[1]![1]!]
      if (expected.some((v) => v < 0 || v > 4000)) continue
      const box: Box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
      for (const polygon of [null, contour]) {
        const found = lesionTargets([mass(box, polygon)], matrix, 4000, 4000, RULES).boxes[0]
        if (found === undefined || found.some((v, i) => Math.abs(v - expected[i]!) > 0.05)) faults++
      }
      // A marker right of the lesion's centre must appear where the inverse map leads back to it.
      const [mx, my] = applyToPoint(matrix, x + 40, y)
      const [bx, by] = applyToPoint(invert(matrix), mx, my)
      if (Math.abs(bx - x - 40) > 1e-6 || Math.abs(by - y) > 1e-6) faults++
    }
    t.equal(faults, 0)
  },
)

t.test('draws stay in their ranges, and the seed decides', async (t) => {
  const draw = (seed: number) => drawAugmentation(config.augment, 1000, 800, randomStream(seed, 'draw'))
  t.same(draw(4), draw(4))
  let flips = 0
  for (let seed = 0; seed < 2000; seed++) {
    const { matrix, mirrored, intensity } = draw(seed)
    const determinant = Math.abs(matrix[0] * matrix[4] - matrix[1] * matrix[3])
    if (mirrored) flips++
    const [cx, cy] = applyToPoint(matrix, 500, 400)
    const fine =
      determinant >= 0.81 - 1e-9 && determinant <= 1.21 + 1e-9 && Math.abs(cx - 500) <= 50 && Math.abs(cy - 400) <= 40
    if (!fine || Math.abs(Math.atan2(matrix[3], Math.abs(matrix[0]))) > 0.1 + 1e-9) t.fail(`seed ${seed}`)
    if (seed === 0) t.same(intensity, [1, 0, 1, 0])
  }
  t.ok(flips > 900 && flips < 1100)
})

t.test(
  '300 random affines with displacement: boxes contain their moved outlines and are no larger than needed',
  async (t) => {
    let faults = 0
    for (let n = 0; n < 300; n++) {
      const random = randomStream(n, 'elastic-targets')
      const { matrix, elastic } = drawAugmentation({ ...WIDE, elastic: 1 + (n % 24) }, 2000, 2000, random)
      const [w, h] = [30 + random.uniform(0, 300), 30 + random.uniform(0, 300)]
      const [x, y] = [700 + random.uniform(0, 300), 700 + random.uniform(0, 300)]
      const corners: Point[] = [
        [x, y + h / 3],
        [x + w / 2, y],
        [x + w, y + h / 2],
        [x + w / 3, y + h],
      ]
      // Outlines by themselves, finer than the code has them.
      const along = (points: Point[], pieces: number) =>
        points.flatMap(([x1, y1], i) => {
          const [x2, y2] = points[(i + 1) % points.length]!
          return Array.from(
            { length: pieces },
            (_, k): Point => [x1 + ((x2 - x1) * k) / pieces, y1 + ((y2 - y1) * k) / pieces],
          )
        })
      const ellipse = Array.from({ length: 2000 }, (_, k): Point => {
        const angle = (k * Math.PI) / 1000
        return [x + w / 2 + (w / 2) * Math.cos(angle), y + h / 2 + (h / 2) * Math.sin(angle)]
      })
      const box: Box = [x, y, x + w, y + h]
      const frame = along(
        [
          [x, y],
          [x + w, y],
          [x + w, y + h],
          [x, y + h],
        ],
        500,
      )
      for (const [polygon, boxRule, outline] of [
        [corners, 'ellipse', along(corners, 500)],
        [null, 'ellipse', ellipse],
        [null, 'corners', frame],
      ] as const) {
        const rules = { ...RULES, boxRule, minVisible: 0, minSidePx: 0, elastic }
        const found = lesionTargets([mass(box, polygon as Point[] | null)], matrix, 1e9, 1e9, rules).boxes[0]
        const places = outline.map(([u, v]) => moved(elastic!, ...applyToPoint(matrix, u, v)))
        if (found === undefined || places.some(([u, v]) => u < 0 || v < 0)) continue
        const tight = [
          Math.min(...places.map(([u]) => u)),
          Math.min(...places.map(([, v]) => v)),
          Math.max(...places.map(([u]) => u)),
          Math.max(...places.map(([, v]) => v)),
        ]
        const loss = Math.max(...found.map((value, k) => (k < 2 ? value - tight[k]! : tight[k]! - value)))
        const waste = Math.max(...found.map((value, k) => (k < 2 ? tight[k]! - value : value - tight[k]!)))
        if (loss > 0.25 || waste > 0.25) faults++
      }
    }
    t.equal(faults, 0)
    const box: Box = [100, 100, 200, 180]
    const none = lesionTargets([mass(box)], IDENTITY, 500, 500, { ...RULES, elastic: elasticOf(0, 1) }).boxes[0]
    t.same(none, box)
  },
)
