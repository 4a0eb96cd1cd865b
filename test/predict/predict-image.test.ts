import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { encodeGrey16Png } from '../../lib/data/raster.js'
import { unverifiedRecord, writeManifest, writeModel } from '../../lib/onnx/export.js'
import type { ModelManifest } from '../../lib/onnx/manifest.js'
import { type OnnxSession, openOnnx } from '../../lib/onnx/runtime.js'
import { packageRoot } from '../../lib/package-root.js'
import { predictImage } from '../../lib/predict/predict-image.js'
import { tinyExport } from '../onnx/tiny-export.js'
import { testImage } from '../onnx/tiny-model.js'

async function load(t: Test, input: Parameters<typeof tinyExport>[2] = {}): Promise<[OnnxSession, ModelManifest]> {
  const out = join(t.testdir(), 'model.onnx')
  const { manifest } = await writeManifest(await writeModel(tinyExport(out, {}, input)), unverifiedRecord('test'))
  const session = await openOnnx(out, { threads: 1 })
  t.teardown(() => session.close())
  return [session, manifest]
}

const common = { threshold: 0.05, read: {} }

t.test('boxes come back to the whole image from crop and scale', async (t) => {
  const resize = { rule: 'sides', minSide: 100, maxSide: 140, spacingMm: null, antialias: true } as const
  const [session, manifest] = await load(t, { type: 'float32', resize })
  const data = testImage(280, 240)
  const source = { data, height: 280, width: 240, spacingMm: [0.2, 0.1] as [number, number] }
  const found = await predictImage(session, manifest, { ...common, source })
  t.match(found.pipeline, { scale: 100 / 240, canvas: [128, 128] })
  t.ok(found.detections.length > 0)
  for (const { box, boxMm } of found.detections) {
    t.ok(box[0] >= 0 && box[1] >= 0 && box[2] <= 240 && box[3] <= 280, String(box))
    t.strictSame(boxMm, [box[0] * 0.1, box[1] * 0.2, box[2] * 0.1, box[3] * 0.2])
  }
  // The same pixels moved: the crop finds them, and the boxes move along.
  const moved = new Uint16Array(600 * 500)
  for (let y = 0; y < 280; y++) moved.set(data.subarray(y * 240, (y + 1) * 240), (y + 200) * 500)
  const cropped = await predictImage(session, manifest, {
    ...common,
    crop: true,
    cropMargin: 0,
    source: { data: moved, height: 600, width: 500 },
  })
  const [x1, y1] = cropped.pipeline.crop
  t.equal(cropped.pipeline.breastFound, true)
  t.ok(x1 === 0 && y1 > 150 && y1 <= 200, String(cropped.pipeline.crop))
  t.ok(cropped.detections.length > 0)
  t.ok(cropped.detections.every(({ box }) => box[1] >= y1 && box[3] <= cropped.pipeline.crop[3]))
})

t.test('a PNG file', async (t) => {
  const [session, manifest] = await load(t)
  const pixels = testImage(150, 130)
  const path = join(t.testdirName, 'a.png')
  writeFileSync(path, await encodeGrey16Png(pixels, 130, 150))
  const fromFile = await predictImage(session, manifest, { ...common, source: path })
  const fromPixels = await predictImage(session, manifest, {
    ...common,
    source: { data: pixels, height: 150, width: 130 },
  })
  t.strictSame(fromFile.detections, fromPixels.detections)
  t.ok(fromFile.detections.length > 0)
})

t.test('a mammogram as DICOM, cropped, with millimetres', async (t) => {
  const path = join(
    process.env['MAMMO_DATA'] ?? join(packageRoot(), '..', 'shared', 'data'),
    'dicom',
    'mg',
    'fo-dicom_GH133.dcm',
  )
  if (!existsSync(path)) {
    t.pass('DICOM', { skip: 'no dicom/mg/fo-dicom_GH133.dcm; set MAMMO_DATA to the data folder' })
    return
  }
  const [session, manifest] = await load(t, {
    crop: { enabled: true, algorithm: 'breast-1', margin: 0.03 },
    normalise: 'image',
  })
  const found = await predictImage(session, manifest, { ...common, source: path, read: { allowForProcessing: true } })
  const { rows, columns, spacingMm } = found.image
  t.ok(rows > 1000 && columns > 1000)
  t.ok(spacingMm !== null && spacingMm[0] > 0.02 && spacingMm[0] < 0.3, String(spacingMm))
  t.equal(found.pipeline.breastFound, true)
  const area = (found.pipeline.crop[2] - found.pipeline.crop[0]) * (found.pipeline.crop[3] - found.pipeline.crop[1])
  t.ok(area < rows * columns, 'the crop is smaller than the image')
  for (const { box, boxMm } of found.detections) {
    t.ok(box[0] >= 0 && box[2] <= columns && box[3] <= rows)
    t.ok(Math.abs(boxMm![2] - box[2] * spacingMm![1]) < 1e-9)
  }
})

t.test('tiles and mirrored copies through the model', async (t) => {
  const [session, manifest] = await load(t)
  const source = { data: testImage(300, 280), height: 300, width: 280 }
  const whole = await predictImage(session, manifest, { ...common, source })
  const one = await predictImage(session, manifest, { ...common, source, tile: { size: 384, step: 128 } })
  t.strictSame(one.detections, whole.detections, 'one tile around the image is the whole image')
  const tiled = await predictImage(session, manifest, {
    ...common,
    source,
    tile: { size: 256, step: 128 },
    mirror: true,
  })
  t.match(tiled.pipeline, { scope: 'tiles', views: 8, merge: 'fusion', canvas: [256, 256] })
  t.ok(tiled.detections.length > 0)
  t.ok(tiled.detections.every(({ box }) => box[2] <= 280 && box[3] <= 300))
  // A mirrored image predicts the mirrored boxes when both copies are seen.
  const flipped = new Uint16Array(source.data.length)
  for (let y = 0; y < 300; y++) for (let x = 0; x < 280; x++) flipped[y * 280 + x] = source.data[y * 280 + 279 - x]!
  const job = { ...common, mirror: true, merge: 'nms' } as const
  const a = await predictImage(session, manifest, { ...job, source })
  const b = await predictImage(session, manifest, { ...job, source: { ...source, data: flipped } })
  t.equal(a.detections.length, b.detections.length)
  const worst = a.detections.reduce((m, { box, score }) => {
    const best = Math.min(
      ...b.detections.map((other) =>
        Math.max(
          Math.abs(280 - other.box[2] - box[0]),
          Math.abs(other.box[1] - box[1]),
          Math.abs(280 - other.box[0] - box[2]),
          100 * Math.abs(other.score - score),
        ),
      ),
    )
    return Math.max(m, best)
  }, 0)
  t.ok(worst < 0.01, `mirrored detections within ${worst}`)
})
