// One mass of a phantom: its margin as a radius over the angle, its profile added to an image, its core contour as ground truth.
// Sizes and margins follow datasets spec 5: log-normal diameter of median 19 mm, 40 % circumscribed, 20 % lobulated, 40 % spiculated.
import type { RandomStream } from '../../random.js'
import { type Field, smoothStep, stroke } from './texture.js'

export type Margin = 'circumscribed' | 'lobulated' | 'spiculated'

/** A mass in the breast, the same in all its views up to projection. */
export interface MassPlan {
  margin: Margin
  diameterMm: number
  /** Share of the full signal. */
  contrast: number
  /** Place in the breast: 0 chest wall .. 1 nipple, -1 .. 1 across. */
  depth: number
  across: number
}

export interface MassTruth {
  margin: Margin
  /** Closed implicitly, 14 to 648 points in pixels. */
  contour: [number, number][]
}

export function planMass(random: RandomStream): MassPlan {
  const kind = random.uniform()
  const diameter = 19 * Math.exp(0.55 * random.normal())
  return {
    margin: kind < 0.4 ? 'circumscribed' : kind < 0.6 ? 'lobulated' : 'spiculated',
    diameterMm: Math.min(69, Math.max(3.4, diameter)),
    contrast: random.uniform(0.05, 0.12),
    depth: random.uniform(0.3, 0.75),
    across: random.uniform(-0.55, 0.55),
  }
}

/** Adds the mass at (cx, cy) to `field` and returns its contour. `perMm` is pixels per millimetre. */
export function addMass(
  field: Field,
  plan: MassPlan,
  cx: number,
  cy: number,
  perMm: number,
  random: RandomStream,
): MassTruth {
  const radius = (plan.diameterMm * perMm) / 2
  const outline = marginOutline(plan.margin, random)
  const stretch = random.uniform(0.82, 1)
  const turn = random.uniform(0, Math.PI)
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)]
  const edge =
    (plan.margin === 'spiculated' ? 0.35 : plan.margin === 'lobulated' ? 0.16 : 0.12) + 0.4 / Math.max(2, radius)
  const reach = Math.ceil(radius * 1.6) + 2
  const { width, height, data } = field
  for (let y = Math.max(0, Math.floor(cy) - reach); y < Math.min(height, cy + reach); y++) {
    for (let x = Math.max(0, Math.floor(cx) - reach); x < Math.min(width, cx + reach); x++) {
      const [dx, dy] = [x + 0.5 - cx, y + 0.5 - cy]
      const [u, v] = [(cos * dx + sin * dy) / radius, (cos * dy - sin * dx) / (radius * stretch)]
      const q = Math.hypot(u, v) / outline(Math.atan2(v, u))
      if (q >= 1 + edge) continue
      // A ball seen from the side, with a rim that fades over `edge` of the radius.
      const ball = 0.55 + 0.45 * Math.sqrt(Math.max(0, 1 - q * q))
      data[y * width + x]! += plan.contrast * ball * smoothStep((1 + edge - q) / (2 * edge))
    }
  }
  const at = (angle: number, share: number): [number, number] => {
    const r = outline(angle) * share
    const [u, v] = [r * radius * Math.cos(angle), r * radius * stretch * Math.sin(angle)]
    return [cx + cos * u - sin * v, cy + sin * u + cos * v]
  }
  if (plan.margin === 'spiculated') addSpicules(field, plan, at, radius, perMm, random)
  const count = Math.min(648, Math.max(14, Math.round((2 * Math.PI * radius) / 5)))
  const contour = Array.from({ length: count }, (_, i) => at((2 * Math.PI * i) / count, 1))
  return { margin: plan.margin, contour }
}

/** Radius over the angle, near 1. */
function marginOutline(margin: Margin, random: RandomStream): (angle: number) => number {
  const waves = margin === 'lobulated' ? [3, 4, 5] : [2, 3, 5, 7]
  const size = margin === 'lobulated' ? 0.11 : margin === 'spiculated' ? 0.06 : 0.025
  const terms = waves.map((n) => ({ n, a: size * random.uniform(0.3, 1), p: random.uniform(0, 2 * Math.PI) }))
  return (angle) => terms.reduce((r, { n, a, p }) => r + a * Math.cos(n * angle + p), 1)
}

/** 12 to 30 tapering lines that leave the core; the contour is the core's. */
function addSpicules(
  field: Field,
  plan: MassPlan,
  at: (angle: number, share: number) => [number, number],
  radius: number,
  perMm: number,
  random: RandomStream,
): void {
  const layer: Field = { width: field.width, height: field.height, data: field.data }
  const count = 12 + random.integer(19)
  for (let n = 0; n < count; n++) {
    const angle = (2 * Math.PI * (n + random.uniform(-0.4, 0.4))) / count
    const length = random.uniform(1.4, 2.3)
    const bend = random.uniform(-0.25, 0.25)
    const points = [0.8, 1.1, (1.1 + length) / 2, length].map((share, i) => at(angle + (bend * i) / 3, share))
    const thick = Math.max(0.5, random.uniform(0.15, 0.4) * perMm + radius * 0.03)
    const local = localCopy(layer, points, 3 * thick)
    stroke(
      local.field,
      local.points,
      (s) => thick * (1 - 0.8 * s),
      (s) => plan.contrast * 0.8 * (1 - s) ** 0.7,
    )
    local.addBack()
  }
}

/** A zero field around a path, to be added to the whole afterwards: overlapping strokes of one line must not add up. */
function localCopy(field: Field, points: [number, number][], margin: number) {
  const xs = points.map(([x]) => x)
  const ys = points.map(([, y]) => y)
  const x0 = Math.max(0, Math.floor(Math.min(...xs) - margin))
  const y0 = Math.max(0, Math.floor(Math.min(...ys) - margin))
  const width = Math.max(1, Math.min(field.width, Math.ceil(Math.max(...xs) + margin)) - x0)
  const height = Math.max(1, Math.min(field.height, Math.ceil(Math.max(...ys) + margin)) - y0)
  const part: Field = { width, height, data: new Float32Array(width * height) }
  return {
    field: part,
    points: points.map(([x, y]): [number, number] => [x - x0, y - y0]),
    addBack() {
      for (let y = 0; y < height; y++) {
        if (y + y0 >= field.height) break
        for (let x = 0; x < Math.min(width, field.width - x0); x++) {
          field.data[(y + y0) * field.width + x + x0]! += part.data[y * width + x]!
        }
      }
    },
  }
}
