// Side and view of a DICOM mammogram, in the order of datasets spec 3.5. Codes: DICOM PS3.16 context group 4014, SNOMED-RT and CT.
import type { Laterality, View } from '../types.js'
import { type Elements, itemsOf, NESTED, TAGS, textOf } from './parse.js'

/** ViewPosition values and code values. */
const views: Record<string, View> = {
  CC: 'CC',
  MLO: 'MLO',
  ML: 'ML',
  LM: 'LM',
  FB: 'FB',
  'R-10242': 'CC',
  '399162004': 'CC',
  'R-10226': 'MLO',
  '399368009': 'MLO',
  'R-10224': 'ML',
  '399260004': 'ML',
  'R-10228': 'LM',
  '399352003': 'LM',
  'R-10244': 'FB',
  '399196006': 'FB',
}

/** View by ViewPosition, else by code; `other` for one that is none of ours, null when the file names none. */
export function viewOf(elements: Elements): View | null {
  const position = textOf(elements, TAGS.viewPosition).toUpperCase()
  if (views[position] !== undefined) return views[position]
  const codes = itemsOf(elements, TAGS.viewCode).map((item) => textOf(item, NESTED.codeValue))
  for (const code of codes) if (views[code] !== undefined) return views[code]
  return position !== '' || codes.length > 0 ? 'other' : null
}

/** Side by ImageLaterality, else Laterality; null for both sides or none. */
export function lateralityOf(elements: Elements): Laterality | null {
  for (const tag of [TAGS.imageLaterality, TAGS.laterality]) {
    const side = textOf(elements, tag)
    if (side === 'L' || side === 'R') return side
  }
  return null
}

/**
 * The side that PatientOrientation implies: rows that run towards the front (A) begin at the chest wall, as those of a left breast do; rows
 * towards the back (P) end there. Null where it says neither. It only confirms.
 */
export function lateralityOfOrientation(elements: Elements): Laterality | null {
  const row = textOf(elements, TAGS.patientOrientation)
  if (row.startsWith('A')) return 'L'
  return row.startsWith('P') ? 'R' : null
}

/** The view that a table or file name writes: `MLO`, `ml`, `CC`, ...; `other` for unknown text, null for none. */
export function viewFromText(text: string): View | null {
  const key = text.trim().toUpperCase()
  if (key === '') return null
  return views[key] ?? 'other'
}

/** The side that a table or file name writes: `L`, `left`, `RIGHT`, ...; null for other text. */
export function lateralityFromText(text: string): Laterality | null {
  const key = text.trim().toUpperCase()
  if (key === 'L' || key === 'LEFT') return 'L'
  return key === 'R' || key === 'RIGHT' ? 'R' : null
}

/**
 * The side by which edge the tissue touches: the left breast lies at the left edge of the image, the right one at the right.
 * Compares the sums of the two outer eighths; null when they are alike. It only confirms, nothing is flipped by it.
 */
export function lateralityOfPixels(pixels: Uint16Array, width: number, height: number): Laterality | null {
  const band = Math.max(1, Math.floor(width / 8))
  const step = Math.max(1, Math.floor(height / 256))
  let left = 0
  let right = 0
  for (let y = 0; y < height; y += step) {
    const row = y * width
    for (let x = 0; x < band; x++) {
      left += pixels[row + x]!
      right += pixels[row + width - 1 - x]!
    }
  }
  if (left > 2 * right) return 'L'
  return right > 2 * left ? 'R' : null
}
