// Walks the element structure of a DICOM file: finds where elements lie, checks every declared length against the file before
// anything is read or allocated, and bounds nesting. It interprets no value but the transfer syntax; parse.ts does, on the few
// elements that are asked for. Linear in the file size. Structure: DICOM PS3.5 section 7 and annex A, PS3.10 section 7.
import { createInflateRaw } from 'node:zlib'
import { DataError } from '../../errors.js'

/** Deepest nesting of sequences that is followed. */
export const MAX_DEPTH = 64
/** Largest size of an inflated data set. */
export const MAX_INFLATED = 2 ** 30

export const DEFLATED = '1.2.840.10008.1.2.1.99'
export const BIG_ENDIAN = '1.2.840.10008.1.2.2'
export const IMPLICIT = '1.2.840.10008.1.2'
export const EXPLICIT = '1.2.840.10008.1.2.1'

const PIXEL_DATA = 0x7fe00010
const ITEM = 0xfffee000
const ITEM_END = 0xfffee00d
const SEQUENCE_END = 0xfffee0dd
const UNDEFINED = 0xffffffff

/** Where an element of the data set lies; offsets in `Scan.data`. */
export interface ElementPlace {
  tag: number
  /** Two letters; empty in implicit files. */
  vr: string
  start: number
  valueStart: number
  end: number
}

export interface PixelPlace {
  vr: string
  start: number
  /** Of native pixel data; 0 when encapsulated. */
  length: number
  /** Fragments of encapsulated pixel data, without the offset table; undefined when native. */
  fragments: { start: number; length: number }[] | undefined
  /** Offset table, in bytes from the first fragment's item header. */
  offsets: number[]
}

export interface Scan {
  /** The file, or the inflated data set of a deflated one. */
  data: Uint8Array
  transferSyntax: string
  /** The file did not name its transfer syntax. */
  sniffed: boolean
  mediaStorageSopClass: string
  littleEndian: boolean
  explicit: boolean
  elements: Map<number, ElementPlace>
  pixels: PixelPlace | undefined
  /** Why the walk ended early; what lies before is usable. Not set by what follows the pixel data. */
  fault: DataError | undefined
}

interface Reader {
  view: DataView
  bytes: Uint8Array
  /** Bytes in `bytes` may be fewer than the file has. */
  total: number
  little: boolean
  explicit: boolean
  where: string
}

/** Internal: the bytes at hand end before the header does. */
export class NeedMore extends Error {}

/**
 * Scans a file. `wanted` are the tags whose places are kept. With `total` above `bytes.length`, `bytes` is the beginning of
 * a file of that size and the function throws NeedMore when the header does not fit; fragments are then not walked.
 * Throws ERR_MAMMO_DICOM for what is no DICOM file, ERR_MAMMO_TOO_LARGE for a deflated data set beyond MAX_INFLATED.
 */
export async function scanDicom(
  bytes: Uint8Array,
  where: string,
  wanted: ReadonlySet<number>,
  total = bytes.length,
): Promise<Scan> {
  let data = bytes
  let { at, transferSyntax, mediaStorageSopClass } = readMeta(bytes, total, where)
  const sniffed = transferSyntax === ''
  if (transferSyntax === DEFLATED) {
    if (total > bytes.length) throw new NeedMore()
    data = await inflate(bytes.subarray(at), where)
    total = data.length
    at = 0
  }
  if (sniffed) transferSyntax = sniff(data, at, where)
  // Some writers leave the data set of a compressed file implicit although every such syntax is explicit.
  const explicit = transferSyntax !== IMPLICIT && (at + 6 > data.length || isLetters(data, at + 4))
  const reader: Reader = {
    view: new DataView(data.buffer, data.byteOffset, data.byteLength),
    bytes: data,
    total,
    little: transferSyntax !== BIG_ENDIAN,
    explicit,
    where,
  }
  const scan: Scan = {
    data,
    transferSyntax,
    sniffed,
    mediaStorageSopClass,
    littleEndian: reader.little,
    explicit: reader.explicit,
    elements: new Map(),
    pixels: undefined,
    fault: undefined,
  }
  try {
    walkDataset(reader, at, wanted, scan)
  } catch (error) {
    if (!(error instanceof DataError)) throw error
    scan.fault = error
  }
  return scan
}

