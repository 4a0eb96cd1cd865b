// Windows for display only: how pipeline values become 8-bit grey for a picture. Training and prediction never use it. The window
// functions are those of DICOM PS3.3 C.11.2; without a window, percentiles 1 and 99 of the non-zero pixels.
import { type Lut, readLut } from './lut.js'
import { type DicomFile, itemsOf, NESTED, numberOf, numbersOf, TAGS, textOf } from './parse.js'

export type VoiFunction = 'LINEAR' | 'LINEAR_EXACT' | 'SIGMOID'

export type Voi = { kind: 'lut'; lut: Lut } | { kind: 'window'; centre: number; width: number; function: VoiFunction }

/** The display rule of a file; undefined when it has none. `index` chooses among several windows. */
export function voiOf({ elements }: DicomFile, index = 0): Voi | undefined {
  const groups = itemsOf(elements, TAGS.sharedGroups).flatMap((group) => itemsOf(group, NESTED.frameVoi))
  const signed = numberOf(elements, TAGS.pixelRepresentation) === 1
  for (const from of [elements, ...groups]) {
    const item = itemsOf(from, TAGS.voiLut)[0]
    const lut = item === undefined ? undefined : readLut(item, signed)
    if (lut !== undefined && index === 0) return { kind: 'lut', lut }
  }
  for (const from of [elements, ...groups]) {
    const centres = numbersOf(from, TAGS.windowCenter)
    const widths = numbersOf(from, TAGS.windowWidth)
    const n = Math.min(index, centres.length - 1, widths.length - 1)
    const [centre, width] = [centres[n], widths[n]]
    if (centre === undefined || width === undefined || !(width > 0)) continue
    const name = textOf(from, TAGS.voiFunction)
    return { kind: 'window', centre, width, function: name === 'SIGMOID' || name === 'LINEAR_EXACT' ? name : 'LINEAR' }
  }
  return undefined
}

/** Number of window pairs. */
export function windowCount({ elements }: DicomFile): number {
  return Math.min(numbersOf(elements, TAGS.windowCenter).length, numbersOf(elements, TAGS.windowWidth).length)
}

/** 0..255 of one value under a window. */
export function windowValue(value: number, voi: Extract<Voi, { kind: 'window' }>): number {
  const { centre, width } = voi
  if (voi.function === 'SIGMOID') return 255 / (1 + Math.exp((-4 * (value - centre)) / width))
  const [c, w] = voi.function === 'LINEAR' ? [centre - 0.5, width - 1] : [centre, width]
  if (value <= c - w / 2) return 0
  if (value > c + w / 2) return 255
  return ((value - c) / w + 0.5) * 255
}

/** 8-bit grey of 16-bit pixels, 0 staying 0 without a rule. Pixels and rule must be in the same values: not inverted, not shifted. */
export function displayPixels(pixels: Uint16Array, voi: Voi | undefined): Uint8Array {
  const table = new Uint8Array(65536)
  if (voi?.kind === 'lut') {
    const { lut } = voi
    const scale = 255 / (2 ** lut.bits - 1)
    for (let value = 0; value < 65536; value++) {
      const entry = lut.data[Math.min(lut.data.length - 1, Math.max(0, value - lut.first))]!
      table[value] = Math.min(255, Math.round(entry * scale))
    }
  } else if (voi?.kind === 'window') {
    for (let value = 0; value < 65536; value++) table[value] = Math.round(windowValue(value, voi))
  } else {
    const [low, high] = percentiles(pixels)
    for (let value = 1; value < 65536; value++) {
      table[value] = Math.max(0, Math.min(255, Math.round((255 * (value - low)) / Math.max(1, high - low))))
    }
  }
  const result = new Uint8Array(pixels.length)
  for (let i = 0; i < pixels.length; i++) result[i] = table[pixels[i]!]!
  return result
}

/** Values below which 1 % and 99 % of the non-zero pixels lie. */
function percentiles(pixels: Uint16Array): [number, number] {
  const counts = new Uint32Array(65536)
  let total = 0
  for (const value of pixels) {
    if (value === 0) continue
    counts[value]!++
    total++
  }
  const at = (share: number) => {
    let sum = 0
    for (let value = 1; value < 65536; value++) {
      sum += counts[value]!
      if (sum >= share * total) return value
    }
    return 65535
  }
  return total === 0 ? [0, 1] : [at(0.01), at(0.99)]
}
