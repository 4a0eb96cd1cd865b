// Every file of GOLDEN.json decodes to the exact integers (datasets spec 8.1, 8.2). The table of files, syntaxes and results is printed.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import t from 'tap'
import { parseDicom } from '../../lib/data/dicom/parse.js'
import { pixelShape, readStored } from '../../lib/data/dicom/pixels.js'
import { readImage } from '../../lib/data/image.js'
import { dataPath, withoutData } from '../data-folder.js'

interface Golden {
  gdcm_sha256: string
  shape: number[]
  dtype: 'uint8' | 'int8' | 'uint16' | 'int16'
}

interface Stored {
  values: Uint16Array
  syntax: string
  overshoot: number
  shape: number[]
}

async function stored(name: string): Promise<Stored> {
  const file = await parseDicom(await readFile(dataPath('dicom', name)), name)
  const shape = pixelShape(file)
  const size = shape.width * shape.height
  const values = new Uint16Array(size * shape.frames)
  let overshoot = 0
  for (let frame = 0; frame < shape.frames; frame++) {
    const result = await readStored(file, shape, frame)
    overshoot += result.overshoot
    values.set(result.values, frame * size)
  }
  const { frames, height, width } = shape
  return {
    values,
    overshoot,
    syntax: file.scan.transferSyntax,
    shape: frames > 1 ? [frames, height, width] : [height, width],
  }
}

const hash = (values: Uint16Array, dtype: Golden['dtype']) => {
  const bytes = dtype.endsWith('8') ? Uint8Array.from(values) : new Uint8Array(values.buffer)
  return createHash('sha256').update(bytes).digest('hex')
}
const largest = (a: Uint16Array, b: Uint16Array) =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(signed(value) - signed(b[i]!))), 0)
const signed = (value: number) => (value << 16) >> 16

t.test('GOLDEN.json', { skip: withoutData('dicom', 'GOLDEN.json') }, async (t) => {
  const golden = JSON.parse(readFileSync(dataPath('dicom', 'GOLDEN.json'), 'utf8')) as Record<string, Golden>
  const results = new Map<string, Stored>()
  for (const [name, { gdcm_sha256: expected, dtype, shape }] of Object.entries(golden)) {
    const result = await stored(name)
    results.set(name, result)
    let { values } = result
    if (name === 'wg04/RG3_JPLY.dcm') {
      // The hash has the 8 values beyond 10 bits wrapped to 0; ours are clamped to 1023.
      const reference = results.get('wg04/RG3_JPLL.dcm') ?? (await stored('wg04/RG3_JPLL.dcm'))
      t.equal(result.overshoot, 8)
      t.equal(largest(values, reference.values), 48, 'largest difference to the lossless file')
      values = await wrapped(name, values)
    }
    const same = hash(values, dtype) === expected
    t.ok(same, name)
    t.same(result.shape, shape, `shape of ${name}`)
    t.comment(`${name}  ${result.syntax}  ${same ? 'equal' : 'DIFFERENT'}`)
  }
  for (const image of ['CT1', 'MR4', 'NM1', 'RG3', 'XA1']) {
    const reference = results.get(`wg04/${image}_UNC.dcm`)?.values
    if (reference === undefined) continue
    for (const form of ['RLE', 'JPLL', 'JLSL', 'J2KR']) {
      const other = results.get(`wg04/${image}_${form}.dcm`)
      if (other !== undefined) t.equal(largest(other.values, reference), 0, `${image} ${form} equals UNC`)
    }
    const near = results.get(`wg04/${image}_JLSN.dcm`)
    if (near !== undefined) t.ok(largest(near.values, reference) <= 4, `${image} JLSN within 4`)
  }
})

