// One synthetic mammogram: 12-bit pixels and the truth in it, for first runs and tests; no clinical evidence. Anatomy in layers:
// outline, fat and gland with fractal texture, ligaments, vessels, muscle, masses, distractors, skin, noise (datasets spec 5).
// Deterministic: every layer has its own random stream keyed by (seed, breast or image, layer).
import { type RandomStream, randomStream } from '../../random.js'
import { GLYPH_HEIGHT, GLYPH_WIDTH, glyphPixel } from '../glyphs.js'
import { addMass, type MassPlan, type MassTruth, planMass } from './mass.js'
import { type BreastShape, breastOutline, type Outline, type PhantomView, planShape, skinSlopes } from './outline.js'
import { type Field, fractalNoise, hashSigned, newField, smoothStep, stroke, wander } from './texture.js'

export type { PhantomView } from './outline.js'

/** A breast: what its views share. */
export interface BreastPlan {
  side: 'L' | 'R'
  shape: BreastShape
  /** ACR 1..4: share and brightness of gland. */
  density: 1 | 2 | 3 | 4
  masses: MassPlan[]
  /** Key of the breast's streams. */
  key: number
}

export interface PhantomPlan {
  seed: number
  /** Number of the image, key of its streams. */
  image: number
  breast: BreastPlan
  view: PhantomView
  width: number
  height: number
}

export interface Phantom {
  /** 12-bit values; background exactly 0, tissue at least 1. */
  pixels: Uint16Array
  masses: MassTruth[]
  /** Centres of calcifications. */
  calcifications: [number, number][]
}

/** Height of the detector in mm: INbreast's 3328 rows of 0.07 mm. */
const DETECTOR_MM = 3328 * 0.07

/** A breast of patient shape and density; `positive` breasts have one mass, one in eight two. */
export function planBreast(
  seed: number,
  key: number,
  side: 'L' | 'R',
  shape: BreastShape,
  density: 1 | 2 | 3 | 4,
  positive: boolean,
): BreastPlan {
  const random = randomStream(seed, 'breast', key)
  const masses = positive ? [planMass(random)] : []
  if (positive && random.uniform() < 0.125) masses.push(planMass(random))
  return { side, shape, density, masses, key }
}

export { planShape }

export function makePhantom(plan: PhantomPlan): Phantom {
  const { seed, image, breast, view, width, height } = plan
  const stream = (layer: string) => randomStream(seed, 'image', image, layer)
  const perMm = height / DETECTOR_MM
  const outline = breastOutline(breast.shape, view, width, height, stream('outline'))
  const field = tissue(plan, outline, perMm)
  addLines(field, outline, perMm, stream('lines'))
  if (view === 'MLO') addNodes(field, outline, perMm, stream('nodes'))
  const masses = breast.masses.map((mass, n) => {
    const random = randomStream(seed, 'mass', breast.key, n)
    const [cx, cy] = massPlace(mass, outline, view, perMm)
    return addMass(field, mass, cx, cy, perMm, random)
  })
  const calcifications = addCalcifications(field, outline, perMm, stream('calcifications'))
  const pixels = expose(field, outline, perMm, stream('noise').uint32() | 0)
  if (breast.side === 'R') {
    mirror(pixels, width, height)
    for (const { contour } of masses) for (const point of contour) point[0] = width - point[0]
    for (const point of calcifications) point[0] = width - point[0]
  }
  stampLabel(pixels, width, height, breast.side, view)
  return { pixels, masses, calcifications }
}

