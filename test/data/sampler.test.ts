import t from 'tap'
import { createSampler, type SamplerImage, type SamplerOptions, scaleOf } from '../../lib/data/sampler.js'
import { coverage } from '../../lib/data/tissue.js'
import type { Box } from '../../lib/data/types.js'
import { applyToPoint, invert } from '../../lib/geometry/affine.js'
import { randomStream } from '../../lib/random.js'
import { config, samplerImage } from './fixtures.js'

const NOTHING = { ...config.augment, horizontalFlip: 0, rotation: 0, scale: [1, 1] as [number, number], translation: 0 }

function options(more: Partial<SamplerOptions>): SamplerOptions {
  return { strategy: 'crops', seed: 5, multiple: 128, data: config.data, augment: null, ...more }
}

function massAt(box: Box, ignore = false) {
  return { label: 0, box, polygon: null, ignore }
}

/** Random images with up to four masses, sides 40 to 700, one image with a mass of 1500 pixels. */
function manyImages(): SamplerImage[] {
  const random = randomStream(11, 'sampler-test')
  const images: SamplerImage[] = []
  for (let n = 0; n < 40; n++) {
    const [width, height] = [900 + random.integer(2200), 1100 + random.integer(2800)]
    const lesions = Array.from({ length: random.integer(5) }, () => {
      const [w, h] = [40 + random.uniform(0, 660), 40 + random.uniform(0, 660)]
      const [x, y] = [random.uniform(0, width - w), random.uniform(0, height - h)]
      return massAt([x, y, x + w, y + h])
    })
    images.push(samplerImage(`i${n}`, width, height, { lesions }))
  }
  images.push(
    samplerImage('large', 2560, 3328, {
      lesions: [massAt([300.5, 700, 1800.5, 2100]), massAt([1900, 100, 2000, 190])],
    }),
  )
  return images
}

t.test('10,000 patch draws follow the rules', async (t) => {
  const images = manyImages()
  const sampler = createSampler(images, options({}))
  t.equal(sampler.counts.positive, 5 * images.reduce((sum, image) => sum + image.lesions.length, 0))
  t.equal(sampler.counts.negative, 2 * images.filter((image) => image.lesions.length === 0).length)
  t.equal(sampler.counts.scaledLesions, 1)
  const faults = { outside: 0, unlabelled: 0, wrongBox: 0, missing: 0, background: 0 }
  let draws = 0
  const perImage = new Map<string, number>()
  for (let epoch = 0; draws < 10_000; epoch++) {
    for (let index = 0; index < sampler.length && draws < 10_000; index++, draws++) {
      const plan = sampler.plan(epoch, index)
      const image = images[plan.image]!
      if (epoch === 0) perImage.set(plan.id, (perImage.get(plan.id) ?? 0) + 1)
      const [x1, y1] = applyToPoint(plan.toImage, 0, 0)
      const [x2, y2] = applyToPoint(plan.toImage, 1024, 1024)
      const side = x2 - x1
      // Inside the image, except where the image is smaller than the window: then its corner is the image's.
      if (x1 < 0 || y1 < 0 || (x2 > image.width && x1 !== 0) || (y2 > image.height && y1 !== 0)) faults.outside++
      const scale = 1024 / side
      let whole = 0
      for (const { box } of image.lesions) {
        const seen: Box = [Math.max(box[0], x1), Math.max(box[1], y1), Math.min(box[2], x2), Math.min(box[3], y2)]
        const [w, h] = [seen[2] - seen[0], seen[3] - seen[1]]
        if (w <= 0 || h <= 0) continue
        const share = (w * h) / ((box[2] - box[0]) * (box[3] - box[1]))
        if (share > 1 - 1e-9) whole++
        const expected = [
          (seen[0] - x1) * scale,
          (seen[1] - y1) * scale,
          (seen[2] - x1) * scale,
          (seen[3] - y1) * scale,
        ]
        const same = (found: Box) => found.every((value, i) => Math.abs(value - expected[i]!) < 1e-6)
        const small = Math.min(expected[2]! - expected[0]!, expected[3]! - expected[1]!) < 16
        if (share >= 0.5 && !small && !plan.targets.boxes.some(same)) faults.unlabelled++
        if (share < 0.5 && !plan.targets.ignore.some(same)) faults.wrongBox++
      }
      if (image.lesions.length > 0 && whole === 0) faults.missing++
      if (
        image.lesions.length === 0 &&
        coverage(image.tissue, x1, y1, 1024) < 0.5 &&
        !plan.notes.includes('little-breast')
      ) {
        faults.background++
      }
    }
  }
  t.same(faults, { outside: 0, unlabelled: 0, wrongBox: 0, missing: 0, background: 0 })
  for (const image of images) t.equal(perImage.get(image.id), image.lesions.length > 0 ? 5 * image.lesions.length : 2)
})

