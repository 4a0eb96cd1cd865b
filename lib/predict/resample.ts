// Scales a grey image with bilinear sampling at pixel centres, after averaging blocks when it shrinks by more than 2: the
// rules of training (data preparation's scale and antialiasing), here for axis-aligned scaling of whole images only.
import type { Rect } from '../data/types.js'

export interface GreyImage {
  pixels: Uint16Array
  width: number
  height: number
}

/** Where the resampled image is written: row-major with `stride` values per row, top left. */
export interface Canvas {
  data: Float32Array | Uint16Array
  stride: number
}

/** Side after scaling, at least 1. */
export function scaledSide(side: number, scale: number): number {
  return Math.max(1, Math.round(side * scale))
}

/** Exponent of the block average before a reduction by `scale`: floor(log2(1 / scale)) beyond a factor of 2, otherwise 0. */
export function reduction(scale: number, antialias: boolean): number {
  return antialias && scale < 0.5 ? Math.floor(Math.log2(1 / scale)) : 0
}

/**
 * Writes the crop of an image at `scale` into a canvas. Source position = (i + 0.5) / scale - 0.5; beyond the crop is 0. Integer
 * canvases are rounded to the nearest grey level.
 */
export function resampleInto(canvas: Canvas, image: GreyImage, crop: Rect, scale: number, reduce: number): void {
  const [x1, y1, x2, y2] = crop
  if (scale === 1) {
    for (let y = y1; y < y2; y++) {
      canvas.data.set(image.pixels.subarray(y * image.width + x1, y * image.width + x2), (y - y1) * canvas.stride)
    }
    return
  }
  const width = x2 - x1
  const height = y2 - y1
  const block = 2 ** reduce
  const columns = axis(scaledSide(width, scale), scale * block, Math.ceil(width / block))
  const rows = axis(scaledSide(height, scale), scale * block, Math.ceil(height / block))
  const lines = blockRows(image, crop, block)
  const integer = canvas.data instanceof Uint16Array
  const blended = new Float64Array(Math.ceil(width / block))
  for (let y = 0; y < rows.first.length; y++) {
    const top = rows.first[y]!
    const lower = rows.weight[y]!
    const a = lines(top)
    const b = lines(top + 1)
    for (let i = 0; i < blended.length; i++) blended[i] = (a?.[i] ?? 0) * (1 - lower) + (b?.[i] ?? 0) * lower
    for (let x = 0; x < columns.first.length; x++) {
      const left = columns.first[x]!
      const right = columns.weight[x]!
      const value = (blended[left] ?? 0) * (1 - right) + (blended[left + 1] ?? 0) * right
      canvas.data[y * canvas.stride + x] = integer ? Math.round(value) : value
    }
  }
}

/** For each output index the first of the two source indices (may be -1) and the weight of the second. */
function axis(outputs: number, scale: number, inputs: number): { first: Int32Array; weight: Float64Array } {
  const first = new Int32Array(outputs)
  const weight = new Float64Array(outputs)
  for (let i = 0; i < outputs; i++) {
    const position = (i + 0.5) / scale - 0.5
    first[i] = Math.min(Math.floor(position), inputs - 1)
    weight[i] = position - first[i]!
  }
  return { first, weight }
}

/** Gives a row of block means (over the pixels that exist); the two rows in use are kept. Undefined beyond the crop. */
function blockRows(image: GreyImage, [x1, y1, x2, y2]: Rect, block: number) {
  const width = Math.ceil((x2 - x1) / block)
  const height = Math.ceil((y2 - y1) / block)
  const cache = new Map<number, Float64Array>()
  return (row: number): Float64Array | undefined => {
    if (row < 0 || row >= height) return undefined
    const known = cache.get(row)
    if (known) return known
    const sums = new Float64Array(width)
    const bottom = Math.min(y2, y1 + (row + 1) * block)
    for (let y = y1 + row * block; y < bottom; y++) {
      const base = y * image.width
      for (let x = x1; x < x2; x++) sums[Math.floor((x - x1) / block)]! += image.pixels[base + x]!
    }
    const tall = bottom - (y1 + row * block)
    for (let i = 0; i < width; i++) sums[i]! /= tall * Math.min(block, x2 - x1 - i * block)
    for (const key of cache.keys()) if (key < row - 1) cache.delete(key)
    cache.set(row, sums)
    return sums
  }
}
