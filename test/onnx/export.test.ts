import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  parityRecord,
  placeModel,
  unverifiedRecord,
  type WriteModelOptions,
  writeManifest,
  writeModel,
} from '../../lib/onnx/export.js'
import { checkModelFile, deviceUid, manifestPath, readManifest } from '../../lib/onnx/manifest.js'
import { compareDetections } from '../../lib/onnx/parity.js'
import { openOnnx } from '../../lib/onnx/runtime.js'
import { tinyExport } from './tiny-export.js'

t.test('model, manifest and card are written, read back and belong together', async (t) => {
  const out = join(t.testdir(), 'model.onnx')
  const result = await writeModel(tinyExport(out))
  t.notOk(existsSync(manifestPath(out)), 'no manifest before the check')
  t.strictSame(result.inputs, [
    { name: 'image', type: 'uint16', shape: '[N, 1, H, W]' },
    { name: 'imageSize', type: 'int64', shape: '[N, 2]' },
  ])
  t.strictSame(
    result.outputs.map(({ name }) => name),
    ['boxes', 'scores', 'labels', 'imageIndex'],
  )
  const sets = { boxes: [0, 0, 9, 9], scores: [0.5], labels: [0] }
  const same = compareDetections(sets, sets, { scoreThreshold: 0.05, nmsIou: 0.5, maxDetections: 20 })
  const written = await writeManifest(result, parityRecord(same, ['crop-1'], '1.30.0', 'LibTorch 2.13.0 cpu'))
  const manifest = await readManifest(out)
  t.strictSame(manifest, written.manifest)
  t.match(manifest, {
    file: { path: 'model.onnx', bytes: result.bytes, sha256: result.sha256, opset: 17, irVersion: 8 },
    parity: { verified: true, matched: 1, images: ['crop-1'] },
    classes: [{ index: 0, name: 'mass' }],
    input: { normalisedInGraph: true, padValue: 0 },
    output: { scoreFloor: 0.05 },
  })
  await t.resolves(checkModelFile(out, manifest, 17))
  const card = readFileSync(written.cardPath, 'utf8')
  for (const part of [result.sha256, 'not a medical device', 'mean 1000', '1 detections on 1 images agree']) {
    t.ok(card.includes(part), `the card says ${part}`)
  }
  const session = await openOnnx(out, { threads: 1 })
  await session.close()
})

t.test('an unverified export says so', async (t) => {
  const out = join(t.testdir(), 'model.onnx')
  const { cardPath, manifest } = await writeManifest(
    await writeModel(tinyExport(out)),
    unverifiedRecord('--no-verify was given'),
  )
  t.equal(manifest.parity.verified, false)
  t.match(readFileSync(cardPath, 'utf8'), /Not verified: --no-verify was given/)
})

t.test('other bytes, another opset or a damaged manifest are refused', async (t) => {
  const out = join(t.testdir(), 'model.onnx')
  const result = await writeModel(tinyExport(out))
  await t.rejects(readManifest(out), /expected a manifest beside the model/)
  await writeManifest(result, unverifiedRecord('test'))
  const manifest = await readManifest(out)
  await t.rejects(checkModelFile(out, manifest, 18), /expected opset 18, got 17/)
  const bytes = readFileSync(out)
  bytes[bytes.length - 1]! ^= 1
  writeFileSync(out, bytes)
  await t.rejects(checkModelFile(out, manifest, 17), { code: 'ERR_MAMMO_MODEL_MANIFEST', message: /sha256/ })
  writeFileSync(manifestPath(out), '{"schema":')
  await t.rejects(readManifest(out), /expected JSON/)
  writeFileSync(manifestPath(out), JSON.stringify({ ...manifest, input: { ...manifest.input, padMultiple: 'x' } }))
  await t.rejects(readManifest(out), /input\.padMultiple/)
  writeFileSync(manifestPath(out), JSON.stringify({ ...manifest, schema: 'mammo-retinanet/model@9' }))
  await t.rejects(readManifest(out), /schema/)
})

t.test('writing again removes the manifest of the old bytes', async (t) => {
  const out = join(t.testdir(), 'model.onnx')
  await writeManifest(await writeModel(tinyExport(out)), unverifiedRecord('test'))
  await writeModel(tinyExport(out))
  t.notOk(existsSync(manifestPath(out)))
})

t.test('a model takes the place of an older one only when told', async (t) => {
  const folder = t.testdir()
  const out = join(folder, 'model.onnx')
  const older = await writeManifest(await writeModel(tinyExport(out)), unverifiedRecord('older'))
  const bytes = readFileSync(out)
  const written = await writeModel(tinyExport(join(folder, '.model.onnx.unchecked'), { classes: 2 }))
  t.ok(bytes.equals(readFileSync(out)), 'the older model stays')
  t.strictSame(await readManifest(out), older.manifest)
  const placed = await placeModel(written, out)
  t.notOk(existsSync(manifestPath(out)), 'its manifest would describe other bytes')
  await writeManifest(placed, unverifiedRecord('newer'))
  const manifest = await readManifest(out)
  t.match(manifest, { file: { path: 'model.onnx', sha256: written.sha256 }, parity: { reason: 'newer' } })
  await t.resolves(checkModelFile(out, manifest, 17))
  t.strictSame(readdirSync(folder).toSorted(), ['MODEL_CARD.md', 'model.manifest.json', 'model.onnx'])
})

t.test('the same parameters give the same bytes', async (t) => {
  const folder = t.testdir()
  const options = (name: string): WriteModelOptions => tinyExport(join(folder, name))
  const [one, two] = [await writeModel(options('a.onnx')), await writeModel(options('b.onnx'))]
  t.equal(one.sha256, two.sha256)
})

t.test('device UIDs differ with the weights and are valid', async (t) => {
  t.match(deviceUid('a'), /^2\.25\.[1-9]\d{0,38}$/)
  t.not(deviceUid('a'), deviceUid('b'))
  t.equal(deviceUid('a'), deviceUid('a'))
})