function walkDataset(reader: Reader, start: number, wanted: ReadonlySet<number>, scan: Scan): void {
  let at = start
  while (at < reader.total) {
    // Fewer bytes than an element needs: padding of the file.
    if (reader.total - at < 8) return
    const header = readHeader(reader, at)
    if (header.tag === PIXEL_DATA) {
      scan.pixels = locatePixels(reader, header)
      return
    }
    const end = elementEnd(reader, header, wanted.has(header.tag), 0)
    if (wanted.has(header.tag) && !scan.elements.has(header.tag)) {
      if (end > reader.bytes.length) throw new NeedMore()
      scan.elements.set(header.tag, { tag: header.tag, vr: header.vr, start: at, valueStart: header.valueStart, end })
    }
    at = end
  }
}

interface Header {
  tag: number
  vr: string
  start: number
  valueStart: number
  length: number
}

const LONG = new Set(['OB', 'OD', 'OF', 'OL', 'OV', 'OW', 'SQ', 'SV', 'UC', 'UN', 'UR', 'UT', 'UV'])

function readHeader(reader: Reader, at: number): Header {
  const { view, little } = reader
  need(reader, at, 8)
  const tag = view.getUint16(at, little) * 0x10000 + view.getUint16(at + 2, little)
  // Items and delimiters have no value representation in any syntax.
  if (!reader.explicit || tag >>> 16 === 0xfffe) {
    return { tag, vr: '', start: at, valueStart: at + 8, length: view.getUint32(at + 4, little) }
  }
  const vr = String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5))
  if (!/^[A-Z]{2}$/.test(vr)) throw fault(reader, `a value representation of two letters in element ${show(tag)}`)
  if (!LONG.has(vr)) return { tag, vr, start: at, valueStart: at + 8, length: view.getUint16(at + 6, little) }
  need(reader, at, 12)
  return { tag, vr, start: at, valueStart: at + 12, length: view.getUint32(at + 8, little) }
}

/** Where an element ends. Follows sequences to check their structure. */
function elementEnd(reader: Reader, header: Header, needed: boolean, depth: number): number {
  const { tag, vr, valueStart, length } = header
  if (length !== UNDEFINED) {
    const end = valueStart + length
    if (end > reader.total) {
      throw beyond(reader, `element ${show(tag)}`, valueStart, length)
    }
    if (vr === 'SQ' || (needed && vr === '' && isSequence(reader, valueStart, end))) {
      try {
        walkItems(reader, valueStart, end, depth + 1)
      } catch (error) {
        // A broken sequence that nobody asked for is stepped over by its length; too deep a one is not.
        if (needed || !(error instanceof DataError) || error.code === 'ERR_MAMMO_TOO_LARGE') throw error
      }
    }
    return end
  }
  // Unknown elements of undefined length hold implicit little endian items (PS3.5 6.2.2 note 2); some writers keep the file's
  // syntax there instead, which the value representation of the first element shows.
  if (vr === 'UN') {
    const explicit = reader.explicit && itemIsExplicit(reader, valueStart)
    return walkItems(explicit ? reader : { ...reader, explicit: false, little: true }, valueStart, undefined, depth + 1)
  }
  if (vr === '' || vr === 'SQ') return walkItems(reader, valueStart, undefined, depth + 1)
  // Any other value of undefined length is a list of fragments.
  return walkFragments(reader, valueStart).end
}

