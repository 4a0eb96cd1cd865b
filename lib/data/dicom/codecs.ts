// Transfer syntaxes, and the decoding of one frame to little-endian cells. Streams are checked here before a decoder runs; decoders
// run in one worker thread per thread, with a time limit, so that a hostile stream can neither hang nor end the process.
// Which syntax needs which decoder: datasets spec 3.1.
import { Worker } from 'node:worker_threads'
import { DataError } from '../../errors.js'
import type { CodecReply } from './codec-worker.js'
import type { CodecJob } from './native-codecs.js'
import { decodeRle } from './rle.js'
import { checkJpeg, checkJpeg2000, type StreamInfo } from './streams.js'

export interface TransferSyntax {
  name: string
  codec: 'native' | 'rle' | CodecJob['codec']
  /** JPEG: frame markers that the syntax allows. */
  markers?: readonly number[]
  /** Values may have changed by compression. */
  lossy?: boolean
}

const PREFIX = '1.2.840.10008.1.2'

/** Every syntax that is read, by what follows 1.2.840.10008.1.2. */
const syntaxes: Record<string, TransferSyntax> = {
  '': { name: 'Implicit VR Little Endian', codec: 'native' },
  '.1': { name: 'Explicit VR Little Endian', codec: 'native' },
  '.1.99': { name: 'Deflated Explicit VR Little Endian', codec: 'native' },
  '.2': { name: 'Explicit VR Big Endian', codec: 'native' },
  '.4.50': { name: 'JPEG Baseline', codec: 'jpeg', markers: [0xc0, 0xc1, 0xc2], lossy: true },
  '.4.51': { name: 'JPEG Extended', codec: 'jpeg', markers: [0xc0, 0xc1, 0xc2], lossy: true },
  '.4.57': { name: 'JPEG Lossless', codec: 'jpeg', markers: [0xc3] },
  '.4.70': { name: 'JPEG Lossless SV1', codec: 'jpeg', markers: [0xc3] },
  '.4.80': { name: 'JPEG-LS Lossless', codec: 'jpeg-ls', markers: [0xf7] },
  '.4.81': { name: 'JPEG-LS Near-Lossless', codec: 'jpeg-ls', markers: [0xf7], lossy: true },
  '.4.90': { name: 'JPEG 2000 Lossless', codec: 'jpeg-2000' },
  '.4.91': { name: 'JPEG 2000', codec: 'jpeg-2000', lossy: true },
  '.4.201': { name: 'HTJ2K Lossless', codec: 'htj2k' },
  '.4.202': { name: 'HTJ2K Lossless RPCL', codec: 'htj2k' },
  '.4.203': { name: 'HTJ2K', codec: 'htj2k', lossy: true },
  '.5': { name: 'RLE Lossless', codec: 'rle' },
}

/** Throws ERR_MAMMO_TRANSFER_SYNTAX with the UID. */
export function transferSyntaxOf(uid: string, where: string): TransferSyntax {
  const syntax = uid.startsWith(PREFIX) ? syntaxes[uid.slice(PREFIX.length)] : undefined
  if (syntax !== undefined) return syntax
  throw new DataError('TRANSFER_SYNTAX', `expected a transfer syntax that is supported, got ${uid}`, {
    where,
    fix: 'convert the file, for instance to Explicit VR Little Endian',
    details: { transferSyntax: uid },
  })
}

/** What the header of the file says about a frame. */
export interface FrameShape {
  width: number
  height: number
  bitsAllocated: 8 | 16
}

export interface DecodedFrame {
  /** Cells of 1 or 2 bytes, little endian. */
  cells: Uint8Array
  bytesPerCell: 1 | 2
  /** What the stream says; undefined for RLE. */
  stream: StreamInfo | undefined
}

/**
 * Decodes a compressed frame. Throws ERR_MAMMO_PIXEL_DATA when the stream is damaged, incomplete or of another size than
 * the header says, and ERR_MAMMO_SOP_CLASS (dicom/colour) when it has several components.
 */
