import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { encodeGrey16Png } from '../../lib/data/raster.js'
import { readSource } from '../../lib/predict/read-source.js'
import { testImage } from '../onnx/tiny-model.js'

const [height, width] = [40, 30]
const pixels = testImage(height, width)
const plain = { threshold: 0.1, read: {} }

t.test('a file, its bytes and its pixels are the same image', async (t) => {
  const png = await encodeGrey16Png(pixels, width, height)
  const path = join(t.testdir(), 'Some Name.png')
  writeFileSync(path, png)
  const sha256 = createHash('sha256').update(png).digest('hex')
  const temporary = t.testdirName
  process.env['TMPDIR'] = temporary
  t.equal(tmpdir(), temporary)
  t.strictSame(await readSource({ ...plain, source: path }), {
    pixels,
    width,
    height,
    id: 'Some Name',
    sha256,
    spacingMm: null,
    warnings: [],
  })
  t.match(await readSource({ ...plain, source: { bytes: png, id: 'from bytes' } }), {
    pixels,
    id: 'from bytes',
    sha256,
  })
  t.match(await readSource({ ...plain, source: { bytes: png }, id: 'given' }), { id: 'given' })
  await t.rejects(readSource({ ...plain, source: { bytes: Buffer.from('no image at all') } }), { name: 'DataError' })
  t.strictSame(readdirSync(temporary), ['Some Name.png'], 'no temporary folder is left')
  const raw = await readSource({ ...plain, source: { data: pixels, height, width, spacingMm: [0.1, 0.1] } })
  t.match(raw, {
    id: 'image',
    spacingMm: [0.1, 0.1],
    sha256: createHash('sha256').update(Buffer.from(pixels.buffer)).digest('hex'),
  })
})

t.test('what is no image or not of its size is a data error', async (t) => {
  const path = join(t.testdir({ 'x.png': readFileSync(new URL(import.meta.url)) }), 'x.png')
  await t.rejects(readSource({ ...plain, source: path }), { name: 'DataError' })
  await t.rejects(readSource({ ...plain, source: join(path, 'missing') }), { code: 'ERR_MAMMO_IMAGE' })
  for (const [data, h, w] of [
    [pixels, 40, 31],
    [pixels, 0, 0],
    [new Float32Array(1200), 40, 30],
    [pixels, 1200.5, 1],
  ] as const) {
    await t.rejects(readSource({ ...plain, source: { data: data as Uint16Array, height: h, width: w } }), {
      code: 'ERR_MAMMO_IMAGE',
    })
  }
})