/** Walks items up to `end`, or up to the sequence delimiter; returns where the sequence ends. */
function walkItems(reader: Reader, start: number, end: number | undefined, depth: number): number {
  if (depth > MAX_DEPTH) {
    throw new DataError('TOO_LARGE', `expected at most ${MAX_DEPTH} nested sequences, got more`, {
      where: reader.where,
      fix: 'the file is damaged or hostile: get it from its source again',
      details: { rule: 'dicom/nesting' },
    })
  }
  let at = start
  const limit = end ?? reader.total
  while (at < limit) {
    need(reader, at, 8, limit)
    const { tag, length, valueStart } = readHeader(reader, at)
    if (tag === SEQUENCE_END && end === undefined) return valueStart
    if (tag !== ITEM) throw fault(reader, `an item of a sequence, got element ${show(tag)}`)
    if (length === UNDEFINED) at = walkItem(reader, valueStart, undefined, limit, depth)
    else {
      if (valueStart + length > limit)
        throw fault(reader, `an item of at most ${limit - valueStart} bytes, which declares ${length}`)
      at = walkItem(reader, valueStart, valueStart + length, limit, depth)
    }
  }
  if (end === undefined) throw fault(reader, 'the end of a sequence')
  return at
}

function walkItem(reader: Reader, start: number, end: number | undefined, limit: number, depth: number): number {
  let at = start
  const stop = end ?? limit
  while (at < stop) {
    need(reader, at, 8, stop)
    const header = readHeader(reader, at)
    if (header.tag === ITEM_END && end === undefined) return header.valueStart
    at = elementEnd(reader, header, true, depth)
    if (at > stop) throw fault(reader, `element ${show(header.tag)} within its item`)
  }
  if (end === undefined) throw fault(reader, 'the end of an item')
  return at
}

function walkFragments(reader: Reader, start: number): { fragments: { start: number; length: number }[]; end: number } {
  const fragments: { start: number; length: number }[] = []
  let at = start
  // A missing delimiter at the end of the file hides no data: the frames are checked by what they hold.
  while (at < reader.total) {
    if (reader.total - at < 8) break
    const { tag, length, valueStart } = readHeader(reader, at)
    if (tag === SEQUENCE_END) return { fragments, end: valueStart }
    if (tag !== ITEM) throw fault(reader, `a fragment, got element ${show(tag)}`)
    if (length > reader.total - valueStart) {
      throw beyond(reader, 'a fragment', valueStart, length)
    }
    fragments.push({ start: valueStart, length })
    at = valueStart + length
  }
  return { fragments, end: reader.total }
}

function locatePixels(reader: Reader, { vr, valueStart, length }: Header): PixelPlace {
  if (length !== UNDEFINED) {
    if (valueStart + length > reader.total) {
      throw beyond(reader, 'the pixel data', valueStart, length)
    }
    return { vr, start: valueStart, length, fragments: undefined, offsets: [] }
  }
  const partial = reader.total > reader.bytes.length
  const fragments = partial ? [] : walkFragments(reader, valueStart).fragments
  const table = fragments.shift()
  const offsets: number[] = []
  for (let at = 0; table !== undefined && at + 4 <= table.length; at += 4) {
    offsets.push(reader.view.getUint32(table.start + at, reader.little))
  }
  return { vr, start: valueStart, length: 0, fragments, offsets }
}

/** Whether a value of an implicit file looks like a sequence: empty or beginning with an item. */
function isSequence(reader: Reader, start: number, end: number): boolean {
  return end - start >= 8 && start + 8 <= reader.bytes.length && readHeader(reader, start).tag === ITEM
}

function itemIsExplicit({ view, little }: Reader, start: number): boolean {
  if (start + 14 > view.byteLength) return false
  const item = view.getUint16(start, little) === 0xfffe && view.getUint16(start + 2, little) === 0xe000
  return item && isLetters(new Uint8Array(view.buffer, view.byteOffset), start + 12)
}

function isLetters(bytes: Uint8Array, at: number): boolean {
  const capital = (byte: number | undefined) => byte !== undefined && byte >= 0x41 && byte <= 0x5a
  return capital(bytes[at]) && capital(bytes[at + 1])
}

/**
 * The file meta information: walks group 2 element by element, whatever length it declares. Returns where the data set begins,
 * and an empty transfer syntax when there is none.
 */
