// Turns whatever a caller hands to the predictor into grey pixels: decoded pixels as they are, files and bytes through lib/data. Bytes
// pass through a private temporary file, since the decoders read files; it is removed before this returns.
import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, extname, join } from 'node:path'
import { hashFile } from '../data/cache.js'
import { readImage } from '../data/image.js'
import { DataError } from '../errors.js'
import type { Job, RawImage } from './lane-protocol.js'
import type { GreyImage } from './resample.js'

export interface ReadSource extends GreyImage {
  id: string
  /** Of the file's bytes, or of the pixels as little-endian uint16. */
  sha256: string
  spacingMm: [number, number] | null
  warnings: { code: string; message: string }[]
}

/** Throws DataError IMAGE for pixels unlike the given size, or what the decoder throws. */
export async function readSource(job: Job): Promise<ReadSource> {
  const { source } = job
  if (typeof source === 'string') return readFileSource(source, job, nameOf(source))
  if (!('bytes' in source)) return checkRaw(source, job.id)
  const folder = await mkdtemp(join(tmpdir(), 'mammo-retinanet-'))
  try {
    const path = join(folder, 'image')
    await writeFile(path, source.bytes, { mode: 0o600 })
    return await readFileSource(path, job, source.id ?? 'image')
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function readFileSource(path: string, { id, read }: Job, name: string): Promise<ReadSource> {
  const image = await readImage(path, read)
  return {
    pixels: image.pixels,
    width: image.width,
    height: image.height,
    id: id ?? name,
    sha256: await hashFile(path),
    spacingMm: image.spacingMm,
    warnings: image.warnings.map(({ rule, message }) => ({ code: rule, message })),
  }
}

function checkRaw(source: RawImage, id: string | undefined): ReadSource {
  const { data, height, width } = source
  const whole = Number.isInteger(height) && Number.isInteger(width) && height > 0 && width > 0
  if (!(data instanceof Uint16Array) || !whole || data.length !== height * width) {
    throw new DataError('IMAGE', `expected ${height} x ${width} uint16 pixels, got ${data?.length} values`, {
      fix: 'pass a Uint16Array of height * width grey levels, row by row',
    })
  }
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  return {
    pixels: data,
    width,
    height,
    id: id ?? source.id ?? 'image',
    sha256: createHash('sha256').update(bytes).digest('hex'),
    spacingMm: source.spacingMm ?? null,
    warnings: [],
  }
}

/** File name without folder and extension. */
export function nameOf(path: string): string {
  return basename(path, extname(path))
}
