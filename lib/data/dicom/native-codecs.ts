// Runs one codec of dcmjs-codecs (WebAssembly: libjpeg, CharLS, OpenJPEG, OpenJPH) on one checked frame. The only importer of that
// package; meant for a worker thread (codec-worker.ts), because a decoder may take seconds or trap. Its Transcoder is not used: it
// refuses syntaxes that its codecs decode, and throws on unrelated dates.
import dcmjsCodecs from 'dcmjs-codecs'

export interface CodecJob {
  codec: 'jpeg' | 'jpeg-ls' | 'jpeg-2000' | 'htj2k'
  /** The stream; its size, depth and sign are those below (streams.ts has checked it). */
  stream: Uint8Array
  width: number
  height: number
  precision: number
  signed: boolean
}

/** Above this many pixels the module is dropped after use: its memory never shrinks. */
const KEEP_PIXELS = 4_000_000

const { Context, NativeCodecs, log } = dcmjsCodecs

/** What the JPEG decoder says of a stream that it fills up or guesses; only its messages show it. Stray bytes do no harm. */
const DAMAGE = /corrupt|premature|inconsistent/i
const HARMLESS = /extraneous bytes/i

let damage: string | undefined

/** Little-endian cells of 1 byte (precision to 8) or 2. Throws an untyped error when the decoder fails. */
export async function runCodec(job: CodecJob): Promise<Uint8Array> {
  const { codec, stream, width, height, precision, signed } = job
  if (!NativeCodecs.isInitialized()) await start()
  damage = undefined
  const bitsAllocated = precision <= 8 ? 8 : 16
  const context = new Context({
    width,
    height,
    bitsAllocated,
    bitsStored: precision,
    samplesPerPixel: 1,
    pixelRepresentation: signed ? 1 : 0,
    planarConfiguration: 0,
    photometricInterpretation: 'MONOCHROME2',
    encodedBuffer: stream,
  })
  try {
    const decoded = decoders[codec](context)
    if (damage !== undefined) throw new Error(damage)
    const cells = decoded.getDecodedBuffer()
    const expected = (width * height * bitsAllocated) / 8
    if (decoded.getBitsAllocated() !== bitsAllocated || cells?.length !== expected) {
      throw new Error(`expected ${expected} bytes, got ${cells?.length} with ${decoded.getBitsAllocated()} bits`)
    }
    if (width * height > KEEP_PIXELS) NativeCodecs.release()
    return cells
  } catch (error) {
    // A decoder that threw leaves its memory in an unknown state.
    NativeCodecs.release()
    throw error
  }
}

/** Messages are listened to, never printed: they would reach the user's output. */
async function start(): Promise<void> {
  log.methodFactory =
    () =>
    (...words: unknown[]) => {
      const text = words.join(' ')
      if (DAMAGE.test(text) && !HARMLESS.test(text)) damage ??= text
    }
  log.setLevel('info', false)
  await NativeCodecs.initializeAsync({ logCodecsInfo: true })
}

type Decoder = (context: InstanceType<typeof Context>) => InstanceType<typeof Context>

const decoders: Record<CodecJob['codec'], Decoder> = {
  jpeg: (context) => NativeCodecs.decodeJpeg(context, { convertColorspaceToRgb: false }),
  'jpeg-ls': (context) => NativeCodecs.decodeJpegLs(context),
  'jpeg-2000': (context) => NativeCodecs.decodeJpeg2000(context),
  htj2k: (context) => NativeCodecs.decodeHtJpeg2000(context),
}
