// From the fragments of encapsulated pixel data to the byte stream of each frame. Offset tables may be empty, missing or wrong, and
// a frame may be split into any number of fragments (DICOM PS3.5 annex A.4). Frames are found by lengths and offsets; only
// where neither decides, by the marker a stream begins with at the start of a fragment.
import { DataError } from '../../errors.js'

export interface Fragment {
  start: number
  length: number
}

export interface FragmentLayout {
  fragments: readonly Fragment[]
  /** Basic offset table, from the first item header; may be empty. */
  offsets: readonly number[]
  /** Extended offset table (7FE0,0001); may be empty. */
  extendedOffsets: readonly number[]
  frames: number
}

/** Fragments of each frame. Throws ERR_MAMMO_PIXEL_DATA when frames and fragments cannot be brought together. */
export function groupFragments(layout: FragmentLayout, data: Uint8Array, where: string): Fragment[][] {
  const { fragments, frames } = layout
  if (frames === 1 && fragments.length > 0) return [[...fragments]]
  const byTable = groupByOffsets(layout, layout.offsets) ?? groupByOffsets(layout, layout.extendedOffsets)
  if (byTable !== undefined) return byTable
  if (fragments.length === frames) return fragments.map((fragment) => [fragment])
  const byMarker = groupByMarker(fragments, data)
  if (byMarker.length === frames) return byMarker
  throw new DataError(
    'PIXEL_DATA',
    `expected ${frames} frames, got ${fragments.length} fragments that do not form them`,
    {
      where,
      fix: 'the file is damaged: get it from its source again',
      details: { rule: 'dicom/fragments' },
    },
  )
}

/** The bytes of a frame: a view where it is one fragment, else a copy. */
export function joinFragments(fragments: readonly Fragment[], data: Uint8Array): Uint8Array {
  const [first] = fragments
  if (fragments.length === 1 && first !== undefined) return data.subarray(first.start, first.start + first.length)
  const whole = new Uint8Array(fragments.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const { start, length } of fragments) {
    whole.set(data.subarray(start, start + length), at)
    at += length
  }
  return whole
}

/** Undefined when the table is not one entry per frame, each at the header of a fragment, the first at 0. */
function groupByOffsets({ fragments, frames }: FragmentLayout, offsets: readonly number[]): Fragment[][] | undefined {
  const [first] = fragments
  if (offsets.length !== frames || first === undefined || offsets[0] !== 0) return undefined
  const groups: Fragment[][] = []
  for (const fragment of fragments) {
    const offset = fragment.start - first.start
    if (offset === offsets[groups.length]) groups.push([])
    groups.at(-1)!.push(fragment)
  }
  return groups.length === frames ? groups : undefined
}

function groupByMarker(fragments: readonly Fragment[], data: Uint8Array): Fragment[][] {
  const groups: Fragment[][] = []
  for (const fragment of fragments) {
    const begins = groups.length === 0 || isStreamStart(data, fragment.start)
    if (begins) groups.push([])
    groups.at(-1)!.push(fragment)
  }
  return groups
}

/** Start of a JPEG or JPEG-LS stream (SOI and a marker) or of a JPEG 2000 codestream (SOC, SIZ). */
function isStreamStart(data: Uint8Array, at: number): boolean {
  const [a, b, c, d] = [data[at], data[at + 1], data[at + 2], data[at + 3]]
  return (a === 0xff && b === 0xd8 && c === 0xff) || (a === 0xff && b === 0x4f && c === 0xff && d === 0x51)
}