/** Fat, gland and muscle without lines. Values are shares of the full signal. */
function tissue(plan: PhantomPlan, outline: Outline, perMm: number): Field {
  const { seed, image, breast, view, width, height } = plan
  const key = `${image}`
  const texture = fractalNoise(width, height, seed, `texture ${key}`, 3.3)
  // The disc of gland: the breast's own coarse pattern decides where it is torn into islands.
  const pattern = fractalNoise(width, height, seed, `pattern ${key}`, 3.4)
  const { skin, muscle, nipple, centreY, depth, half } = outline
  const reach = [0, 0.52, 0.68, 0.85, 1.02][breast.density]!
  const bright = [0, 0.13, 0.19, 0.25, 0.3][breast.density]!
  const discX = nipple[0] - depth * 0.42
  const discY = view === 'MLO' ? (centreY + nipple[1]) / 2 : centreY
  const field = newField(width, height)
  const soft = 6 * perMm
  for (let y = 0; y < height; y++) {
    const edge = skin[y]!
    if (edge === 0) continue
    const v = (y - discY) / (half * 0.8 * reach)
    for (let x = 0; x < edge; x++) {
      const at = y * width + x
      const u = (x - discX) / (depth * 0.58 * reach)
      const noise = texture.data[at]!
      const gland = smoothStep(0.42 + 0.5 * (1 - u * u - v * v) + 0.2 * pattern.data[at]!)
      let value = 0.3 + 0.03 * noise + gland * (bright + 0.035 * noise + 0.012 * pattern.data[at]!)
      const inside = muscle[y]! - x
      if (inside > -soft) {
        const m = smoothStep((inside + soft) / (2 * soft))
        value += m * (0.22 + 0.08 * smoothStep(inside / (depth * 0.5)) + 0.008 * noise - gland * bright * 0.7)
      }
      field.data[at] = value
    }
  }
  return field
}

/** Ligaments that arch from the skin into the gland, ducts that meet at the nipple, and vessels with parallel courses. */
function addLines(field: Field, outline: Outline, perMm: number, random: RandomStream): void {
  const { width, height } = field
  const layer = newField(width, height)
  const { nipple, centreY, depth, half } = outline
  const place = (): [number, number] => [
    random.uniform(0.05, 0.9) * depth,
    centreY + random.uniform(-0.85, 0.85) * half,
  ]
  const line = (points: [number, number][], radius: number, value: number) =>
    stroke(
      layer,
      points,
      (s) => radius * (1 - 0.6 * Math.abs(2 * s - 1)),
      (s) => value * (1 - 0.7 * Math.abs(2 * s - 1)),
    )
  for (let n = 0; n < 240; n++) {
    const [x, y] = place()
    const towards = Math.atan2(nipple[1] - y, nipple[0] - x)
    const angle = random.uniform() < 0.75 ? towards + random.uniform(-0.45, 0.45) : random.uniform(0, 2 * Math.PI)
    line(
      wander(x, y, angle, 5, random.uniform(2, 8) * perMm, 0.4, random),
      random.uniform(0.2, 0.7) * perMm,
      random.uniform(0.008, 0.035),
    )
  }
  for (let n = 0; n < 9; n++) {
    const angle = Math.PI + random.uniform(-0.7, 0.7)
    line(
      wander(nipple[0] - 3 * perMm, nipple[1], angle, 7, random.uniform(4, 8) * perMm, 0.3, random),
      random.uniform(0.3, 0.6) * perMm,
      random.uniform(0.03, 0.06),
    )
  }
  for (let n = 3 + random.integer(4); n > 0; n--) {
    const [x, y] = place()
    const points = wander(x * 0.5, y, random.uniform(-0.6, 0.6), 9, random.uniform(7, 12) * perMm, 0.4, random)
    line(points, random.uniform(0.6, 1.3) * perMm, random.uniform(0.035, 0.065))
  }
  for (let i = 0; i < layer.data.length; i++) field.data[i]! += layer.data[i]!
}

/** Lymph nodes near the axilla: ovals with a dark fatty notch. */
function addNodes(field: Field, outline: Outline, perMm: number, random: RandomStream): void {
  for (let n = random.integer(4); n > 0; n--) {
    const cy = outline.centreY * random.uniform(0.08, 0.45)
    const cx = outline.skin[Math.round(cy)]! * random.uniform(0.25, 0.75)
    const [a, b] = [random.uniform(3, 9) * perMm, random.uniform(2, 5) * perMm]
    const turn = random.uniform(0, Math.PI)
    const contrast = random.uniform(0.05, 0.12)
    disc(field, cx, cy, a, b, turn, contrast)
    disc(field, cx + 0.3 * a * Math.cos(turn), cy + 0.3 * a * Math.sin(turn), 0.45 * a, 0.4 * b, turn, -0.8 * contrast)
  }
}

function disc(field: Field, cx: number, cy: number, a: number, b: number, turn: number, value: number): void {
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)]
  const reach = Math.ceil(1.3 * Math.max(a, b))
  for (let y = Math.max(0, Math.floor(cy) - reach); y < Math.min(field.height, cy + reach); y++) {
    for (let x = Math.max(0, Math.floor(cx) - reach); x < Math.min(field.width, cx + reach); x++) {
      const [dx, dy] = [x + 0.5 - cx, y + 0.5 - cy]
      const q = Math.hypot((cos * dx + sin * dy) / a, (cos * dy - sin * dx) / b)
      field.data[y * field.width + x]! += value * smoothStep((1.15 - q) / 0.3)
    }
  }
}