t.test('a mass larger than the patch is scaled in', async (t) => {
  const box: Box = [300, 700, 1800, 2100]
  const sampler = createSampler([samplerImage('a', 2560, 3328, { lesions: [massAt(box)] })], options({}))
  for (let index = 0; index < 5; index++) {
    const plan = sampler.plan(0, index)
    t.same(plan.size, [1024, 1024])
    t.same(plan.notes, ['scaled-lesion'])
    const [found] = plan.targets.boxes
    t.ok(Math.abs(found![2] - found![0] - (1500 * 1024) / 1875) < 1e-9)
  }
})

t.test('positive windows reach every allowed position', async (t) => {
  const sampler = createSampler(
    [samplerImage('a', 2000, 1030, { lesions: [massAt([900, 3, 1000, 100])] })],
    options({}),
  )
  const xs: number[] = []
  for (let epoch = 0; epoch < 600; epoch++) {
    for (let index = 0; index < 5; index++) {
      const [x, y] = applyToPoint(sampler.plan(epoch, index).toImage, 0, 0)
      xs.push(x)
      t.ok(y >= 0 && y <= 3) || t.bailout('window outside')
    }
  }
  t.equal(Math.min(...xs), 0)
  t.equal(Math.max(...xs), 900)
  const mean = xs.reduce((a, b) => a + b, 0) / xs.length
  t.ok(Math.abs(mean - 450) < 20, `mean ${mean}`)
})

t.test('pure: a plan depends on seed, epoch and index only', async (t) => {
  const images = manyImages()
  const one = createSampler(images, options({ augment: config.augment }))
  const late = createSampler(images, options({ augment: config.augment })).plan(3, 17)
  one.plan(0, 0)
  t.same(one.plan(3, 17), late)
  t.notSame(one.plan(4, 17), late)
  t.notSame(createSampler(images, options({ augment: config.augment, seed: 6 })).plan(3, 17), late)
  const fixed = createSampler(
    images,
    options({ data: { ...config.data, patch: { ...config.data.patch, fresh: false } } }),
  )
  t.same(fixed.plan(0, 3), fixed.plan(9, 3))
})

t.test('the rules of the MSc project', async (t) => {
  const patch = { ...config.data.patch, rule: 'msc' as const, hardNegatives: 0 }
  const images = [
    samplerImage('near', 2560, 3328, { lesions: [massAt([2300, 3000, 2500, 3200]), massAt([2100, 2900, 2200, 3000])] }),
    samplerImage('large', 2560, 3328, { lesions: [massAt([300, 700, 1800, 2100])] }),
    samplerImage('left', 2560, 3328),
    samplerImage('right', 2560, 3328, { laterality: 'R' }),
  ]
  const sampler = createSampler(images, options({ data: { ...config.data, patch } }))
  t.match(sampler.counts, { positive: 10, negative: 4, skippedLesions: 1, scaledLesions: 0 })
  let beyond = 0
  for (let epoch = 0; epoch < 50; epoch++) {
    for (let index = 0; index < sampler.length; index++) {
      const plan = sampler.plan(epoch, index)
      const [x, y] = applyToPoint(plan.toImage, 0, 0)
      if (plan.id === 'near') {
        t.equal(plan.targets.boxes.length, 1, 'only the mass drawn for')
        if (x + 1024 > 2560 || y + 1024 > 3328) beyond++
      } else if (plan.id === 'left') t.ok(x >= 0 && x <= 500 && y >= 600 && y <= 1664)
      else t.ok(x + 1024 >= 2510 && x + 1024 <= 2560 && y + 1024 >= 2328 && y + 1024 <= 2828)
    }
  }
  t.ok(beyond > 0, 'windows may leave the image')
})

