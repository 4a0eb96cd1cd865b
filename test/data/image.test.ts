import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { deflateRawSync } from 'node:zlib'
import t from 'tap'
import { TAGS } from '../../lib/data/dicom/parse.js'
import { readImage, readImageInfo } from '../../lib/data/image.js'
import { encodeGrey16Png } from '../../lib/data/raster.js'
import { buildFile, buildImage, cells, element, type ImageSpec, nest, type Part } from './dicom-builder.js'

const folder = t.testdir()
let count = 0
async function save(bytes: Uint8Array): Promise<string> {
  const path = join(folder, `${count++}.dcm`)
  await writeFile(path, bytes)
  return path
}
const image = async (spec: ImageSpec, options = {}) => readImage(await save(buildImage(spec)), options)
const plain = { rows: 1, columns: 4, values: [0, 1, 2, 4095], bitsStored: 12 }

t.test('the pipeline, step by step', async (t) => {
  const cases: [string, ImageSpec, number[]][] = [
    ['as stored', plain, [0, 1, 2, 4095]],
    ['MONOCHROME1 turns within the stored range', { ...plain, photometric: 'MONOCHROME1' }, [4095, 4094, 4093, 0]],
    [
      'MONOCHROME1 with padding 10000: background 0',
      {
        rows: 1,
        columns: 4,
        values: [10000, 0, 100, 16383],
        bitsStored: 14,
        photometric: 'MONOCHROME1',
        extra: [{ tag: TAGS.paddingValue, vr: 'US', value: 10000 }],
      },
      [0, 16383, 16283, 0],
    ],
    [
      'padding range in either order',
      {
        ...plain,
        values: [0, 30, 31, 40],
        extra: [
          { tag: TAGS.paddingValue, vr: 'US', value: 30 },
          { tag: TAGS.paddingLimit, vr: 'US', value: 0 },
        ],
      },
      [0, 0, 31, 40],
    ],
    ['12 bits at HighBit 15', { ...plain, values: [0x10, 0x1f, 0xfff0, 0xabcd], highBit: 15 }, [1, 1, 4095, 0xabc]],
    ['overlay bits above are dropped', { ...plain, values: [0x1001, 0xf002, 3, 0x8fff] }, [1, 2, 3, 4095]],
    [
      'slope 2, intercept 1',
      {
        ...plain,
        extra: [
          { tag: TAGS.slope, vr: 'DS', value: '2' },
          { tag: TAGS.intercept, vr: 'DS', value: '1' },
        ],
      },
      [1, 3, 5, 8191],
    ],
    [
      'half to even',
      { ...plain, values: [1, 3, 5, 7], extra: [{ tag: TAGS.slope, vr: 'DS', value: '0.5' }] },
      [0, 2, 2, 4],
    ],
    ['signed 12 bit', { ...plain, values: [0x800, 0xfff, 0, 0x7ff], signed: true }, [0, 2047, 2048, 4095]],
    [
      'modality table, then inversion within its values',
      {
        ...plain,
        values: [0, 1, 2, 3],
        bitsStored: 2,
        photometric: 'MONOCHROME1',
        extra: [
          {
            tag: TAGS.modalityLut,
            vr: 'SQ',
            value: [
              [
                { tag: 0x00283002, vr: 'US', value: [4, 0, 16] },
                { tag: 0x00283006, vr: 'OW', value: cells([100, 200, 300, 400], 16) },
              ],
            ],
          },
        ],
      },
      [400, 300, 200, 100],
    ],
    ['8 bit', { rows: 1, columns: 4, values: [0, 1, 254, 255], bitsAllocated: 8 }, [0, 1, 254, 255]],
  ]
  for (const [name, spec, expected] of cases) t.same([...(await image(spec)).pixels], expected, name)
})

