// Builds small DICOM files for tests, explicit little endian unless told otherwise, from a list of elements. Knows just enough of the
// format to write good and deliberately bad files; it shares no code with the reader.
import { TAGS } from '../../lib/data/dicom/parse.js'

export interface Part {
  tag: number
  vr: string
  value: string | number | readonly number[] | Uint8Array | readonly (readonly Part[])[]
  /** Declares another length than the value has. */
  length?: number
}

export interface ImageSpec {
  rows: number
  columns: number
  values: ArrayLike<number>
  bitsAllocated?: 8 | 16
  bitsStored?: number
  highBit?: number
  signed?: boolean
  photometric?: string
  sopClass?: string
  modality?: string
  syntax?: string
  extra?: readonly Part[]
  /** Encapsulated pixel data instead of `values`. */
  fragments?: readonly Uint8Array[]
  offsets?: readonly number[]
  frames?: number
}

export const MG = '1.2.840.10008.5.1.4.1.1.1.2'
const PIXELS = 0x7fe00010
const LONG = new Set(['OB', 'OW', 'SQ', 'UN', 'UT'])

export function buildImage(spec: ImageSpec): Buffer {
  const { rows, columns, values, bitsAllocated = 16, bitsStored = bitsAllocated, signed = false } = spec
  const head: Part[] = [
    { tag: TAGS.sopClass, vr: 'UI', value: spec.sopClass ?? MG },
    { tag: TAGS.sopInstance, vr: 'UI', value: '1.2.3.4' },
    { tag: TAGS.modality, vr: 'CS', value: spec.modality ?? 'MG' },
    { tag: TAGS.samplesPerPixel, vr: 'US', value: 1 },
    { tag: TAGS.photometric, vr: 'CS', value: spec.photometric ?? 'MONOCHROME2' },
    { tag: TAGS.rows, vr: 'US', value: rows },
    { tag: TAGS.columns, vr: 'US', value: columns },
    { tag: TAGS.bitsAllocated, vr: 'US', value: bitsAllocated },
    { tag: TAGS.bitsStored, vr: 'US', value: bitsStored },
    { tag: TAGS.highBit, vr: 'US', value: spec.highBit ?? bitsStored - 1 },
    { tag: TAGS.pixelRepresentation, vr: 'US', value: signed ? 1 : 0 },
  ]
  if (spec.frames !== undefined) head.push({ tag: TAGS.frames, vr: 'IS', value: String(spec.frames) })
  const own = new Set((spec.extra ?? []).map(({ tag }) => tag))
  const parts = [...head.filter(({ tag }) => !own.has(tag)), ...(spec.extra ?? [])].sort((a, b) => a.tag - b.tag)
  const pixels =
    spec.fragments === undefined
      ? element({ tag: PIXELS, vr: bitsAllocated === 8 ? 'OB' : 'OW', value: cells(values, bitsAllocated) })
      : encapsulate(spec.fragments, spec.offsets ?? [])
  return buildFile(Buffer.concat([...parts.map(element), pixels]), spec.syntax)
}

/** Preamble, meta information and a data set. */
export function buildFile(dataset: Uint8Array, syntax = '1.2.840.10008.1.2.1'): Buffer {
  const uid = element({ tag: 0x00020010, vr: 'UI', value: syntax })
  const length = element({ tag: 0x00020000, vr: 'UL', value: uid.length })
  return Buffer.concat([Buffer.alloc(128), Buffer.from('DICM'), length, uid, dataset])
}

export function element({ tag, vr, value, length }: Part): Buffer {
  const content = bytesOf(vr, value)
  const header = Buffer.alloc(LONG.has(vr) ? 12 : 8)
  header.writeUInt16LE(tag >>> 16, 0)
  header.writeUInt16LE(tag & 0xffff, 2)
  header.write(vr, 4, 'latin1')
  if (LONG.has(vr)) header.writeUInt32LE(length ?? content.length, 8)
  else header.writeUInt16LE(length ?? content.length, 6)
  return Buffer.concat([header, content])
}

export function encapsulate(fragments: readonly Uint8Array[], offsets: readonly number[]): Buffer {
  const header = Buffer.alloc(12)
  header.writeUInt16LE(0x7fe0, 0)
  header.writeUInt16LE(0x0010, 2)
  header.write('OB', 4, 'latin1')
  header.writeUInt32LE(0xffffffff, 8)
  const table = Buffer.alloc(4 * offsets.length)
  for (const [n, offset] of offsets.entries()) table.writeUInt32LE(offset, 4 * n)
  return Buffer.concat([header, ...[table, ...fragments].map((each) => item(each)), delimiter(0xe0dd)])
}

/** A sequence of one item, nested `depth` deep. */
export function nest(depth: number): Buffer {
  let inner: Buffer = Buffer.alloc(0)
  for (let n = 0; n < depth; n++) inner = element({ tag: 0x00400275, vr: 'SQ', value: item(inner) })
  return inner
}

function item(content: Uint8Array): Buffer {
  const padded = content.length % 2 === 0 ? content : Buffer.concat([content, Buffer.alloc(1)])
  const header = Buffer.alloc(8)
  header.writeUInt16LE(0xfffe, 0)
  header.writeUInt16LE(0xe000, 2)
  header.writeUInt32LE(padded.length, 4)
  return Buffer.concat([header, padded])
}

function delimiter(low: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt16LE(0xfffe, 0)
  bytes.writeUInt16LE(low, 2)
  return bytes
}

function bytesOf(vr: string, value: Part['value']): Buffer {
  if (value instanceof Uint8Array) return Buffer.from(value)
  if (vr === 'SQ') {
    const items = value as readonly (readonly Part[])[]
    return Buffer.concat(items.map((parts) => item(Buffer.concat(parts.map(element)))))
  }
  if (typeof value === 'string') {
    const pad = vr === 'UI' ? '\0' : ' '
    return Buffer.from(value.length % 2 === 0 ? value : value + pad, 'latin1')
  }
  const numbers = typeof value === 'number' ? [value] : (value as readonly number[])
  if (vr === 'UL') {
    const bytes = Buffer.alloc(4 * numbers.length)
    for (const [n, v] of numbers.entries()) bytes.writeUInt32LE(v, 4 * n)
    return bytes
  }
  return cells(numbers, 16)
}

export function cells(values: ArrayLike<number>, bits: 8 | 16): Buffer {
  if (bits === 8) return Buffer.from(Uint8Array.from(values))
  const bytes = Buffer.alloc(2 * values.length)
  for (let i = 0; i < values.length; i++) bytes.writeUInt16LE(values[i]! & 0xffff, 2 * i)
  return bytes
}
