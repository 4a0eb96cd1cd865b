// The pixels of a prepared folder: one file per image, little-endian uint16, the row-major crop without a header, padded to
// 4096 bytes so that it can be mapped. Written once, hashed, then only read, by windows. Layout: datasets spec 4.3.
import { createHash } from 'node:crypto'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { endianness } from 'node:os'
import { join } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import { DataError, InternalError } from '../errors.js'
import type { PixelSums } from './statistics.js'
import type { TissueRuns } from './tissue.js'
import type { Rect } from './types.js'

/** What the manifest of a prepared folder adds to a record. */
export interface CacheEntry extends PixelSums {
  /** Pixel file, relative to the prepared folder. */
  file: string
  /** Rectangle of the source image that the file holds. */
  crop: Rect
  /** Of the pixels, without padding. */
  sha256: string
  /** SHA-256 of the source file, to notice changed sources. */
  source: string
  /** Hash of the DICOM object's UID; null of other files. */
  instance: string | null
  /** Difference hashes of the crop and of its mirror image. */
  dhash: string
  mirrored: string
  tissue: TissueRuns
}

const PAGE = 4096

/** Bytes of the pixel file of a crop. */
export function cacheBytes([x1, y1, x2, y2]: Rect): number {
  return Math.ceil(((x2 - x1) * (y2 - y1) * 2) / PAGE) * PAGE
}

/** Relative path of the pixel file of an image. */
export function cacheFile(id: string): string {
  return `pixels/${id}.u16`
}

/** Writes a crop and returns the hash of its pixels. */
export async function writePixels(folder: string, file: string, pixels: Uint16Array): Promise<string> {
  if (endianness() !== 'LE') throw new InternalError('expected a little-endian machine')
  const data = new Uint8Array(pixels.buffer, pixels.byteOffset, pixels.byteLength)
  const padding = new Uint8Array(Math.ceil(data.length / PAGE) * PAGE - data.length)
  await writeFileAtomic(join(folder, file), [data, padding])
  return sha256(data)
}

export function sha256(data: Uint8Array | string): string {
  return createHash('sha256').update(data).digest('hex')
}

/** Error of a cache that differs from its manifest. */
export function damaged(what: string, where: string): DataError {
  return new DataError('MANIFEST', what, {
    where,
    fix: 'run `mammo-retinanet data prepare` again; it rebuilds what is damaged',
    details: { rule: 'cache/damaged' },
  })
}

/** Checks existence and size of a pixel file and, with `hash`, every pixel. Throws ERR_MAMMO_MANIFEST, rule cache/damaged. */
export async function verifyEntry(folder: string, id: string, entry: CacheEntry, hash: boolean): Promise<void> {
  const path = join(folder, entry.file)
  const bytes = cacheBytes(entry.crop)
  const found = await stat(path).catch(() => undefined)
  if (found?.size !== bytes) {
    throw damaged(`expected ${bytes} bytes of pixels for image ${id}, got ${found ? `${found.size}` : 'no file'}`, path)
  }
  if (!hash) return
  const [x1, y1, x2, y2] = entry.crop
  const digest = await hashFile(path, (x2 - x1) * (y2 - y1) * 2)
  if (digest !== entry.sha256) {
    const got = digest.slice(0, 12)
    throw damaged(`expected pixels with SHA-256 ${entry.sha256.slice(0, 12)}... for image ${id}, got ${got}...`, path)
  }
}

/** SHA-256 of the first `length` bytes of a file (all by default), in chunks of 1 MiB. */
export async function hashFile(path: string, length = Number.POSITIVE_INFINITY): Promise<string> {
  const hash = createHash('sha256')
  const file = await open(path, 'r')
  try {
    const chunk = Buffer.allocUnsafe(1 << 20)
    let at = 0
    while (at < length) {
      const { bytesRead } = await file.read(chunk, 0, Math.min(chunk.length, length - at), at)
      if (bytesRead === 0) break
      hash.update(chunk.subarray(0, bytesRead))
      at += bytesRead
    }
  } finally {
    await file.close()
  }
  return hash.digest('hex')
}

/** Reads windows of cached images; keeps some files open. */
export interface WindowReader {
  /** Fills `into` (as many values as the window has pixels) with a window of the crop of image `id`, which must lie inside it. */
  read(id: string, window: Rect, into: Uint16Array): Promise<void>
  close(): Promise<void>
}

