// Streams made by the encoders of dcmjs-codecs: every predictor of JPEG Lossless, JPEG-LS, JPEG 2000, HTJ2K. Then each is cut and changed.
import dcmjsCodecs from 'dcmjs-codecs'
import t from 'tap'
import { decodeFrame, transferSyntaxOf } from '../../../lib/data/dicom/codecs.js'
import { cells } from '../dicom-builder.js'

const { Context, NativeCodecs, log } = dcmjsCodecs
log.setLevel('silent', false)
const [width, height] = [37, 23]
const values = Uint16Array.from({ length: width * height }, (_, i) => (i * 2654435761) >>> 20)
const shape = { width, height, bitsAllocated: 16 as const }

type Encoded = { getEncodedBuffer(): Uint8Array | undefined }
async function encode(run: (context: InstanceType<typeof Context>) => Encoded): Promise<Uint8Array> {
  if (!NativeCodecs.isInitialized()) await NativeCodecs.initializeAsync()
  const context = new Context({
    width,
    height,
    bitsAllocated: 16,
    bitsStored: 12,
    samplesPerPixel: 1,
    pixelRepresentation: 0,
    planarConfiguration: 0,
    photometricInterpretation: 'MONOCHROME2',
    decodedBuffer: cells(values, 16),
  })
  return new Uint8Array(run(context).getEncodedBuffer()!)
}

const streams: [string, string, () => Promise<Uint8Array>][] = [
  ...[1, 2, 3, 4, 5, 6, 7].map((predictor): [string, string, () => Promise<Uint8Array>] => [
    `JPEG Lossless, predictor ${predictor}`,
    '.4.57',
    () => encode((context) => NativeCodecs.encodeJpeg(context, { lossy: false, predictor, pointTransform: 0 })),
  ]),
  ['JPEG-LS', '.4.80', () => encode((context) => NativeCodecs.encodeJpegLs(context, { lossy: false }))],
  ['JPEG 2000', '.4.90', () => encode((context) => NativeCodecs.encodeJpeg2000(context, { lossy: false }))],
  ['HTJ2K', '.4.201', () => encode((context) => NativeCodecs.encodeHtJpeg2000(context, { lossy: false }))],
]

t.test('every lossless syntax returns the values; cut streams are refused', async (t) => {
  for (const [name, suffix, make] of streams) {
    const syntax = transferSyntaxOf(`1.2.840.10008.1.2${suffix}`, 'x')
    const stream = await make()
    const { cells: decoded, bytesPerCell } = await decodeFrame(stream, syntax, shape, 'x')
    t.equal(bytesPerCell, 2)
    t.same([...new Uint16Array(decoded.buffer, decoded.byteOffset, values.length)], [...values], name)
    for (const end of [0, 1, 10, 100, stream.length >> 1, stream.length - 4]) {
      await t.rejects(
        decodeFrame(stream.subarray(0, end), syntax, shape, 'x'),
        { code: 'ERR_MAMMO_PIXEL_DATA', where: 'x' },
        `${name} cut to ${end}`,
      )
    }
    await t.rejects(decodeFrame(stream, syntax, { ...shape, width: 36 }, 'x'), {
      code: 'ERR_MAMMO_PIXEL_DATA',
      message: /37x23/,
    })
  }
})

t.test('a JPEG stream that is cut and closed again is refused', async (t) => {
  const stream = await streams[0]![2]()
  const closed = Buffer.concat([stream.subarray(0, (stream.length * 3) >> 2), Buffer.from([0xff, 0xd9])])
  const syntax = transferSyntaxOf('1.2.840.10008.1.2.4.57', 'x')
  await t.rejects(decodeFrame(closed, syntax, shape, 'x'), { code: 'ERR_MAMMO_PIXEL_DATA' })
})

t.test('the stream must be of the syntax', async (t) => {
  const stream = await streams[0]![2]()
  await t.rejects(decodeFrame(stream, transferSyntaxOf('1.2.840.10008.1.2.4.50', 'x'), shape, 'x'), {
    code: 'ERR_MAMMO_PIXEL_DATA',
  })
  await t.rejects(decodeFrame(stream, transferSyntaxOf('1.2.840.10008.1.2.4.90', 'x'), shape, 'x'), {
    code: 'ERR_MAMMO_PIXEL_DATA',
  })
  await t.rejects(
    decodeFrame(stream, transferSyntaxOf('1.2.840.10008.1.2.4.57', 'x'), { ...shape, bitsAllocated: 8 }, 'x'),
    { code: 'ERR_MAMMO_PIXEL_DATA' },
  )
})

t.test('unknown syntaxes are named', async (t) => {
  t.throws(() => transferSyntaxOf('1.2.840.10008.1.2.4.102', 'x'), {
    code: 'ERR_MAMMO_TRANSFER_SYNTAX',
    message: /\.4\.102/,
  })
})

t.test('a decoder that fails does not spoil the next frame', async (t) => {
  const syntax = transferSyntaxOf('1.2.840.10008.1.2.4.90', 'x')
  const stream = await encode((context) => NativeCodecs.encodeJpeg2000(context, { lossy: false }))
  const damaged = stream.slice()
  damaged.fill(0xab, 60, 90)
  await decodeFrame(damaged, syntax, shape, 'x').catch((error: { code?: string }) =>
    t.equal(error.code, 'ERR_MAMMO_PIXEL_DATA'),
  )
  const { cells: decoded } = await decodeFrame(stream, syntax, shape, 'x')
  t.same([...new Uint16Array(decoded.buffer, decoded.byteOffset, values.length)], [...values])
})