export async function decodeFrame(
  bytes: Uint8Array,
  syntax: TransferSyntax,
  shape: FrameShape,
  where: string,
): Promise<DecodedFrame> {
  const { width, height, bitsAllocated } = shape
  const { codec } = syntax
  if (codec === 'rle') {
    const bytesPerCell = bitsAllocated === 8 ? 1 : 2
    return { cells: decodeRle(bytes, width * height, bytesPerCell, where), bytesPerCell, stream: undefined }
  }
  if (codec === 'native') throw new DataError('PIXEL_DATA', 'expected native pixel data, got fragments', broken(where))
  const jpeg = codec === 'jpeg' || codec === 'jpeg-ls'
  const checked = jpeg ? { ...checkJpeg(bytes, where), codestream: bytes } : checkJpeg2000(bytes, where)
  const { codestream, ...stream } = checked
  if (stream.components !== 1) throw colour(`${stream.components} components`, where)
  if (stream.width !== width || stream.height !== height) {
    throw new DataError(
      'PIXEL_DATA',
      `expected a stream of ${width}x${height} pixels as in the header, got ${stream.width}x${stream.height}`,
      broken(where),
    )
  }
  if (syntax.markers !== undefined && !syntax.markers.includes(stream.frameMarker)) {
    throw new DataError(
      'PIXEL_DATA',
      `expected a ${syntax.name} stream, got a frame marker ff${stream.frameMarker.toString(16)}`,
      broken(where),
    )
  }
  const most = jpeg ? bitsAllocated : 16
  if (stream.precision < 1 || stream.precision > most) {
    throw new DataError('PIXEL_DATA', `expected a stream of 1 to ${most} bits, got ${stream.precision}`, broken(where))
  }
  const { precision, signed } = stream
  const cells = await runInWorker({ codec, stream: codestream, width, height, precision, signed }, where)
  return { cells, bytesPerCell: precision <= 8 ? 1 : 2, stream }
}

/** Error of an image that is not grey. */
export function colour(got: string, where: string): DataError {
  return new DataError('SOP_CLASS', `expected a grey image, got ${got}`, {
    where,
    fix: 'colour pictures are not mammograms: leave the file out',
    details: { rule: 'dicom/colour' },
  })
}

function broken(where: string) {
  return { where, fix: 'the file is damaged: get it from its source again', details: { rule: 'dicom/stream' } }
}

let worker: Worker | undefined
let last: Promise<unknown> = Promise.resolve()

/** One job at a time; a job that takes too long ends the thread, and the next one gets a new one. */
function runInWorker(job: CodecJob, where: string): Promise<Uint8Array> {
  const result = last.then(() => runJob(job, where))
  last = result.catch(() => undefined)
  return result
}

async function runJob(job: CodecJob, where: string): Promise<Uint8Array> {
  worker ??= startWorker()
  const current = worker
  // A thread that waits must not keep the process alive, one that works must.
  current.ref()
  // A copy, because the stream is a view of the file and travels with its memory.
  const stream = new Uint8Array(job.stream)
  const reply = await new Promise<CodecReply | 'timeout' | 'lost'>((resolve) => {
    const limit = 20_000 + (2_000 * job.width * job.height) / 1e6
    const timer = setTimeout(() => finish('timeout'), limit)
    const lost = () => finish('lost')
    const finish = (value: CodecReply | 'timeout' | 'lost') => {
      clearTimeout(timer)
      current.off('message', finish).off('error', lost).off('exit', lost)
      resolve(value)
    }
    current.on('message', finish).on('error', lost).on('exit', lost)
    current.postMessage({ ...job, stream }, [stream.buffer])
  })
  if (typeof reply === 'object') {
    current.unref()
    if ('cells' in reply) return reply.cells
  } else {
    worker = undefined
    await current.terminate()
  }
  const what = reply === 'timeout' ? 'the end of decoding within its time limit' : 'a stream that can be decoded'
  throw new DataError('PIXEL_DATA', `expected ${what}`, broken(where))
}

function startWorker(): Worker {
  const started = new Worker(new URL('./codec-worker.js', import.meta.url), { stdout: true, stderr: true })
  // What the codecs print is not for the console; a listener keeps an error from ending the process.
  started.on('error', () => undefined)
  return started
}
