// Elastic displacement of the plane: the place p of the network's input shows p + d(p) of the affinely placed image. d is a cubic
// B-spline over random nodes, so it is smooth and nowhere larger than its nodes (free-form deformation, Rueckert et al. 1999). It knows
// no pixels; the readable reference of native/core/ops/elastic.h, with the same numbers.
import { type Box, bounds } from './boxes.js'

export interface Elastic {
  /** No displacement along an axis is larger; pixels of the network's input. */
  amplitude: number
  /** Distance of the nodes, pixels; at least 5 amplitudes, so that nothing folds. */
  spacing: number
  /** uint32 */
  seed: number
}

/** Nodes are this far apart at least: finer waves would wrinkle a mass instead of bending it. */
const MIN_SPACING = 64
/** With this ratio no slope of d exceeds 2/5 along an axis, hence p -> p + d(p) has one inverse, by fixed point. */
export const MIN_SPACING_FACTOR = 5

/** The displacement of `amplitude` pixels that belongs to a seed; null when nothing moves. */
export function elasticOf(amplitude: number, seed: number): Elastic | null {
  return amplitude === 0 ? null : { amplitude, spacing: Math.max(MIN_SPACING, MIN_SPACING_FACTOR * amplitude), seed }
}

/** Finaliser of MurmurHash3 (public domain). */
function mix(x: number): number {
  x ^= x >>> 16
  x = Math.imul(x, 0x85ebca6b)
  x ^= x >>> 13
  x = Math.imul(x, 0xc2b2ae35)
  return (x ^ (x >>> 16)) >>> 0
}

/** Random number of node (i, j), in [-1, 1), exact in float32; axis 0 is x. */
function node(seed: number, axis: 0 | 1, i: number, j: number): number {
  const column = mix((Math.imul(i, 0x9e3779b1) + seed) | 0)
  const bits = mix((column ^ Math.imul(2 * j + axis, 0x85ebca6b)) | 0)
  return (bits >>> 8) / 8388608 - 1
}

/** The four weights of a uniform cubic B-spline at t in [0, 1); they sum to 1. */
function weights(t: number): [number, number, number, number] {
  const s = 1 - t
  return [(s * s * s) / 6, (3 * t * t * t - 6 * t * t + 4) / 6, (3 * s * s * s - 6 * s * s + 4) / 6, (t * t * t) / 6]
}

/** d(x, y): what is added to a place of the network's input. */
export function displacement(field: Elastic, x: number, y: number): [number, number] {
  const [u, v] = [x / field.spacing, y / field.spacing]
  const [i, j] = [Math.floor(u), Math.floor(v)]
  const across = weights(u - i)
  const down = weights(v - j)
  let [dx, dy] = [0, 0]
  for (let b = 0; b < 4; b++) {
    for (let a = 0; a < 4; a++) {
      const weight = across[a]! * down[b]!
      dx += weight * node(field.seed, 0, i + a - 1, j + b - 1)
      dy += weight * node(field.seed, 1, i + a - 1, j + b - 1)
    }
  }
  return [field.amplitude * dx, field.amplitude * dy]
}

/** Where a point of the affinely placed image is seen: the p with p + d(p) = (x, y), within 1e-6 pixel. */
export function moved(field: Elastic, x: number, y: number): [number, number] {
  let [px, py] = [x, y]
  // d shortens distances to 0.8 at worst, so each round gains; 100 rounds reach 2e-10 of the first error.
  for (let round = 0; round < 100; round++) {
    const [dx, dy] = displacement(field, px, py)
    const error = Math.max(Math.abs(x - dx - px), Math.abs(y - dy - py))
    px = x - dx
    py = y - dy
    if (error < 1e-7) break
  }
  return [px, py]
}

/** Longest piece of an outline between two points that are moved, in pixels: between them the curve stays within a hundredth of a pixel or so. */
const STEP = 4

/** Bounds of a closed outline whose points are moved; its straight sides are cut into pieces, because they bend. */
export function movedOutline(field: Elastic, outline: readonly (readonly [number, number])[]): Box {
  const points: [number, number][] = []
  for (const [n, [x1, y1]] of outline.entries()) {
    const [x2, y2] = outline[(n + 1) % outline.length]!
    const pieces = Math.max(1, Math.ceil(Math.hypot(x2 - x1, y2 - y1) / STEP))
    for (let k = 0; k < pieces; k++) {
      points.push(moved(field, x1 + ((x2 - x1) * k) / pieces, y1 + ((y2 - y1) * k) / pieces))
    }
  }
  return bounds(points)
}
