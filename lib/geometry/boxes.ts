// Boxes: area, intersection, IoU, clipping, bounds. Boxes are xyxy, half-open, in pixels; a box of width 1 has x2 = x1 + 1 (no "+1"
// convention anywhere). `iou` works in double precision; `iouFloat32` rounds every step as a float32 kernel does, for parity.

/** x1, y1, x2, y2 in pixels, half-open. */
export type Box = [number, number, number, number]

/** Square pixels; 0 for a box whose side is not positive. */
export function area(box: Readonly<Box>): number {
  return Math.max(0, box[2] - box[0]) * Math.max(0, box[3] - box[1])
}

/** Square pixels common to both boxes. */
export function intersection(a: Readonly<Box>, b: Readonly<Box>): number {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0])
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1])
  return width > 0 && height > 0 ? width * height : 0
}

/** Intersection over union, 0..1; 0 where the union is empty. */
export function iou(a: Readonly<Box>, b: Readonly<Box>): number {
  const common = intersection(a, b)
  return common > 0 ? common / (area(a) + area(b) - common) : 0
}

const f = Math.fround

/** IoU of two boxes in float32 arithmetic: each step rounded, in the order areas, intersection, union, quotient. Inputs are float32 numbers. */
export function iouFloat32(
  ax1: number,
  ay1: number,
  ax2: number,
  ay2: number,
  bx1: number,
  by1: number,
  bx2: number,
  by2: number,
): number {
  const width = f(Math.min(ax2, bx2) - Math.max(ax1, bx1))
  const height = f(Math.min(ay2, by2) - Math.max(ay1, by1))
  if (!(width > 0 && height > 0)) return 0
  const common = f(width * height)
  const areaA = f(f(ax2 - ax1) * f(ay2 - ay1))
  const areaB = f(f(bx2 - bx1) * f(by2 - by1))
  return f(common / f(f(areaA + areaB) - common))
}

/** The part inside [0, width] x [0, height]; it has no area when the box lies outside. */
export function clip(box: Readonly<Box>, width: number, height: number): Box {
  const within = (value: number, limit: number) => Math.min(Math.max(value, 0), limit)
  return [within(box[0], width), within(box[1], height), within(box[2], width), within(box[3], height)]
}

/** Centre x, y. */
export function centre(box: Readonly<Box>): [number, number] {
  return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
}

/** Smallest box around points; the empty list has none. */
export function bounds(points: Iterable<readonly [number, number]>): Box {
  const box: Box = [Infinity, Infinity, -Infinity, -Infinity]
  for (const [x, y] of points) {
    if (x < box[0]) box[0] = x
    if (y < box[1]) box[1] = y
    if (x > box[2]) box[2] = x
    if (y > box[3]) box[3] = y
  }
  if (!(box[2] >= box[0])) throw new RangeError('bounds expects at least one point')
  return box
}

/** Box i of a flat [n,4] array. */
export function boxAt(boxes: ArrayLike<number>, i: number): Box {
  return [boxes[4 * i]!, boxes[4 * i + 1]!, boxes[4 * i + 2]!, boxes[4 * i + 3]!]
}
