import t from 'tap'
import type { ModelManifest } from '../../lib/onnx/manifest.js'
import { fillInputs, type InputPlan, planInput } from '../../lib/predict/preprocess.js'
import { tinyExport } from '../onnx/tiny-export.js'

const fillInput = (source: typeof image, plan: InputPlan, model: ModelManifest) =>
  [...fillInputs(source, plan, model)][0]!.feeds

/** A bright disc on dark background, 400 x 300. */
const [width, height] = [300, 400]
const pixels = new Uint16Array(width * height)
for (let y = 0; y < height; y++) {
  for (let x = 0; x < width; x++)
    if (Math.hypot(x, y - 200) < 150) pixels[y * width + x] = 1500 + ((x * 13 + y * 7) % 200)
}
const image = { pixels, width, height }

function manifest(
  input: Partial<ModelManifest['input']> = {},
  shape: ModelManifest['shape'] = 'dynamic',
): ModelManifest {
  return { shape, input: { channels: 1, padValue: 0, ...tinyExport('x').input, ...input } } as unknown as ModelManifest
}

t.test('the whole image without crop, padded to the multiple', async (t) => {
  const plan = planInput(image, null, manifest())
  t.match(plan, { crop: [0, 0, 300, 400], breastFound: null, scale: 1, size: [400, 300], canvas: [512, 384] })
  const feeds = fillInput(image, plan, manifest())
  t.strictSame(feeds['image']!.dims, [1, 1, 512, 384])
  t.strictSame(feeds['imageSize']!.data, BigInt64Array.of(400n, 300n))
  t.equal(feeds['image']!.data[200 * 384 + 10], pixels[200 * 300 + 10])
  t.equal(feeds['image']!.data[200 * 384 + 301], 0)
})

t.test('the breast crop keeps the breast and its margin', async (t) => {
  const on = manifest({ crop: { enabled: true, algorithm: 'breast-1', margin: 0.03 } })
  const plan = planInput(image, null, on)
  t.equal(plan.breastFound, true)
  const [x1, y1, x2, y2] = plan.crop
  t.ok(x1 === 0 && y1 < 50 && y1 > 20 && x2 > 150 && x2 < 180 && y2 > 350 && y2 < 380, String(plan.crop))
  t.equal(planInput(image, null, on, { crop: false }).breastFound, null)
  const wide = planInput(image, null, on, { cropMargin: 0.1 })
  t.ok(wide.crop[2] > x2)
  const blank = { pixels: new Uint16Array(width * height), width, height }
  const empty = planInput(blank, null, on)
  t.match(empty, { crop: [0, 0, 300, 400], breastFound: false, warnings: [{ code: 'predict/no-breast' }] })
})

t.test('resized models scale by sides or by spacing', async (t) => {
  const sides = { rule: 'sides', minSide: 150, maxSide: 180, spacingMm: null, antialias: true } as const
  t.match(planInput(image, null, manifest({ resize: sides })), { scale: 0.45, size: [180, 135], reduce: 1 })
  const spacing = { ...sides, rule: 'spacing', spacingMm: 0.2 } as const
  t.match(planInput(image, [0.1, 0.1], manifest({ resize: spacing })), { scale: 0.5, size: [200, 150] })
  t.throws(() => planInput(image, null, manifest({ resize: spacing })), { code: 'ERR_MAMMO_NO_PIXEL_SPACING' })
})

t.test('another pixel spacing is resampled, warned of or ignored', async (t) => {
  const at70 = manifest({ trainingSpacingMm: 0.07 })
  t.match(planInput(image, [0.1, 0.1], at70), { warnings: [{ code: 'predict/resampled' }], size: [571, 429] })
  t.match(planInput(image, [0.1, 0.1], at70, { spacing: 'warn' }), {
    scale: 1,
    warnings: [{ code: 'predict/spacing' }],
  })
  t.match(planInput(image, [0.1, 0.1], at70, { spacing: 'ignore' }), { scale: 1, warnings: [] })
  t.match(planInput(image, [0.08, 0.08], at70), { scale: 1, warnings: [] }, 'within 15 %')
  t.match(planInput(image, null, at70), { scale: 1, warnings: [{ code: 'predict/spacing-unknown' }] })
})

t.test('a fixed shape must hold the image', async (t) => {
  t.strictSame(planInput(image, null, manifest({}, [512, 512])).canvas, [512, 512])
  t.throws(() => planInput(image, null, manifest({}, [384, 384])), { code: 'ERR_MAMMO_TOO_LARGE' })
})

t.test('normalisation outside the graph, by constants and by image', async (t) => {
  const outside = { type: 'float32', normalisedInGraph: false, channels: 3 } as const
  const dataset = manifest({ ...outside, mean: [100], std: [50] })
  const feeds = fillInput(image, planInput(image, null, dataset), dataset)
  t.strictSame(feeds['image']!.dims, [1, 3, 512, 384])
  const at = 200 * 384 + 10
  t.equal(feeds['image']!.data[at], Math.fround((pixels[200 * 300 + 10]! - 100) / 50))
  t.equal(feeds['image']!.data[2 * 512 * 384 + at], feeds['image']!.data[at])
  t.equal(feeds['image']!.data[383], -2, 'padding is normalised raw 0')
  const own = manifest({ ...outside, channels: 1, normalise: 'image' })
  const data = fillInput(image, planInput(image, null, own), own)['image']!.data as Float32Array
  const inside = Array.from(data).filter(
    (_, i) => (pixels[Math.floor(i / 384) * 300 + (i % 384)] ?? 0) > 0 && i % 384 < 300 && i < 400 * 384,
  )
  const mean = inside.reduce((a, b) => a + b, 0) / inside.length
  const std = Math.sqrt(inside.reduce((a, b) => a + b * b, 0) / inside.length)
  t.ok(Math.abs(mean) < 1e-3 && Math.abs(std - 1) < 1e-3, `mean ${mean}, deviation ${std}`)
})

t.test('tiles and mirrored copies are cut from the scaled image', async (t) => {
  const plan = planInput(image, null, manifest(), { tile: { size: 256, step: 128 }, mirror: true })
  t.strictSame(plan.canvas, [256, 256])
  t.equal(plan.views.length, 2 * 3 * 2)
  const views = [...fillInputs(image, plan, manifest())]
  for (const { view, feeds } of views) {
    const data = feeds['image']!.data as Uint16Array
    const [x, y] = [view.width - 20, 30]
    const at = data[y * 256 + (view.mirrored ? view.width - 1 - x : x)]
    t.equal(at, pixels[(view.y + y) * 300 + view.x + x])
    t.ok(
      data.subarray(view.height * 256).every((v) => v === 0),
      'padding below is 0',
    )
    t.strictSame(feeds['imageSize']!.data, BigInt64Array.of(BigInt(view.height), BigInt(view.width)))
  }
  const own = manifest({ normalise: 'image' })
  t.throws(() => planInput(image, null, own, { tile: { size: 256, step: 128 } }), { code: 'ERR_MAMMO_ARGUMENT' })
})