t.test('whole images: sizes of the specification', async (t) => {
  const rows = [
    [3328, 2560, 1700, 2300, 0.6640625, 2210, 1700],
    [4084, 3328, 1700, 2300, 0.510817, 2086, 1700],
    [3328, 2560, 800, 1333, 0.3125, 1040, 800],
    [4084, 3328, 800, 1333, 0.240385, 982, 800],
  ] as const
  for (const [height, width, minSide, maxSide, scale, outHeight, outWidth] of rows) {
    const resize = { ...config.data.resize, rule: 'sides' as const, minSide, maxSide }
    const image = samplerImage('a', width, height, { lesions: [massAt([100, 200, 500, 700])], origin: [40, 60] })
    t.ok(Math.abs(scaleOf(image, resize) - scale) < 1e-6)
    const sampler = createSampler([image], options({ strategy: 'resized', data: { ...config.data, resize } }))
    const plan = sampler.plan(0, 0)
    t.same(plan.size, [outHeight, outWidth])
    t.equal(plan.reduce, scale < 0.25 ? 2 : scale < 0.5 ? 1 : 0)
    const s = scaleOf(image, resize)
    t.ok(plan.targets.boxes[0]!.every((v, i) => Math.abs(v - [100, 200, 500, 700][i]! * s) < 1e-9))
    // The centre of output pixel d lies at (d + 0.5) / s in edge coordinates; the crop's corner is added for the image.
    const [x, y] = applyToPoint(plan.toImage, 10.5, 20.5)
    t.ok(Math.abs(x - (10.5 / s + 40)) < 1e-9 && Math.abs(y - (20.5 / s + 60)) < 1e-9)
    t.same(sampler.batches(0, 1, false), [
      { canvas: [Math.ceil(outHeight / 128) * 128, Math.ceil(outWidth / 128) * 128], indices: [0] },
    ])
  }
  t.throws(
    () =>
      scaleOf(samplerImage('a', 10, 10, { spacingMm: null }), {
        ...config.data.resize,
        rule: 'spacing',
        spacingMm: 0.1,
      }),
    { code: 'ERR_MAMMO_CONFIG' },
  )
})

t.test('batches: each sample once, one canvas, the same number in every epoch', async (t) => {
  const images = [...Array(30).keys()].map((n) => samplerImage(`i${n}`, n % 2 ? 2560 : 3328, n % 2 ? 3328 : 4084))
  const sampler = createSampler(images, options({ strategy: 'full' }))
  const orders = new Set<string>()
  for (let epoch = 0; epoch < 5; epoch++) {
    const batches = sampler.batches(epoch, 4, true)
    t.same(
      batches.flatMap((batch) => batch.indices).sort((a, b) => a - b),
      [...Array(30).keys()],
    )
    t.equal(batches.length, 8)
    for (const { canvas, indices } of batches) {
      t.same(canvas, indices[0]! % 2 ? [3328, 2560] : [4096, 3328])
      t.equal(new Set(indices.map((index) => index % 2)).size, 1)
    }
    orders.add(JSON.stringify(batches))
  }
  t.equal(orders.size, 5)
})

t.test('windows hold every pixel that the output needs', async (t) => {
  const images = manyImages()
  const resize = { ...config.data.resize, rule: 'sides' as const, minSide: 256, maxSide: 400 }
  for (const strategy of ['crops', 'resized', 'full'] as const) {
    const augment = { ...config.augment, rotation: 0.4, shear: 0.2, verticalFlip: 0.5 }
    const sampler = createSampler(images, options({ strategy, augment, data: { ...config.data, resize } }))
    let faults = 0
    for (let index = 0; index < sampler.length; index++) {
      const { window, affine, size, reduce, toImage } = sampler.plan(1, index)
      const image = images[sampler.plan(1, index).image]!
      const block = 2 ** reduce
      if (window[0] % block !== 0 || window[1] % block !== 0) faults++
      if (window[0] < 0 || window[1] < 0 || window[2] > image.width || window[3] > image.height) faults++
      for (const [u, v] of [
        [0.5, 0.5],
        [size[1] - 0.5, 0.5],
        [0.5, size[0] - 0.5],
        [size[1] - 0.5, size[0] - 0.5],
      ] as const) {
        const [x, y] = applyToPoint(affine, u, v)
        const [X, Y] = applyToPoint(toImage, u, v)
        if (Math.abs(x + window[0] - X) > 1e-6 || Math.abs(y + window[1] - Y) > 1e-6) faults++
        const inside = X >= 0 && Y >= 0 && X <= image.width && Y <= image.height
        // Bilinear sampling reads half a block beyond on each side, where the image has pixels.
        const reach = block
        const has =
          x - reach >= 0 || window[0] === 0 ? x + reach <= window[2] - window[0] || window[2] === image.width : false
        if (inside && !has) faults++
      }
    }
    t.equal(faults, 0, strategy)
  }
})