t.test('values beyond 16 bits are clamped and counted', async (t) => {
  const { pixels, warnings } = await image({ ...plain, extra: [{ tag: TAGS.slope, vr: 'DS', value: '100' }] })
  t.same([...pixels], [0, 100, 200, 65535])
  t.match(warnings, [{ rule: 'dicom/clamped', message: /^1 pixels/ }])
})

t.test('signed data warns', async (t) => {
  t.match((await image({ ...plain, signed: true })).warnings, [{ rule: 'dicom/signed' }])
})

t.test('header-only reading agrees with decoding', async (t) => {
  const extra: Part[] = [
    { tag: TAGS.viewPosition, vr: 'CS', value: 'MLO' },
    { tag: TAGS.imageLaterality, vr: 'CS', value: 'L' },
    { tag: TAGS.imagerPixelSpacing, vr: 'DS', value: '0.07\\0.07' },
  ]
  const path = await save(buildImage({ ...plain, extra }))
  const info = await readImageInfo(path)
  t.match(info, {
    width: 4,
    height: 1,
    view: 'MLO',
    laterality: 'L',
    spacingMm: [0.07, 0.07],
    spacingSource: 'ImagerPixelSpacing',
    kind: 'presentation',
  })
  const { pixels: _, frame: _f, bits: _b, voi: _v, warnings: _w, ...rest } = await readImage(path)
  const { warnings: _i, ...header } = info
  t.same(rest, header)
})

t.test('the content decides, not the name', async (t) => {
  const path = await save(await encodeGrey16Png(Uint16Array.from([1, 2, 3, 65535]), 4, 1))
  t.match(await readImage(path), { kind: 'raster', transferSyntax: 'image/png', width: 4, bits: 16 })
})

t.test('big endian and deflated', async (t) => {
  const dataset = buildImage(plain).subarray(132)
  const start = dataset.indexOf(Buffer.from('08001600', 'hex'))
  const deflated = buildFile(deflateRawSync(dataset.subarray(start)), '1.2.840.10008.1.2.1.99')
  t.same([...(await readImage(await save(deflated))).pixels], [0, 1, 2, 4095])
})

t.test('acceptance', async (t) => {
  const processing = '1.2.840.10008.5.1.4.1.1.1.2.1'
  const capture = '1.2.840.10008.5.1.4.1.1.7'
  const refuse = async (spec: ImageSpec, rule: string, options = {}) =>
    t.rejects(image(spec, options), { code: 'ERR_MAMMO_SOP_CLASS', details: { rule } }, rule)
  await refuse({ ...plain, sopClass: processing }, 'dicom/processing')
  t.equal((await image({ ...plain, sopClass: processing }, { allowForProcessing: true })).kind, 'processing')
  await refuse({ ...plain, sopClass: capture, modality: 'OT' }, 'dicom/sop-class')
  t.equal((await image({ ...plain, sopClass: capture, modality: 'OT' }, { assumeMammogram: true })).kind, 'vouched')
  const film: Part[] = [
    { tag: TAGS.bodyPart, vr: 'CS', value: 'BREAST' },
    { tag: TAGS.viewPosition, vr: 'CS', value: 'CC' },
  ]
  t.match(await image({ ...plain, sopClass: capture, modality: 'RG', extra: film }), {
    kind: 'vouched',
    view: 'CC',
    flags: ['film'],
  })
  await refuse({ ...plain, extra: [{ tag: TAGS.qualityControl, vr: 'CS', value: 'YES' }] }, 'dicom/skipped')
  await refuse({ ...plain, extra: [{ tag: TAGS.samplesPerPixel, vr: 'US', value: 3 }] }, 'dicom/colour', {
    assumeMammogram: true,
  })
  await refuse({ ...plain, columns: 2, frames: 2 }, 'dicom/multi-frame')
  t.same([...(await image({ ...plain, columns: 2, frames: 2 }, { frame: 1 })).pixels], [2, 4095])
  await refuse({ ...plain, columns: 2, frames: 2, sopClass: '1.2.840.10008.5.1.4.1.1.13.1.3' }, 'dicom/tomosynthesis')
  t.match(await image({ ...plain, extra: [{ tag: TAGS.implant, vr: 'CS', value: 'YES' }] }), { flags: ['implant'] })
})

