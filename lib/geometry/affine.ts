// Affine maps of the plane and what they do to boxes. A map is a row-major 2x3 matrix, (x, y) -> (a*x + b*y + c, d*x + e*y + f), in
// pixel-edge coordinates (the centre of pixel i is i + 0.5), y downwards. It clips nothing: transform first, clip last.
import { type Box, bounds } from './boxes.js'

/** Row-major 2x3 matrix. */
export type Affine = readonly [number, number, number, number, number, number]

export const IDENTITY: Affine = [1, 0, 0, 0, 1, 0]

/** A turn by `radians`; positive turns x towards y, which looks clockwise in an image. */
export function rotation(radians: number): Affine {
  const [cos, sin] = [Math.cos(radians), Math.sin(radians)]
  return [cos, -sin, 0, sin, cos, 0]
}

export function translation(x: number, y: number): Affine {
  return [1, 0, x, 0, 1, y]
}

export function scaling(x: number, y: number): Affine {
  return [x, 0, 0, 0, y, 0]
}

/** keras-retinanet's shear by `radians`: the y axis turns and keeps its length. */
export function shear(radians: number): Affine {
  return [1, -Math.sin(radians), 0, 0, Math.cos(radians), 0]
}

/** Mirrors at the axes through the origin. */
export function flip(horizontal: boolean, vertical: boolean): Affine {
  return scaling(horizontal ? -1 : 1, vertical ? -1 : 1)
}

/** The matrix product: the LAST map of the list acts first, as in the notation R·T·S. */
export function compose(...maps: readonly Affine[]): Affine {
  return maps.reduce(product, IDENTITY)
}

function product(p: Affine, q: Affine): Affine {
  return [
    p[0] * q[0] + p[1] * q[3],
    p[0] * q[1] + p[1] * q[4],
    p[0] * q[2] + p[1] * q[5] + p[2],
    p[3] * q[0] + p[4] * q[3],
    p[3] * q[1] + p[4] * q[4],
    p[3] * q[2] + p[4] * q[5] + p[5],
  ]
}

/** The same map with its origin moved to (x, y): the point (x, y) takes the place of (0, 0). */
export function about(map: Affine, x: number, y: number): Affine {
  return compose(translation(x, y), map, translation(-x, -y))
}

/** Signed area of the image of the unit square. */
export function determinant(map: Affine): number {
  return map[0] * map[4] - map[1] * map[3]
}

/** @throws RangeError when the map has no inverse. */
export function invert(map: Affine): Affine {
  const d = determinant(map)
  if (!Number.isFinite(1 / d)) throw new RangeError(`affine map without inverse: determinant ${d}`)
  const [a, b, c, e, g, h] = map
  return [g / d, -b / d, (b * h - g * c) / d, -e / d, a / d, (e * c - a * h) / d]
}

export function applyToPoint(map: Affine, x: number, y: number): [number, number] {
  return [map[0] * x + map[1] * y + map[2], map[3] * x + map[4] * y + map[5]]
}

/** Bounds of the four transformed corners (keras-retinanet): grows under rotation. */
export function cornerBounds(map: Affine, box: Readonly<Box>): Box {
  const [x1, y1, x2, y2] = box
  return bounds([
    applyToPoint(map, x1, y1),
    applyToPoint(map, x2, y1),
    applyToPoint(map, x1, y2),
    applyToPoint(map, x2, y2),
  ])
}

/** Bounds of the transformed ellipse inscribed in the box: lesions are round. Equal to the corner rule without rotation and shear. */
export function ellipseBounds(map: Affine, box: Readonly<Box>): Box {
  const [halfWidth, halfHeight] = [(box[2] - box[0]) / 2, (box[3] - box[1]) / 2]
  const [cx, cy] = applyToPoint(map, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
  const w = Math.hypot(map[0] * halfWidth, map[1] * halfHeight)
  const h = Math.hypot(map[3] * halfWidth, map[4] * halfHeight)
  return [cx - w, cy - h, cx + w, cy + h]
}

/** A box under the map by the named rule. */
export function transformBox(map: Affine, box: Readonly<Box>, rule: 'ellipse' | 'corners'): Box {
  return rule === 'ellipse' ? ellipseBounds(map, box) : cornerBounds(map, box)
}

/** Bounds of the transformed contour: exact where a contour is known. */
export function transformPolygon(map: Affine, polygon: Iterable<readonly [number, number]>): Box {
  return bounds(Array.from(polygon, ([x, y]) => applyToPoint(map, x, y)))
}
