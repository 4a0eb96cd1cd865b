// The shape of a breast in one view: where the skin is in each row, and where the chest muscle is. Left breasts, chest wall at
// x = 0; right ones are mirrored by the caller. Lengths are in pixels of the image.
import type { RandomStream } from '../../random.js'

export type PhantomView = 'CC' | 'MLO'

/** Shape shared by the views of one breast, as shares of the image. */
export interface BreastShape {
  /** Chest wall to nipple over the image's width. */
  depth: number
  /** Half extent along the chest wall over the image's height. */
  half: number
  exponent: number
}

export interface Outline {
  /** x of the skin in each row, 0 where there is no breast. */
  skin: Float32Array
  /** x of the muscle's edge in each row, 0 where there is none. */
  muscle: Float32Array
  nipple: [number, number]
  /** Centre of the breast along the chest wall, and the extents. */
  centreY: number
  depth: number
  half: number
}

export function planShape(random: RandomStream): BreastShape {
  return { depth: random.uniform(0.5, 0.82), half: random.uniform(0.27, 0.4), exponent: random.uniform(1.9, 2.5) }
}

export function breastOutline(
  shape: BreastShape,
  view: PhantomView,
  width: number,
  height: number,
  random: RandomStream,
): Outline {
  const depth = shape.depth * width * random.uniform(0.95, 1.03)
  const half = shape.half * height * (view === 'MLO' ? 0.92 : 1)
  const centreY = height * (view === 'MLO' ? random.uniform(0.56, 0.62) : random.uniform(0.46, 0.54))
  const p = shape.exponent
  const skin = new Float32Array(height)
  const muscle = new Float32Array(height)
  // The axilla of an oblique view: a band of tissue that reaches the upper edge.
  const axilla = depth * random.uniform(0.5, 0.68)
  const lean = random.uniform(-0.12, 0.18)
  const bumpHeight = random.uniform(0.012, 0.022) * height
  const bump = random.uniform(0.018, 0.035) * depth
  const nippleY = centreY + (view === 'MLO' ? random.uniform(0.02, 0.12) : random.uniform(-0.05, 0.05)) * half
  for (let y = 0; y < height; y++) {
    const t = Math.abs(y + 0.5 - centreY) / half
    let x = t < 1 ? depth * (1 - t ** p) ** (1 / p) : 0
    if (view === 'MLO' && y < centreY) {
      const s = (centreY - y) / centreY
      const band = axilla * (1 - 0.25 * s + lean * s * s)
      // Smooth maximum of the two curves, so that the skin has no corner.
      x = 0.5 * (x + band + Math.sqrt((x - band) ** 2 + (0.16 * depth) ** 2))
      x = Math.min(x, depth)
    }
    x += x > 0 ? bump * Math.exp(-(((y - nippleY) / bumpHeight) ** 2)) : 0
    skin[y] = Math.min(x, width)
  }
  if (view === 'MLO') {
    const top = depth * random.uniform(0.42, 0.62)
    const bottom = centreY + half * random.uniform(-0.1, 0.35)
    const curve = random.uniform(-0.08, 0.12)
    for (let y = 0; y < Math.min(height, bottom); y++) {
      const s = y / bottom
      muscle[y] = top * (1 - s + curve * Math.sin(Math.PI * s))
    }
  }
  return { skin, muscle, nipple: [skin[Math.round(nippleY)]!, nippleY], centreY, depth, half }
}

/** Distance of a pixel to the skin, to first order: along the row, corrected by the slope of the skin. */
export function skinSlopes(skin: Float32Array): Float32Array {
  return skin.map((x, y) => {
    const before = skin[Math.max(0, y - 2)]!
    const after = skin[Math.min(skin.length - 1, y + 2)]!
    const slope = (after - before) / 4
    return x === 0 ? 0 : 1 / Math.sqrt(1 + slope * slope)
  })
}
