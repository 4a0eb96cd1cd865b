import t from 'tap'
import {
  displacement,
  type Elastic,
  elasticOf,
  MIN_SPACING_FACTOR,
  moved,
  movedOutline,
} from '../../lib/geometry/elastic.js'
import { type Window, warpWindow } from '../../lib/geometry/warp.js'
import { randomStream } from '../../lib/random.js'

t.test(
  'displacement: within its amplitude, of both signs, smooth, decided by the seed, defined everywhere',
  async (t) => {
    const field = elasticOf(10, 7)!
    let [low, high, steepest] = [0, 0, 0]
    for (let y = -300; y < 900; y += 7)
      for (let x = -300; x < 900; x += 7) {
        const d = displacement(field, x, y)
        low = Math.min(low, ...d)
        high = Math.max(high, ...d)
        for (const [u, v] of [
          [0.01, 0],
          [0, 0.01],
        ] as const) {
          const e = displacement(field, x + u, y + v)
          steepest = Math.max(steepest, Math.abs(e[0] - d[0]) / 0.01, Math.abs(e[1] - d[1]) / 0.01)
        }
      }
    t.ok(low >= -10 && low < -4, `least ${low}`)
    t.ok(high <= 10 && high > 4, `most ${high}`)
    t.ok(steepest < 2 / MIN_SPACING_FACTOR, `slope ${steepest}`)
    t.same(displacement(field, 333.25, 71.5), displacement(elasticOf(10, 7)!, 333.25, 71.5))
    t.notSame(displacement(field, 333.25, 71.5), displacement(elasticOf(10, 8)!, 333.25, 71.5))
    t.equal(elasticOf(0, 7), null)
    t.equal(elasticOf(40, 7)!.spacing, 200)
  },
)

t.test('moved is the inverse, at the strongest displacement too', async (t) => {
  for (let n = 0; n < 400; n++) {
    const random = randomStream(n, 'moved')
    const amplitude = random.uniform(0.1, 60)
    const field: Elastic = { amplitude, spacing: MIN_SPACING_FACTOR * amplitude, seed: random.uint32() }
    const [x, y] = [random.uniform(-100, 2000), random.uniform(-100, 2000)]
    const [px, py] = moved(field, x, y)
    const [dx, dy] = displacement(field, px, py)
    t.ok(Math.abs(px + dx - x) < 1e-6 && Math.abs(py + dy - y) < 1e-6) || t.bailout('no inverse')
  }
})

t.test('an outline between two points bends with the displacement', async (t) => {
  const field = elasticOf(12, 3)!
  const [x1, y1, x2, y2] = movedOutline(field, [
    [100, 100],
    [400, 100],
    [400, 300],
    [100, 300],
  ])
  const ends = [moved(field, 100, 100), moved(field, 400, 300)]
  t.ok(x1 <= ends[0]![0] && y1 <= ends[0]![1] && x2 >= ends[1]![0] && y2 >= ends[1]![1])
  for (let x = 100; x <= 400; x += 0.5) t.ok(moved(field, x, 100)[1] >= y1 - 0.01) || t.bailout('outside')
})

t.test(
  'warp: a lesion is seen where its box says, a 16-bit ramp shows the displacement, amplitude 0 changes nothing',
  async (t) => {
    const [width, height] = [220, 160]
    const field = elasticOf(12, 22)!
    const window: Window = {
      pixels: Uint16Array.from({ length: width * height }, (_, i) => 250 * (i % width)),
      ...{ width, height, affine: [1, 0, 0, 0, 1, 0], reduce: 0, mean: 0, std: 1, intensity: [1, 0, 1] },
    }
    const size: [number, number] = [height, width]
    const ramp = warpWindow({ ...window, elastic: field }, size, size)
    let worst = 0
    for (let y = 10; y < height - 10; y++)
      for (let x = 10; x < width - 10; x++) {
        const [dx] = displacement(field, x + 0.5, y + 0.5)
        worst = Math.max(worst, Math.abs(ramp[y * width + x]! - 250 * (x + dx)))
      }
    t.ok(worst < 0.01, `ramp within ${worst} grey levels`)
    t.same(warpWindow({ ...window, elastic: null }, size, size), warpWindow(window, size, size))

    const disc: Window = { ...window, pixels: new Uint16Array(width * height) }
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++)
        if (Math.hypot(x + 0.5 - 110, y + 0.5 - 80) < 30) disc.pixels[y * width + x] = 50_000
    const seen = warpWindow({ ...disc, elastic: field }, size, size)
    const outline = Array.from({ length: 200 }, (_, k): [number, number] => {
      const angle = (k * Math.PI) / 100
      return [110 + 30 * Math.cos(angle), 80 + 30 * Math.sin(angle)]
    })
    const box = movedOutline(field, outline)
    const found = [width, height, 0, 0]
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++)
        if (seen[y * width + x]! > 25_000) {
          found[0] = Math.min(found[0]!, x)
          found[1] = Math.min(found[1]!, y)
          found[2] = Math.max(found[2]!, x + 1)
          found[3] = Math.max(found[3]!, y + 1)
        }
    for (const [k, value] of box.entries())
      t.ok(Math.abs(value - found[k]!) < 1.5, `side ${k}: ${value} against ${found[k]}`)
    t.ok(Math.hypot(...box.map((value, k) => value - [80, 50, 140, 110][k]!)) > 2, 'it did move')
  },
)
