// Prepares one image: decode, find the breast, crop, protect the lesions, measure, write the pixel file. Runs in the calling
// thread or in a worker (prepare-worker.ts); takes and returns plain values. The source file is only read.
import { join } from 'node:path'
import { DataError } from '../errors.js'
import { type BreastRegion, findBreast, protectLesions } from './breast.js'
import { type CacheEntry, cacheFile, hashFile, writePixels } from './cache.js'
import { readImage } from './image.js'
import { differenceHash } from './leak.js'
import { pixelSums } from './statistics.js'
import { encodeTissue } from './tissue.js'
import type { ImageRecord, Rect } from './types.js'

/** What changes the cached pixels; part of the cache's identity. */
export interface PixelOptions {
  /** Keep the breast region only; false keeps whole images. */
  crop: boolean
  /** Set pixels outside the breast mask to 0. */
  maskBackground: boolean
}

export interface PrepareJob {
  record: ImageRecord
  /** Folder that `record.path` is relative to. */
  root: string
  /** Folder that receives `pixels/<id>.u16`. */
  folder: string
  options: PixelOptions
}

export interface PreparedImage {
  entry: CacheEntry
  warnings: { rule: string; message: string }[]
}

/** Throws DataError when the file cannot be decoded or is not of the recorded size. */
export async function prepareImage({ record, root, folder, options }: PrepareJob): Promise<PreparedImage> {
  const path = join(root, record.path)
  const source = await hashFile(path)
  // The adapter has vouched for what the file is.
  const image = await readImage(path, { frame: record.frame, assumeMammogram: true, allowForProcessing: true })
  const warnings: PreparedImage['warnings'] = [...image.warnings]
  if (image.width !== record.width || image.height !== record.height) {
    throw new DataError(
      'MANIFEST',
      `expected ${record.width}x${record.height} pixels for image ${record.id}, the file decodes to ${image.width}x${image.height}`,
      { where: path, fix: 'correct the annotation or restore the image', details: { rule: 'manifest/size' } },
    )
  }
  const breast = findBreast(image.pixels, image.width, image.height)
  let crop: Rect = [0, 0, image.width, image.height]
  if (!breast.found) {
    const share = `${(100 * breast.share).toFixed(1)} %`
    warnings.push({ rule: 'prepare/no-breast', message: `breast mask covers ${share}: the whole image is kept` })
  } else if (options.crop) {
    const boxes = record.lesions.map((lesion) => lesion.box)
    const safe = protectLesions(breast.crop, boxes, image.width, image.height)
    crop = safe.crop
    if (safe.extended > 0) {
      const message = `the breast crop was widened for ${safe.extended} lesion${safe.extended === 1 ? '' : 's'}`
      warnings.push({ rule: 'prepare/crop-extended', message })
    }
  }
  if (options.maskBackground && breast.found) clearBackground(image.pixels, image.width, breast)
  const pixels = cutInPlace(image.pixels, image.width, crop)
  const file = cacheFile(record.id)
  const sha256 = await writePixels(folder, file, pixels)
  const hashes = differenceHash(pixels, crop[2] - crop[0], crop[3] - crop[1])
  const tissue = encodeTissue(breast.mask)
  return {
    entry: { file, crop, sha256, ...pixelSums(pixels), source, instance: image.instance || null, ...hashes, tissue },
    warnings,
  }
}

/** Moves the crop to the front of `pixels`, row after row: fresh memory of the same size would cost more than the copy. */
function cutInPlace(pixels: Uint16Array, width: number, [x1, y1, x2, y2]: Rect): Uint16Array {
  if (x1 === 0 && x2 === width) return pixels.subarray(y1 * width, y2 * width)
  const across = x2 - x1
  for (let y = y1; y < y2; y++) pixels.copyWithin((y - y1) * across, y * width + x1, y * width + x2)
  return pixels.subarray(0, across * (y2 - y1))
}

function clearBackground(pixels: Uint16Array, width: number, { mask }: BreastRegion): void {
  for (let at = 0; at < pixels.length; at++) {
    const row = Math.floor(Math.floor(at / width) / mask.block)
    const column = Math.floor((at % width) / mask.block)
    if (mask.bits[row * mask.columns + column] === 0) pixels[at] = 0
  }
}
