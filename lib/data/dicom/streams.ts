// Reads the headers of compressed image streams and checks that they are whole, before a decoder sees them: decoders follow the
// stream's own size and fill up what is missing without an error. Decodes nothing. Marker structure: ITU-T T.81 annex B (JPEG),
// T.87 annex C (JPEG-LS), T.800 annex A (JPEG 2000), T.814 (HTJ2K); DICOM PS3.5 annex G for RLE is in rle.ts.
import { DataError } from '../../errors.js'

export interface StreamInfo {
  width: number
  height: number
  components: number
  /** Bits of a sample. */
  precision: number
  signed: boolean
  /** JPEG: number of the start-of-frame marker, 0xc0..0xcf or 0xf7. */
  frameMarker: number
}

const SOI = 0xd8
const EOI = 0xd9
const SOS = 0xda

/** Header of a JPEG or JPEG-LS stream that is complete to its end marker. Throws ERR_MAMMO_PIXEL_DATA. */
export function checkJpeg(bytes: Uint8Array, where: string): StreamInfo {
  if (bytes[0] !== 0xff || bytes[1] !== SOI) throw broken('a JPEG stream that begins with SOI', where)
  let info: StreamInfo | undefined
  let scans = 0
  let at = 2
  for (;;) {
    if (bytes[at] !== 0xff) throw broken('a marker between the segments of a JPEG stream', where)
    while (bytes[at] === 0xff) at++
    const marker = bytes[at]
    at++
    if (marker === undefined) throw broken('a JPEG stream with an end marker, got its end', where)
    if (marker === EOI) break
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) continue
    const length = (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0)
    if (length < 2 || at + length > bytes.length) throw broken('a JPEG stream with whole segments, got its end', where)
    if (isFrame(marker)) {
      if (info !== undefined) throw broken('one frame in a JPEG stream, got two', where)
      if (length < 8) throw broken('a JPEG frame header of at least 8 bytes', where)
      info = {
        precision: bytes[at + 2]!,
        height: bytes[at + 3]! * 256 + bytes[at + 4]!,
        width: bytes[at + 5]! * 256 + bytes[at + 6]!,
        components: bytes[at + 7]!,
        signed: false,
        frameMarker: marker,
      }
    }
    at += length
    if (marker === SOS) {
      if (info === undefined) throw broken('a JPEG frame header before the first scan', where)
      scans++
      at = scanEnd(bytes, at, info.frameMarker === 0xf7)
    }
  }
  if (info === undefined || scans === 0) throw broken('a JPEG stream with a frame and a scan', where)
  return info
}

/** SOF0..SOF15 without DHT, JPG and DAC, and SOF55 of JPEG-LS. */
function isFrame(marker: number): boolean {
  return marker === 0xf7 || (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc)
}

/** The next marker behind entropy-coded data. JPEG stuffs a zero byte behind 0xff, JPEG-LS a zero bit. */
function scanEnd(bytes: Uint8Array, start: number, lossless: boolean): number {
  let at = start
  for (;;) {
    at = bytes.indexOf(0xff, at)
    if (at < 0) return bytes.length
    const next = bytes[at + 1] ?? 0
    const stuffed = lossless ? next < 0x80 : next === 0 || (next >= 0xd0 && next <= 0xd7)
    if (!stuffed && next !== 0xff) return at
    at += stuffed ? 2 : 1
  }
}

/** Header of a JPEG 2000 or HTJ2K stream whose tile parts and end marker are present. Throws ERR_MAMMO_PIXEL_DATA. */
export function checkJpeg2000(stream: Uint8Array, where: string): StreamInfo & { codestream: Uint8Array } {
  const codestream = unbox(stream, where)
  const view = new DataView(codestream.buffer, codestream.byteOffset, codestream.byteLength)
  if (codestream.length < 46 || view.getUint32(0) !== 0xff4fff51) {
    throw broken('a JPEG 2000 stream that begins with its size', where)
  }
  const width = view.getUint32(8) - view.getUint32(16)
  const height = view.getUint32(12) - view.getUint32(20)
  const components = view.getUint16(40)
  const depth = view.getUint8(42)
  let at = 4 + view.getUint16(4)
  let tileParts = 0
  for (;;) {
    if (at + 2 > codestream.length) throw broken('a JPEG 2000 stream with an end marker, got its end', where)
    const marker = view.getUint16(at)
    if (marker === 0xffd9) break
    if (marker < 0xff00) throw broken('a marker between the parts of a JPEG 2000 stream', where)
    if (at + 4 > codestream.length) throw broken('a JPEG 2000 stream with whole segments, got its end', where)
    if (marker !== 0xff90) {
      at += 2 + view.getUint16(at + 2)
      continue
    }
    if (at + 12 > codestream.length) throw broken('a JPEG 2000 stream with whole tile parts, got its end', where)
    const length = view.getUint32(at + 6)
    tileParts++
    if (length === 0) {
      // The last tile part may run to the end marker.
      at = endOfCodestream(codestream, at)
      if (at < 0) throw broken('a JPEG 2000 stream with an end marker, got its end', where)
    } else {
      if (length < 14 || at + length > codestream.length) throw broken('whole tile parts in a JPEG 2000 stream', where)
      at += length
    }
  }
  if (tileParts === 0) throw broken('a JPEG 2000 stream with tile parts', where)
  return { width, height, components, precision: (depth & 0x7f) + 1, signed: depth >= 0x80, frameMarker: 0, codestream }
}

/** Position of the end marker: behind it at most padding. */
function endOfCodestream(bytes: Uint8Array, from: number): number {
  let end = bytes.length
  while (end > from && bytes[end - 1] === 0) end--
  return bytes[end - 2] === 0xff && bytes[end - 1] === 0xd9 ? end - 2 : -1
}

/** The codestream of a JP2 file; a bare codestream stays as it is. */
function unbox(bytes: Uint8Array, where: string): Uint8Array {
  if (bytes[0] === 0xff) return bytes
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  while (at + 8 <= bytes.length) {
    const length = view.getUint32(at)
    const type = view.getUint32(at + 4)
    const header = length === 1 ? 16 : 8
    if (at + header > bytes.length) break
    const size = length === 1 ? Number(view.getBigUint64(at + 8)) : length === 0 ? bytes.length - at : length
    if (size < header || at + size > bytes.length) break
    if (type === 0x6a703263) return bytes.subarray(at + header, at + size)
    at += size
  }
  throw broken('a JPEG 2000 stream', where)
}

function broken(expected: string, where: string): DataError {
  return new DataError('PIXEL_DATA', `expected ${expected}`, {
    where,
    fix: 'the file is damaged: get it from its source again',
    details: { rule: 'dicom/stream' },
  })
}
