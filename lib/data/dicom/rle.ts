// Decodes DICOM RLE frames of one sample per pixel: byte planes, most significant first, each packed by the PackBits rule
// (PS3.5 annex G). Written here because a damaged frame must be an error: every plane has to expand to exactly its size.
import { DataError } from '../../errors.js'

/** Little-endian cells of `bytesPerCell` bytes. Throws ERR_MAMMO_PIXEL_DATA. */
export function decodeRle(bytes: Uint8Array, pixels: number, bytesPerCell: number, where: string): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < 64) throw broken('a header of 64 bytes', where)
  const segments = view.getUint32(0, true)
  if (segments !== bytesPerCell) throw broken(`${bytesPerCell} segments, got ${segments}`, where)
  const cells = new Uint8Array(pixels * bytesPerCell)
  for (let segment = 0; segment < segments; segment++) {
    const start = view.getUint32(4 + 4 * segment, true)
    const end = segment + 1 < segments ? view.getUint32(8 + 4 * segment, true) : bytes.length
    if (start < 64 || end < start || end > bytes.length) throw broken('segments inside the frame', where)
    unpack(bytes, start, end, cells, bytesPerCell - 1 - segment, bytesPerCell, where)
  }
  return cells
}

/** Expands one plane into every `stride`-th byte of `cells`. */
function unpack(
  bytes: Uint8Array,
  start: number,
  end: number,
  cells: Uint8Array,
  first: number,
  stride: number,
  where: string,
): void {
  let at = start
  let to = first
  while (to < cells.length) {
    if (at >= end) throw broken('segments that fill the image, got the end of one', where)
    const control = bytes[at++]!
    if (control === 128) continue
    const count = control < 128 ? control + 1 : 257 - control
    const copied = control < 128
    if (at + (copied ? count : 1) > end) throw broken('segments that fill the image, got the end of one', where)
    for (let i = 0; i < count && to < cells.length; i++, to += stride) cells[to] = bytes[copied ? at + i : at]!
    at += copied ? count : 1
  }
}

function broken(expected: string, where: string): DataError {
  return new DataError('PIXEL_DATA', `expected an RLE frame with ${expected}`, {
    where,
    fix: 'the file is damaged: get it from its source again',
    details: { rule: 'dicom/stream' },
  })
}