t.test('bad files end in coded errors', async (t) => {
  const reject = async (name: string, bytes: Uint8Array, code: string) =>
    t.rejects(readImage(await save(bytes)), { code: `ERR_MAMMO_${code}`, exitCode: 3 }, name)
  await reject('short pixel data', buildImage({ ...plain, columns: 5 }), 'PIXEL_DATA')
  await reject('unknown syntax', buildImage({ ...plain, syntax: '1.2.840.10008.1.2.4.100' }), 'TRANSFER_SYNTAX')
  await reject('no rows', buildImage({ ...plain, rows: 0 }), 'PIXEL_DATA')
  await reject('bits', buildImage({ ...plain, bitsStored: 17 }), 'PIXEL_DATA')
  await reject('not DICOM', Buffer.from('hello, this is text'), 'DICOM')
  await reject('too large', buildImage({ ...plain, rows: 65535, columns: 65535 }), 'TOO_LARGE')
  const whole = buildImage(plain)
  const bomb = element({ tag: 0x00080070, vr: 'UT', value: '', length: 0xfffffff0 })
  const at = whole.indexOf(Buffer.from('080060004353', 'hex'))
  await reject('length beyond the file', Buffer.concat([whole.subarray(0, at), bomb, whole.subarray(at)]), 'DICOM')
  await reject('nesting', Buffer.concat([whole.subarray(0, at), nest(70), whole.subarray(at)]), 'TOO_LARGE')
  const nested = await save(Buffer.concat([whole.subarray(0, at), nest(60), whole.subarray(at)]))
  t.equal((await readImage(nested)).width, 4, '60 levels are followed')
  await t.rejects(readImage(join(folder, 'absent.dcm')), { code: 'ERR_MAMMO_IMAGE' })
})

t.test('every prefix of a file is decoded or refused', async (t) => {
  const whole = buildImage({
    ...plain,
    extra: [{ tag: TAGS.viewCode, vr: 'SQ', value: [[{ tag: 0x00080100, vr: 'SH', value: 'R-10226' }]] }],
  })
  const path = join(folder, 'prefix.dcm')
  let refused = 0
  for (let length = 0; length < whole.length; length += 3) {
    await writeFile(path, whole.subarray(0, length))
    try {
      await readImage(path)
    } catch (error) {
      refused++
      t.match((error as { code?: string }).code, /^ERR_MAMMO_(DICOM|PIXEL_DATA|SOP_CLASS|IMAGE)$/, `${length} bytes`)
    }
  }
  t.equal(refused, Math.ceil(whole.length / 3), 'none passes as whole')
})

t.test('no text of the patient leaves the reader', async (t) => {
  const canary = 'CANARY^SECRET'
  const texts = [0x00100010, 0x00100030, 0x00080050, 0x00080080, 0x00081030, 0x00104000].map((tag) => ({
    tag,
    vr: 'LO',
    value: canary,
  }))
  const good = JSON.stringify(await image({ ...plain, extra: texts }), (key, value) => (key === 'pixels' ? [] : value))
  t.notMatch(good, canary)
  for (const spec of [
    { ...plain, columns: 9 },
    { ...plain, sopClass: canary },
    { ...plain, photometric: canary },
  ]) {
    const error = await image({ ...spec, extra: texts }).catch((error: unknown) => error)
    t.ok(error instanceof Error)
    const { message, details, fix } = error as Error & { details: unknown; fix: string }
    t.notMatch(JSON.stringify({ message, details, fix }), canary)
  }
  const withId = await image(
    { ...plain, extra: [{ tag: TAGS.patientId, vr: 'LO', value: canary }] },
    { hashKey: 'site' },
  )
  t.match(withId.patient, /^h:[0-9a-f]{16}$/)
})
