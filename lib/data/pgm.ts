// Reads binary PGM (P5), 8 or 16 bit: the format of mini-MIAS. Text PGM and other Netpbm formats are refused. The format is the
// one of the Netpbm manual: header fields divided by white space, comments from # to the line end, samples big endian.
import { DataError } from '../errors.js'

export interface PgmHeader {
  width: number
  height: number
  /** Largest sample value; above 255 samples take two bytes. */
  maximum: number
  /** Where the samples begin. */
  offset: number
}

/** Reads the header of a P5 file from its first bytes. Throws ERR_MAMMO_IMAGE. */
export function readPgmHeader(bytes: Uint8Array, where: string): PgmHeader {
  const fields: number[] = []
  let at = 2
  while (fields.length < 3) {
    while (isSpace(bytes[at]) || bytes[at] === 0x23) {
      if (bytes[at] !== 0x23) at++
      else while (at < bytes.length && bytes[at] !== 0x0a) at++
    }
    const start = at
    let value = 0
    while (bytes[at] !== undefined && bytes[at]! >= 0x30 && bytes[at]! <= 0x39) value = value * 10 + bytes[at++]! - 0x30
    if (at === start || at - start > 9) throw broken('three numbers (width, height, maximum) in its header', where)
    fields.push(value)
  }
  const [width, height, maximum] = fields as [number, number, number]
  if (!isSpace(bytes[at])) throw broken('white space after its header', where)
  if (width === 0 || height === 0 || maximum === 0 || maximum > 65535) {
    throw broken(`a size above 0 and a maximum of 1..65535, got ${width}x${height}, maximum ${maximum}`, where)
  }
  return { width, height, maximum, offset: at + 1 }
}

/** Samples of a P5 file. Bytes behind them are ignored. Throws ERR_MAMMO_IMAGE when the file is shorter than its header says. */
export function readPgm(bytes: Uint8Array, where: string): PgmHeader & { data: Uint16Array } {
  const header = readPgmHeader(bytes, where)
  const { width, height, maximum, offset } = header
  const size = maximum > 255 ? 2 : 1
  const need = width * height * size
  if (bytes.length - offset < need) throw broken(`${need} bytes of samples, got ${bytes.length - offset}`, where)
  const data = new Uint16Array(width * height)
  if (size === 1) data.set(bytes.subarray(offset, offset + need))
  else for (let i = 0, at = offset; i < data.length; i++, at += 2) data[i] = (bytes[at]! << 8) | bytes[at + 1]!
  return { ...header, data }
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || (byte !== undefined && byte >= 0x09 && byte <= 0x0d)
}

function broken(expected: string, where: string): DataError {
  return new DataError('IMAGE', `expected a PGM file with ${expected}`, {
    where,
    fix: 'restore the file from its source',
  })
}