/** Where a mass lies in a view: depth from the chest wall is shared, the other coordinate is projected. Kept off the skin. */
function massPlace(mass: MassPlan, outline: Outline, view: PhantomView, perMm: number): [number, number] {
  const radius = (mass.diameterMm * perMm) / 2
  const across = view === 'CC' ? mass.across : 0.75 * mass.across + 0.15
  const cy = outline.centreY + across * outline.half * 0.8
  const skin = outline.skin[Math.min(outline.skin.length - 1, Math.max(0, Math.round(cy)))]!
  const limit = Math.max(0.2 * skin, skin - radius - 6 * perMm)
  return [Math.min(limit, Math.max(radius * 0.6, mass.depth * skin)), cy]
}

/** A cluster of 3 to 12 specks in one image of eight. */
function addCalcifications(field: Field, outline: Outline, perMm: number, random: RandomStream): [number, number][] {
  if (random.uniform() >= 0.125) return []
  const cx = outline.depth * random.uniform(0.3, 0.7)
  const cy = outline.centreY + outline.half * random.uniform(-0.5, 0.5)
  return Array.from({ length: 3 + random.integer(10) }, () => {
    const [x, y] = [cx + 5 * perMm * random.normal() * 0.5, cy + 5 * perMm * random.normal() * 0.5]
    const radius = Math.max(0.7, random.uniform(0.1, 0.3) * perMm)
    disc(field, x, y, radius, radius, 0, random.uniform(0.1, 0.25))
    return [x, y]
  })
}

/** Rolls the signal off towards the skin, adds skin and noise, rounds to 12 bits. Outside the skin is 0. */
function expose(field: Field, outline: Outline, perMm: number, noiseKey: number): Uint16Array {
  const { width, height, data } = field
  const pixels = new Uint16Array(width * height)
  const cosines = skinSlopes(outline.skin)
  const rim = 13 * perMm
  const skinWidth = 1.3 * perMm
  for (let y = 0; y < height; y++) {
    const edge = outline.skin[y]!
    const cosine = Math.max(0.02, cosines[y]!)
    for (let x = 0; x < edge; x++) {
      const distance = (edge - x) * cosine
      const t = Math.max(0, 1 - distance / rim)
      const thickness = 0.18 + 0.82 * Math.sqrt(1 - t * t)
      const skin = distance < skinWidth ? 0.05 * Math.sin((Math.PI * distance) / skinWidth) : 0
      const signal = data[y * width + x]! * thickness + skin
      const index = y * width + x
      const grain = hashSigned(noiseKey, index) + hashSigned(noiseKey ^ 0x5bd1e995, index)
      const value = 3500 * signal + 0.22 * Math.sqrt(Math.max(0, 3500 * signal)) * grain
      pixels[index] = Math.min(4095, Math.max(1, Math.round(value)))
    }
  }
  return pixels
}

function mirror(pixels: Uint16Array, width: number, height: number): void {
  for (let y = 0; y < height; y++) pixels.subarray(y * width, (y + 1) * width).reverse()
}

/** A bright label such as `RCC` in the upper corner away from the breast. */
function stampLabel(pixels: Uint16Array, width: number, height: number, side: 'L' | 'R', view: PhantomView): void {
  const text = `${side}${view}`
  const scale = Math.max(1, Math.round(height / 260))
  const length = text.length * (GLYPH_WIDTH + 1) * scale
  const x0 = side === 'L' ? width - length - 3 * scale : 3 * scale
  const y0 = 4 * scale
  for (const [n, character] of [...text].entries()) {
    for (let v = 0; v < GLYPH_HEIGHT * scale; v++) {
      for (let u = 0; u < GLYPH_WIDTH * scale; u++) {
        if (!glyphPixel(character, Math.floor(u / scale), Math.floor(v / scale))) continue
        const [x, y] = [x0 + n * (GLYPH_WIDTH + 1) * scale + u, y0 + v]
        if (x >= 0 && x < width && y < height) pixels[y * width + x] = 3600
      }
    }
  }
}
