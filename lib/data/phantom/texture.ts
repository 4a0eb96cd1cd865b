// Building blocks of phantom images: fields of fractal noise, strokes and blobs that are added to a field. Everything is a pure
// function of its key; values per pixel come from a counter-based hash, so order and size of other layers do not matter.
// The noise is a pyramid: subdivide by quadratic B-splines, add white noise of 2^-1/2 the previous amplitude; in two dimensions
// that is a power spectrum near f^-3, the one measured on mammograms (Burgess, Jacobson, Judy 2001).
import { type RandomStream, randomStream } from '../../random.js'

/** A row-major field of numbers. */
export interface Field {
  width: number
  height: number
  data: Float32Array
}

export function newField(width: number, height: number): Field {
  return { width, height, data: new Float32Array(width * height) }
}

/** A hash of (key, index) in [-1, 1) with the standard deviation of a uniform number, 1 / sqrt(3). */
export function hashSigned(key: number, index: number): number {
  let x = (Math.imul(index, 0x9e3779b1) + key) | 0
  x ^= x >>> 16
  x = Math.imul(x, 0x85ebca6b)
  x ^= x >>> 13
  x = Math.imul(x, 0xc2b2ae35)
  x ^= x >>> 16
  return x / 2147483648
}

/** Coarsest grid of the pyramid has at least this many cells along the shorter side. */
const COARSE_CELLS = 3

/** Fractal noise of standard deviation near 1. `exponent` is the slope of the power spectrum, 3 for breast tissue. */
export function fractalNoise(width: number, height: number, seed: number, layer: string, exponent = 3): Field {
  let levels = 0
  while (Math.min(width, height) / 2 ** (levels + 1) >= COARSE_CELLS) levels++
  const falloff = 2 ** ((2 - exponent) / 2)
  let w = Math.ceil(width / 2 ** levels) + 2
  let h = Math.ceil(height / 2 ** levels) + 2
  let field: Float32Array = new Float32Array(w * h)
  // 1.9 makes up for what the subdivision averages away.
  let amplitude = 1.9 * Math.sqrt(3 * (1 - falloff * falloff))
  for (let level = 0; ; level++) {
    const key = randomStream(seed, layer, level).uint32() | 0
    for (let i = 0; i < field.length; i++) field[i]! += amplitude * hashSigned(key, i)
    if (level === levels) break
    field = subdivide(field, w, h)
    w = 2 * w - 2
    h = 2 * h - 2
    amplitude *= falloff
  }
  const data = new Float32Array(width * height)
  for (let y = 0; y < height; y++) data.set(field.subarray(y * w, y * w + width), y * width)
  return { width, height, data }
}

/** Doubles a grid of w x h to (2w-2) x (2h-2): quadratic B-spline subdivision, weights 3/4 and 1/4 along each axis. */
function subdivide(field: Float32Array, w: number, h: number): Float32Array {
  const W = 2 * w - 2
  const wide = new Float32Array(W * h)
  for (let y = 0; y < h; y++) {
    for (let x = 0, from = y * w, to = y * W; x < w - 1; x++, from++, to += 2) {
      const [a, b] = [field[from]!, field[from + 1]!]
      wide[to] = 0.75 * a + 0.25 * b
      wide[to + 1] = 0.25 * a + 0.75 * b
    }
  }
  const result = new Float32Array(W * (2 * h - 2))
  for (let y = 0; y < h - 1; y++) {
    for (let x = 0; x < W; x++) {
      const [a, b] = [wide[y * W + x]!, wide[(y + 1) * W + x]!]
      result[2 * y * W + x] = 0.75 * a + 0.25 * b
      result[(2 * y + 1) * W + x] = 0.25 * a + 0.75 * b
    }
  }
  return result
}

/** Raises `field` along a smooth curve: at each pixel to at least `level` times a Gaussian profile of the given radius. */
export function stroke(
  field: Field,
  points: readonly (readonly [number, number])[],
  radius: (along: number) => number,
  level: (along: number) => number,
): void {
  const { width, height, data } = field
  const path = smooth(points)
  let length = 0
  for (let i = 1; i < path.length; i++)
    length += Math.hypot(path[i]![0] - path[i - 1]![0], path[i]![1] - path[i - 1]![1])
  let walked = 0
  for (let i = 1; i < path.length; i++) {
    const [[x1, y1], [x2, y2]] = [path[i - 1]!, path[i]!]
    const piece = Math.hypot(x2 - x1, y2 - y1)
    const steps = Math.max(1, Math.ceil(piece / Math.max(0.5, radius(walked / length) * 0.5)))
    for (let s = 0; s < steps; s++) {
      const along = (walked + (piece * s) / steps) / length
      const [cx, cy] = [x1 + ((x2 - x1) * s) / steps, y1 + ((y2 - y1) * s) / steps]
      const r = Math.max(0.35, radius(along))
      const value = level(along)
      const reach = Math.ceil(2 * r)
      for (let y = Math.max(0, Math.floor(cy) - reach); y <= Math.min(height - 1, Math.floor(cy) + reach); y++) {
        for (let x = Math.max(0, Math.floor(cx) - reach); x <= Math.min(width - 1, Math.floor(cx) + reach); x++) {
          const q = ((x + 0.5 - cx) ** 2 + (y + 0.5 - cy) ** 2) / (r * r)
          const v = value * Math.exp(-q)
          if (v > data[y * width + x]!) data[y * width + x] = v
        }
      }
    }
    walked += piece
  }
}

/** Three rounds of corner cutting. */
function smooth(points: readonly (readonly [number, number])[]): (readonly [number, number])[] {
  let path = [...points]
  for (let round = 0; round < 3; round++) {
    const next: (readonly [number, number])[] = [path[0]!]
    for (let i = 1; i < path.length; i++) {
      const [a, b] = [path[i - 1]!, path[i]!]
      next.push([0.75 * a[0] + 0.25 * b[0], 0.75 * a[1] + 0.25 * b[1]])
      next.push([0.25 * a[0] + 0.75 * b[0], 0.25 * a[1] + 0.75 * b[1]])
    }
    next.push(path.at(-1)!)
    path = next
  }
  return path
}

/** A wandering path from (x, y) in the direction `angle`, `steps` pieces of `length`, turning by up to `turn` each. */
export function wander(
  x: number,
  y: number,
  angle: number,
  steps: number,
  length: number,
  turn: number,
  random: RandomStream,
): [number, number][] {
  const points: [number, number][] = [[x, y]]
  let [px, py, direction] = [x, y, angle]
  for (let i = 0; i < steps; i++) {
    direction += random.uniform(-turn, turn)
    px += length * Math.cos(direction)
    py += length * Math.sin(direction)
    points.push([px, py])
  }
  return points
}

/** 0 below 0, 1 above 1, smooth between. */
export function smoothStep(t: number): number {
  if (t <= 0) return 0
  if (t >= 1) return 1
  return t * t * (3 - 2 * t)
}
