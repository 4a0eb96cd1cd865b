// The readable reference of the device's warp: one uint16 window becomes the network's input of one image, in one pass. Order: block average
// (antialias), bilinear sampling through displacement and affine, normalisation, intensity changes on non-zero pixels; canvas padding equals
// normalised raw 0. Contract: WindowBatch of the binding. Double precision, one channel; slow on purpose.
import type { Affine } from './affine.js'
import { displacement, type Elastic } from './elastic.js'

export interface Window {
  /** Row-major [height, width]. */
  pixels: Uint16Array
  height: number
  width: number
  /** Output pixel to window pixel, both in edge coordinates. */
  affine: Affine
  /** The output place p shows affine(p + d(p)); null or absent: affine(p). */
  elastic?: Elastic | null
  /** Average 2^reduce x 2^reduce blocks first. */
  reduce: number
  mean: number
  std: number
  /** Contrast factor about the normalised mean, brightness (standard deviations), gamma on raw / 65535. The noise of the device is not reproduced. */
  intensity: readonly [contrast: number, brightness: number, gamma: number]
}

interface Raster {
  values: ArrayLike<number>
  height: number
  width: number
}

/** Averages blocks of 2^k x 2^k pixels; blocks cut by the border average their existing pixels. k = 0 returns the window. */
export function reduceBlocks(image: Raster, k: number): Raster {
  const side = 2 ** k
  if (side === 1) return image
  const height = Math.ceil(image.height / side)
  const width = Math.ceil(image.width / side)
  const values = new Float64Array(height * width)
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++) {
      let sum = 0
      let count = 0
      for (let y = row * side; y < Math.min((row + 1) * side, image.height); y++)
        for (let x = column * side; x < Math.min((column + 1) * side, image.width); x++) {
          sum += image.values[y * image.width + x]!
          count++
        }
      values[row * width + column] = sum / count
    }
  return { values, height, width }
}

/** Bilinear value at (x, y) in edge coordinates (the centre of pixel i is i + 0.5); taps outside count as 0. */
export function sampleBilinear(image: Raster, x: number, y: number): number {
  const left = Math.floor(x - 0.5)
  const top = Math.floor(y - 0.5)
  const fx = x - 0.5 - left
  const fy = y - 0.5 - top
  const tap = (row: number, column: number) =>
    row >= 0 && row < image.height && column >= 0 && column < image.width
      ? image.values[row * image.width + column]!
      : 0
  return (
    (1 - fy) * ((1 - fx) * tap(top, left) + fx * tap(top, left + 1)) +
    fy * ((1 - fx) * tap(top + 1, left) + fx * tap(top + 1, left + 1))
  )
}

/**
 * The network's input [canvas height, canvas width] of one window: `size` is the real image (height, width) at the top left of the canvas,
 * the rest is padding.
 */
export function warpWindow(
  window: Window,
  size: readonly [number, number],
  canvas: readonly [number, number],
): Float32Array {
  const source = reduceBlocks({ values: window.pixels, height: window.height, width: window.width }, window.reduce)
  const shrink = 2 ** -window.reduce
  const [contrast, brightness, gamma] = window.intensity
  const [a, b, c, d, e, f] = window.affine
  const normalise = (raw: number) => (raw - window.mean) / window.std
  const out = new Float32Array(canvas[0] * canvas[1]).fill(normalise(0))
  for (let row = 0; row < size[0]; row++)
    for (let column = 0; column < size[1]; column++) {
      const [dx, dy] = window.elastic ? displacement(window.elastic, column + 0.5, row + 0.5) : [0, 0]
      const x = column + 0.5 + dx
      const y = row + 0.5 + dy
      const raw = sampleBilinear(source, (a * x + b * y + c) * shrink, (d * x + e * y + f) * shrink)
      if (raw === 0) continue
      const bent = gamma === 1 ? raw : 65535 * (raw / 65535) ** gamma
      out[row * canvas[1] + column] = normalise(bent) * contrast + brightness
    }
  return out
}