/** Undoes the clamping where the clamped values are: they are the ones the hash has as 0. */
async function wrapped(name: string, values: Uint16Array): Promise<Uint16Array> {
  const file = await parseDicom(await readFile(dataPath('dicom', name)), name)
  const { decodeFrame, transferSyntaxOf } = await import('../../lib/data/dicom/codecs.js')
  const { joinFragments } = await import('../../lib/data/dicom/fragments.js')
  const shape = pixelShape(file)
  const stream = joinFragments(file.scan.pixels!.fragments!, file.scan.data)
  const { cells } = await decodeFrame(stream, transferSyntaxOf(file.scan.transferSyntax, name), shape, name)
  const view = new DataView(cells.buffer, cells.byteOffset)
  return values.map((_, i) => view.getUint16(2 * i, true) & 1023)
}

t.test('equal among themselves', { skip: withoutData('dicom', 'pydicom') }, async (t) => {
  const group = async (names: string[], low: number, high: number) => {
    const [first, ...rest] = await Promise.all(names.map(stored))
    const values = [...first!.values].map(signed)
    t.equal(
      values.reduce((a, b) => Math.min(a, b)),
      low,
      `minimum of ${names[0]}`,
    )
    t.equal(
      values.reduce((a, b) => Math.max(a, b)),
      high,
      `maximum of ${names[0]}`,
    )
    for (const [n, other] of rest.entries()) t.equal(largest(other.values, first!.values), 0, names[n + 1]!)
  }
  const small = ['', '_RLE', '_bigendian', '_expb', '_implicit', '_jp2klossless', '_jpeg_ls_lossless', '_padded']
  await group(
    small.map((form) => `pydicom/MR_small${form}.dcm`),
    127,
    2145,
  )
  const ct = [
    'fragmented_no_bot_jpeg_lossless.57',
    'fragmented_no_bot_jpeg_lossless.70',
    'fragmented_no_bot_jpeg_ls.80',
    'not_fragmented_bot_jpeg_ls.80',
    'not_fragmented_no_bot_jpeg_ls.80',
    'not_fragmented_bot_rle',
    'not_fragmented_no_bot_rle',
  ]
  await group(
    ct.map((form) => `dicomParser/CT0012.${form}.dcm`),
    0,
    1196,
  )
  const clunie = [
    'wg04/CT1_UNC.dcm',
    'dicomParser/CT1_UNC.not_fragmented_bot_jpeg_ls.80.dcm',
    'dicomParser/CT1_UNC.not_fragmented_no_bot_jpeg_ls.80.dcm',
    'fo-dicom/D_CLUNIE_CT1_RLE_FRAGS.dcm',
  ]
  const [reference, ...others] = await Promise.all(clunie.map(stored))
  for (const [n, other] of others.entries()) t.equal(largest(other.values, reference!.values), 0, clunie[n + 1]!)
  for (const [a, b] of [
    ['pydicom/JPEG2000.dcm', 'wg04/NM1_J2KI.dcm'],
    ['pydicom/JPEG-lossy.dcm', 'wg04/NM1_JPLY.dcm'],
  ] as const) {
    t.equal(largest((await stored(a)).values, (await stored(b)).values), 0, a)
  }
})

t.test('the two mammograms', { skip: withoutData('dicom', 'mg') }, async (t) => {
  const ge = await readImage(dataPath('dicom', 'mg', 'fo-dicom_GH133.dcm'))
  t.match(ge, {
    height: 3062,
    width: 2394,
    laterality: 'R',
    view: 'MLO',
    spacingSource: 'ImagerPixelSpacing',
    kind: 'presentation',
  })
  t.ok(Math.abs(ge.spacingMm![0] - 0.09409) < 1e-5)
  t.equal(
    ge.pixels.reduce((a, b) => Math.max(a, b)),
    3471,
  )
  t.equal(
    ge.pixels.reduce((least, value) => (value > 0 ? Math.min(least, value) : least), 65535) > 30,
    true,
    'padding 0..30 is 0',
  )
  const film = await readImage(dataPath('dicom', 'mg', 'WG04_MG1_J2KI.dcm'))
  t.match(film, {
    height: 4664,
    width: 3064,
    laterality: 'L',
    view: 'MLO',
    spacingMm: [0.05, 0.05],
    flags: ['film', 'lossy'],
  })
})
