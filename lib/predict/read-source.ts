// Turns whatever a caller hands to the predictor into grey pixels: decoded pixels as they are, files and bytes through lib/data.
import { createHash } from 'node:crypto'
import { basename, extname } from 'node:path'
import { DataError } from '../errors.js'
import type { Job } from './lane-protocol.js'
import type { GreyImage } from './resample.js'

export interface ReadSource extends GreyImage {
  id: string
  /** Of the file's bytes, or of the little-endian pixels. */
  sha256: string
  spacingMm: [number, number] | null
  warnings: { code: string; message: string }[]
}

/** Throws DataError IMAGE for pixels unlike the given size, or what the decoder throws. */
export async function readSource({ source, id }: Job): Promise<ReadSource> {
  if (typeof source === 'string' || 'bytes' in source) throw new Error('pending')
  const { data, height, width } = source
  const whole = Number.isInteger(height) && Number.isInteger(width) && height > 0 && width > 0
  if (!(data instanceof Uint16Array) || !whole || data.length !== height * width) {
    throw new DataError('IMAGE', `expected ${height} x ${width} uint16 pixels, got ${data?.length} values`, {
      fix: 'pass a Uint16Array of height * width grey levels, row by row',
    })
  }
  const sha256 = createHash('sha256')
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex')
  return {
    pixels: data,
    width,
    height,
    id: id ?? source.id ?? 'image',
    sha256,
    spacingMm: source.spacingMm ?? null,
    warnings: [],
  }
}

/** File name without folder and extension. */
export function nameOf(path: string): string {
  return basename(path, extname(path))
}
