import t from 'tap'
import type { WindowReader } from '../../lib/data/cache.js'
import { readPlans } from '../../lib/data/loader.js'
import { createSampler } from '../../lib/data/sampler.js'
import type { Box, Rect } from '../../lib/data/types.js'
import { drawPlan, planInput } from '../../lib/data/view-plan.js'
import { config, samplerImage } from './fixtures.js'

const [WIDTH, HEIGHT] = [420, 560]
const BOX: Box = [150, 210, 214, 250]

/** A bright ellipse that fills BOX, with a brighter dot on its right half: shows mirroring. */
const picture = new Uint16Array(WIDTH * HEIGHT).map((_, at) => {
  const [x, y] = [(at % WIDTH) + 0.5, Math.floor(at / WIDTH) + 0.5]
  const inside = ((x - 182) / 32) ** 2 + ((y - 230) / 20) ** 2 < 1
  if (!inside) return 1000
  return (x - 202) ** 2 + (y - 230) ** 2 < 16 ? 9000 : 5000
})

const reader: WindowReader = {
  async read(_id, [x1, y1, x2, y2]: Rect, into) {
    for (let y = y1; y < y2; y++) into.set(picture.subarray(y * WIDTH + x1, y * WIDTH + x2), (y - y1) * (x2 - x1))
  },
  close: async () => undefined,
}

const image = samplerImage('a', WIDTH, HEIGHT, {
  lesions: [{ label: 0, box: BOX, polygon: null, ignore: false }],
  normalise: [1000, 1000],
})

for (const strategy of ['full', 'resized', 'crops'] as const) {
  t.test(`${strategy}: warped pixels lie where the box says, and nothing is mirrored wrongly`, async (t) => {
    const sampler = createSampler([image], {
      strategy,
      seed: 3,
      multiple: 32,
      data: {
        ...config.data,
        patch: { ...config.data.patch, size: 256 },
        resize: { ...config.data.resize, rule: 'sides', minSide: 300, maxSide: 400 },
      },
      augment: {
        ...config.augment,
        rotation: 0.6,
        shear: 0.2,
        verticalFlip: 0.5,
        anisotropic: true,
        scale: [0.8, 1.3],
      },
    })
    let checked = 0
    for (let epoch = 0; epoch < 40; epoch++) {
      const plan = sampler.plan(epoch, 0)
      const { batch } = await readPlans([plan], [plan.size[0], plan.size[1]], reader)
      const input = planInput(plan, batch.windows.pixels)
      const [box] = plan.targets.boxes
      if (box === undefined || box[0] < 3 || box[1] < 3 || box[2] > plan.size[1] - 3 || box[3] > plan.size[0] - 3)
        continue
      checked++
      // Pixels at least half way up to the ellipse's value (normalised 4) belong to it; the dot has 8.
      const found: Box = [Infinity, Infinity, -Infinity, -Infinity]
      let [dotX, dotY, dots] = [0, 0, 0]
      for (let y = 0; y < plan.size[0]; y++) {
        for (let x = 0; x < plan.size[1]; x++) {
          const value = input[y * plan.size[1] + x]!
          if (value >= 2) {
            found[0] = Math.min(found[0], x)
            found[1] = Math.min(found[1], y)
            found[2] = Math.max(found[2], x + 1)
            found[3] = Math.max(found[3], y + 1)
          }
          if (value < 6) continue
          dotX += x + 0.5
          dotY += y + 0.5
          dots++
        }
      }
      const off = Math.max(...found.map((v, i) => Math.abs(v - box[i]!)))
      if (!(off <= 1)) t.fail(`epoch ${epoch}: box ${box}, pixels ${found}`)
      // The dot, mapped back to the source, is right of the centre: at (202, 230).
      const [a, b, c, d, e, f] = plan.toImage
      const [x, y] = [dotX / dots, dotY / dots]
      const [sx, sy] = [a * x + b * y + c, d * x + e * y + f]
      if (!(Math.abs(sx - 202) < 1 && Math.abs(sy - 230) < 1)) t.fail(`epoch ${epoch}: dot at ${sx}, ${sy}`)
    }
    t.ok(checked > 20, `${checked} plans with the whole box inside`)
  })
}

t.test('a ramp of 16-bit values is kept', async (t) => {
  const ramp = samplerImage('r', 300, 4, { normalise: [0, 1] })
  const sampler = createSampler([ramp], { strategy: 'full', seed: 0, multiple: 32, data: config.data, augment: null })
  const pixels = new Uint16Array(1200).map((_, at) => 201 * (at % 300))
  const input = planInput(sampler.plan(0, 0), pixels)
  t.ok(input.every((value, at) => value === pixels[at]))
})

t.test('a drawn plan has the size of the sample and marks what has no anchor', async (t) => {
  const sampler = createSampler([image], { strategy: 'full', seed: 0, multiple: 32, data: config.data, augment: null })
  const plan = sampler.plan(0, 0)
  const { batch } = await readPlans([plan], [plan.size[0], plan.size[1]], reader)
  const plain = drawPlan(plan, batch.windows.pixels, { classes: ['mass'] })
  t.same([plain.width, plain.height], [WIDTH, HEIGHT])
  const marked = drawPlan(plan, batch.windows.pixels, { classes: ['mass'], matched: [false] })
  const matched = drawPlan(plan, batch.windows.pixels, { classes: ['mass'], matched: [true] })
  t.notOk(Buffer.from(marked.rgb).equals(Buffer.from(plain.rgb)))
  t.notOk(Buffer.from(marked.rgb).equals(Buffer.from(matched.rgb)))
})
