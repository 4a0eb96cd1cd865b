// Small made-up images and records for the tests of lib/data. Not a test itself.
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { configSchema } from '../../lib/config/schema.js'
import { encodeGrey16Png } from '../../lib/data/raster.js'
import type { SamplerImage } from '../../lib/data/sampler.js'
import { decodeTissue } from '../../lib/data/tissue.js'
import type { Box, ImageRecord, Lesion } from '../../lib/data/types.js'
import { randomStream } from '../../lib/random.js'

export const config = configSchema.parse({})

export function lesion(box: Box, more: Partial<Lesion> = {}): Lesion {
  return {
    id: '0',
    class: 'mass',
    box,
    pathology: 'unknown',
    biRads: null,
    ignore: false,
    clipped: false,
    source: { file: 'made-up', index: 0, name: 'mass' },
    ...more,
  }
}

export function record(id: string, more: Partial<ImageRecord> = {}): ImageRecord {
  return {
    v: 1,
    id,
    path: `${id}.png`,
    frame: 0,
    patient: id,
    laterality: 'L',
    view: 'CC',
    width: 96,
    height: 128,
    spacingMm: null,
    spacingSource: null,
    split: null,
    density: null,
    biRads: null,
    annotated: true,
    lesions: [],
    flags: [],
    source: { adapter: 'made-up', adapterVersion: 1, annotationFile: null, transferSyntax: 'image/png', fileSize: 0 },
    ...more,
  }
}

/** Half an ellipse of textured tissue on the left edge (or right), zeros elsewhere. */
export function breastPixels(width: number, height: number, seed: number, side: 'L' | 'R' = 'L'): Uint16Array {
  const random = randomStream(seed, 'breast')
  const pixels = new Uint16Array(width * height)
  for (let y = 0; y < height; y++) {
    const v = (y + 0.5 - height / 2) / (height * 0.38)
    for (let x = 0; x < width; x++) {
      const u = (side === 'L' ? x + 0.5 : width - x - 0.5) / (width * 0.6)
      const noise = random.integer(300)
      if (u * u + v * v < 1) pixels[y * width + x] = 900 + Math.round(900 * (1 - u * u - v * v)) + noise
    }
  }
  return pixels
}

/** Writes records' images as 16-bit PNG below `root`. */
export async function writeImages(root: string, records: readonly ImageRecord[]): Promise<void> {
  for (const [n, { path, width, height, laterality }] of records.entries()) {
    const png = await encodeGrey16Png(breastPixels(width, height, n, laterality ?? 'L'), width, height)
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), png)
  }
}

/** An image of the sampler with tissue in its left half. */
export function samplerImage(
  id: string,
  width: number,
  height: number,
  more: Partial<SamplerImage> = {},
): SamplerImage {
  const cell = 32
  const columns = Math.ceil(width / cell)
  const rows = Math.ceil(height / cell)
  const breast = Math.ceil(columns / 2)
  const runs: number[] = [0]
  for (let row = 0; row < rows; row++) runs.push(breast, columns - breast)
  return {
    id,
    width,
    height,
    origin: [0, 0],
    laterality: 'L',
    spacingMm: 0.07,
    lesions: [],
    tissue: decodeTissue({ cell, rows, columns, runs }, [0, 0, width, height]),
    normalise: [1000, 200],
    ...more,
  }
}