const OPEN_FILES = 32
/** Rows are read together in pieces of about this size: one system call per piece, not per row, and bounded memory. */
const PIECE_BYTES = 4 << 20
/** From this many bytes to skip per row, reading row by row is cheaper than reading the gap. */
const GAP_BYTES = 64 << 10

/** Opens a reader over `entries` (by image id) of a prepared folder. */
export function openWindows(folder: string, entries: ReadonlyMap<string, CacheEntry>): WindowReader {
  const files = new Map<string, Promise<FileHandle>>()
  const inUse = new Map<string, number>()
  let closed = false

  const acquire = (id: string, entry: CacheEntry): Promise<FileHandle> => {
    const handle = files.get(id) ?? open(join(folder, entry.file), 'r')
    files.delete(id)
    files.set(id, handle)
    inUse.set(id, (inUse.get(id) ?? 0) + 1)
    return handle
  }
  const release = async (id: string): Promise<void> => {
    inUse.set(id, inUse.get(id)! - 1)
    for (const [oldest, handle] of files) {
      if (files.size <= OPEN_FILES) break
      if (inUse.get(oldest)! > 0) continue
      files.delete(oldest)
      inUse.delete(oldest)
      await (await handle).close()
    }
  }

  return {
    async read(id, [x1, y1, x2, y2], into) {
      const entry = entries.get(id)
      if (entry === undefined || closed) throw new InternalError(`image ${id} is not in the open prepared folder`)
      const width = entry.crop[2] - entry.crop[0]
      const height = entry.crop[3] - entry.crop[1]
      if (x1 < 0 || y1 < 0 || x2 > width || y2 > height || x2 <= x1 || y2 <= y1) {
        throw new InternalError(`window ${[x1, y1, x2, y2]} is not inside image ${id} of ${width}x${height}`)
      }
      const path = join(folder, entry.file)
      try {
        const file = await acquire(id, entry)
        await readRows(file, path, width, [x1, y1, x2, y2], into)
      } catch (cause) {
        files.delete(id)
        if ((cause as NodeJS.ErrnoException).code === 'ENOENT')
          throw damaged(`expected pixels of image ${id}, got no file`, path)
        throw cause
      } finally {
        await release(id).catch(() => undefined)
      }
    },
    async close() {
      closed = true
      const handles = [...files.values()]
      files.clear()
      await Promise.all(handles.map(async (handle) => (await handle).close().catch(() => undefined)))
    },
  }
}

async function readRows(
  file: FileHandle,
  path: string,
  stride: number,
  window: Rect,
  into: Uint16Array,
): Promise<void> {
  const [x1, y1, x2, y2] = window
  const width = x2 - x1
  const target = new Uint8Array(into.buffer, into.byteOffset, width * (y2 - y1) * 2)
  if (width === stride) {
    await readFully(file, path, target, y1 * stride * 2)
    return
  }
  const gap = (stride - width) * 2
  const rowsAtOnce = gap > GAP_BYTES ? 1 : Math.max(1, Math.floor(PIECE_BYTES / (stride * 2)))
  const piece = new Uint8Array(Math.min(rowsAtOnce, y2 - y1) * stride * 2)
  for (let y = y1; y < y2; y += rowsAtOnce) {
    const rows = Math.min(rowsAtOnce, y2 - y)
    // From the first pixel of the first row to the last of the last: nothing outside the window's rows is touched.
    const bytes = ((rows - 1) * stride + width) * 2
    await readFully(file, path, piece.subarray(0, bytes), (y * stride + x1) * 2)
    for (let row = 0; row < rows; row++) {
      const from = row * stride * 2
      target.set(piece.subarray(from, from + width * 2), (y - y1 + row) * width * 2)
    }
  }
}

async function readFully(file: FileHandle, path: string, target: Uint8Array, position: number): Promise<void> {
  let done = 0
  while (done < target.length) {
    const { bytesRead } = await file.read(target, done, target.length - done, position + done)
    if (bytesRead === 0)
      throw damaged(`expected pixels up to byte ${position + target.length}, got a shorter file`, path)
    done += bytesRead
  }
}