function readMeta(
  bytes: Uint8Array,
  total: number,
  where: string,
): { at: number; transferSyntax: string; mediaStorageSopClass: string } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const marked = bytes.length >= 132 && view.getUint32(128) === 0x4449434d
  let at = marked ? 132 : 0
  const found = { transferSyntax: '', mediaStorageSopClass: '' }
  const reader: Reader = { view, bytes, total, little: true, explicit: true, where }
  while (at + 8 <= bytes.length && view.getUint16(at, true) === 2) {
    const explicit = isLetters(bytes, at + 4)
    const { tag, valueStart, length } = readHeader({ ...reader, explicit }, at)
    const end = valueStart + length
    if (length > total - valueStart)
      throw fault(reader, `file meta information inside the file, element ${show(tag)} leaves it`)
    if (end > bytes.length) throw new NeedMore()
    if (tag === 0x00020010) found.transferSyntax = uid(bytes, valueStart, end)
    if (tag === 0x00020002) found.mediaStorageSopClass = uid(bytes, valueStart, end)
    at = end
  }
  if (!marked && at === 0 && !plausible(bytes)) {
    throw new DataError('DICOM', 'expected a DICOM, PNG, JPEG, TIFF or PGM file, got something else', {
      where,
      fix: 'restore the file, or convert it to one of these',
    })
  }
  return { at, ...found }
}

/** A file without preamble and meta group must begin with an element of group 8 (or 2, walked before). */
function plausible(bytes: Uint8Array): boolean {
  return bytes.length >= 8 && ((bytes[0] === 8 && bytes[1] === 0) || (bytes[0] === 0 && bytes[1] === 8))
}

function uid(bytes: Uint8Array, start: number, end: number): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('latin1')
  const clean = text.replace(/[\0 ]+$/, '')
  return /^[0-9.]{1,64}$/.test(clean) ? clean : ''
}

/** Transfer syntax by the look of the first element: native syntaxes only, since nothing tells compressed ones apart. */
function sniff(bytes: Uint8Array, at: number, where: string): string {
  if (at + 8 > bytes.length) {
    throw new DataError('DICOM', 'expected a data set after the file meta information, got the end of the file', {
      where,
      fix: 'get the file from its source again',
    })
  }
  const little = bytes[at]! + 256 * bytes[at + 1]!
  const big = 256 * bytes[at]! + bytes[at + 1]!
  if (!isLetters(bytes, at + 4)) return IMPLICIT
  return little <= big ? EXPLICIT : BIG_ENDIAN
}

/** Inflates chunk by chunk, so that a small file cannot claim the whole limit at once. */
async function inflate(bytes: Uint8Array, where: string): Promise<Uint8Array> {
  const stream = createInflateRaw({ finishFlush: 2 })
  const chunks: Buffer[] = []
  let size = 0
  const done = (async () => {
    for await (const chunk of stream) {
      size += (chunk as Buffer).length
      if (size > MAX_INFLATED) {
        throw new DataError('TOO_LARGE', `expected at most ${MAX_INFLATED} bytes after inflating, got more`, {
          where,
          fix: 'the file is damaged or hostile: get it from its source again',
          details: { rule: 'dicom/inflate' },
        })
      }
      chunks.push(chunk as Buffer)
    }
  })()
  stream.end(bytes)
  try {
    await done
  } catch (cause) {
    if (cause instanceof DataError) throw cause
    throw new DataError('DICOM', 'expected a deflated data set, got damaged data', {
      where,
      fix: 'get the file from its source again',
      cause,
    })
  }
  return Buffer.concat(chunks)
}

function need(reader: Reader, at: number, count: number, limit = reader.total): void {
  if (at + count > limit) throw fault(reader, `${count} more bytes at offset ${at}, got the end`)
  if (at + count > reader.bytes.length) throw new NeedMore()
}

function fault(reader: Reader, expected: string, rule = 'dicom/structure'): DataError {
  return new DataError('DICOM', `expected ${expected}`, {
    where: reader.where,
    fix: 'the file is damaged: get it from its source again',
    details: { rule },
  })
}

function beyond(reader: Reader, what: string, start: number, length: number): DataError {
  return fault(reader, `at most ${reader.total - start} bytes in ${what}, which declares ${length}`, 'dicom/length')
}

/** `(gggg,eeee)`. */
export function show(tag: number): string {
  const hex = tag.toString(16).padStart(8, '0')
  return `(${hex.slice(0, 4)},${hex.slice(4)})`
}