t.test('an unaugmented draw equals augmentation with empty ranges', async (t) => {
  const images = manyImages()
  const plain = createSampler(images, options({})).plan(2, 9)
  const empty = createSampler(images, options({ augment: NOTHING })).plan(2, 9)
  t.ok(plain.affine.every((v, i) => Math.abs(v - empty.affine[i]!) < 1e-9))
})

t.test('elastic displacement: by the seed, windows reach further, everything else is drawn as without', async (t) => {
  const images = manyImages()
  const moving = { ...config.augment, elastic: 12 }
  const sampler = createSampler(images, options({ augment: moving }))
  const still = createSampler(images, options({ augment: config.augment }))
  const seeds = new Set<number>()
  for (let index = 0; index < 60; index++) {
    const plan = sampler.plan(1, index)
    const plain = still.plan(1, index)
    t.equal(plain.elastic, null)
    t.match(plan.elastic, { amplitude: 12, spacing: 64 })
    t.same(plan.elastic, createSampler(images, options({ augment: moving })).plan(1, index).elastic)
    t.same(plan.toImage, plain.toImage)
    t.same(plan.intensity, plain.intensity)
    // What a place can show lies inside the window, as far as the image goes.
    const reach = [-12, 1024 + 12]
    for (const u of reach)
      for (const v of reach) {
        const [x, y] = applyToPoint(plan.affine, u, v)
        const { width, height } = images[plan.image]!
        const [x1, y1, x2, y2] = plan.window
        t.ok((x >= 0 || x1 === 0) && (y >= 0 || y1 === 0)) || t.bailout('too small')
        t.ok((x <= x2 - x1 || x2 === width) && (y <= y2 - y1 || y2 === height)) || t.bailout('too small')
      }
    seeds.add(plan.elastic!.seed)
  }
  t.ok(seeds.size > 55)
})

t.test('test-time views: the whole image mirrored, and larger', async (t) => {
  const image = samplerImage('a', 300, 200, { lesions: [massAt([30, 20, 90, 60])], origin: [1000, 2000] })
  const view = { mirrored: true, scale: 1.5 }
  for (const strategy of ['full', 'resized'] as const) {
    const data = {
      ...config.data,
      resize: { ...config.data.resize, rule: 'sides' as const, minSide: 100, maxSide: 400 },
    }
    const scale = (strategy === 'full' ? 1 : 0.5) * view.scale
    const plan = createSampler([image], options({ strategy, data, view })).plan(0, 0)
    t.same(plan.size, [200 * scale, 300 * scale])
    t.same(plan.targets.boxes, [[210 * scale, 20 * scale, 270 * scale, 60 * scale]])
    const [x, y] = applyToPoint(plan.toImage, 210 * scale, 20 * scale)
    t.ok(Math.abs(x - 1090) < 1e-9 && Math.abs(y - 2020) < 1e-9, `${x}, ${y}`)
  }
})

t.test('a flip mirrors boxes and pixels alike', async (t) => {
  const image = samplerImage('a', 2000, 1500, { lesions: [massAt([100, 200, 300, 260])] })
  const flip = { ...NOTHING, horizontalFlip: 1 }
  const plan = createSampler([image], options({ strategy: 'full', augment: flip })).plan(0, 0)
  t.same(plan.targets.boxes, [[1700, 200, 1900, 260]])
  t.same(plan.notes, ['mirrored'])
  const [x, y] = applyToPoint(invert(plan.toImage), 100, 200)
  t.same([x, y], [1900, 200])
})
