// Data sets in the DICOM JSON model as files, and back: explicit little endian, text in UTF-8. For the result objects that are
// written here and read again; images of others are read by parse.ts. Encoding: DICOM PS3.5 section 7, PS3.10 section 7.1; model:
// PS3.18 annex F.
import { DataError, InternalError } from '../../errors.js'
import { EXPLICIT, show } from './scan.js'
import { derivedUid } from './write.js'

export interface PersonName {
  Alphabetic?: string
  Ideographic?: string
  Phonetic?: string
}

export type DicomValue = string | number | PersonName | DicomJson

export interface DicomElement {
  vr: string
  Value?: readonly DicomValue[]
  /** Base64 of OB and OW. */
  InlineBinary?: string
}

/** Keys are eight upper-case hexadecimal digits. */
export interface DicomJson {
  readonly [tag: string]: DicomElement
}

const NUMBERS: Record<string, { size: number; write: keyof Buffer; read: keyof Buffer }> = {
  US: { size: 2, write: 'writeUInt16LE', read: 'readUInt16LE' },
  SS: { size: 2, write: 'writeInt16LE', read: 'readInt16LE' },
  UL: { size: 4, write: 'writeUInt32LE', read: 'readUInt32LE' },
  SL: { size: 4, write: 'writeInt32LE', read: 'readInt32LE' },
  FL: { size: 4, write: 'writeFloatLE', read: 'readFloatLE' },
  FD: { size: 8, write: 'writeDoubleLE', read: 'readDoubleLE' },
}
/** Representations with a 32-bit length. */
const LONG = new Set(['OB', 'OW', 'SQ', 'UC', 'UR', 'UT'])
const TEXTS = new Set('AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT'.split(' '))
/** Texts in which a backslash is no separator. */
const SINGLE = new Set(['LT', 'ST', 'UR', 'UT'])
const ITEM = 0xfffee000
const MAX_DEPTH = 64

/** A file of the data set. Equal data sets give equal bytes. */
export function writeDataset(dataset: DicomJson): Uint8Array {
  const meta = encodeDataset({
    '00020001': { vr: 'OB', InlineBinary: Buffer.from([0, 1]).toString('base64') },
    '00020002': { vr: 'UI', Value: [firstText(dataset, '00080016')] },
    '00020003': { vr: 'UI', Value: [firstText(dataset, '00080018')] },
    '00020010': { vr: 'UI', Value: [EXPLICIT] },
    '00020012': { vr: 'UI', Value: [derivedUid('mammo-retinanet')] },
  })
  const length = encodeDataset({ '00020000': { vr: 'UL', Value: [meta.length] } })
  return Buffer.concat([Buffer.alloc(128), Buffer.from('DICM'), length, meta, encodeDataset(dataset)])
}

/** A data set that writeDataset wrote. Throws ERR_MAMMO_DICOM for any other syntax and for damaged files. */
export function readDataset(bytes: Uint8Array, where: string): DicomJson {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (data.toString('latin1', 128, 132) !== 'DICM') throw broken('a DICOM file', where)
  const reader = { data, where }
  const meta: Record<string, DicomElement> = {}
  let at = 132
  while (at + 8 <= data.length && data.readUInt16LE(at) === 2) at = readElement(reader, at, data.length, meta, 0)
  const syntax = firstText(meta, '00020010')
  if (syntax !== EXPLICIT) throw broken('Explicit VR Little Endian', where)
  return readElements(reader, at, data.length, 0)
}

/** The first value of an element as text; empty when it has none. */
export function firstText(dataset: DicomJson, tag: string): string {
  const value = dataset[tag]?.Value?.[0]
  return typeof value === 'string' || typeof value === 'number' ? String(value) : ''
}

/** The first value of an element as number. */
export function firstNumber(dataset: DicomJson, tag: string): number | undefined {
  const value = dataset[tag]?.Value?.[0]
  return typeof value === 'number' ? value : undefined
}

/** Items of a sequence. */
export function itemsIn(dataset: DicomJson, tag: string): DicomJson[] {
  const element = dataset[tag]
  return element?.vr === 'SQ' ? ((element.Value ?? []) as DicomJson[]) : []
}

/** A number as decimal string: the most digits that fit in 16 characters. */
export function decimalString(value: number): string {
  if (!Number.isFinite(value)) throw new InternalError(`expected a finite number for a decimal string, got ${value}`)
  const plain = String(value)
  if (plain.length <= 16) return plain
  for (let digits = 16; digits > 0; digits--) {
    const text = String(Number(value.toPrecision(digits)))
    if (text.length <= 16) return text
  }
  return '0'
}

/** `Family^Given=ideographic=phonetic` in the JSON model. */
export function personName(text: string): PersonName {
  const [Alphabetic = '', Ideographic = '', Phonetic = ''] = text.split('=')
  return {
    ...(Alphabetic === '' ? {} : { Alphabetic }),
    ...(Ideographic === '' ? {} : { Ideographic }),
    ...(Phonetic === '' ? {} : { Phonetic }),
  }
}

function encodeDataset(dataset: DicomJson): Buffer {
  return Buffer.concat(
    Object.keys(dataset)
      .sort()
      .flatMap((key) => encodeElement(key, dataset[key]!)),
  )
}

function encodeElement(key: string, element: DicomElement): Buffer[] {
  const body = encodeValue(key, element)
  const { vr } = element
  const long = LONG.has(vr)
  if (!long && body.length > 0xfffe) {
    throw new InternalError(`expected at most 65534 bytes in element ${key} of ${vr}, got ${body.length}`)
  }
  const head = Buffer.alloc(long ? 12 : 8)
  head.writeUInt16LE(Number.parseInt(key.slice(0, 4), 16), 0)
  head.writeUInt16LE(Number.parseInt(key.slice(4), 16), 2)
  head.write(vr, 4, 'latin1')
  if (long) head.writeUInt32LE(body.length, 8)
  else head.writeUInt16LE(body.length, 6)
  return [head, body]
}

function encodeValue(key: string, { vr, Value: values = [], InlineBinary }: DicomElement): Buffer {
  if (vr === 'SQ') {
    return Buffer.concat(
      values.flatMap((value) => {
        const body = encodeDataset(value as DicomJson)
        const head = Buffer.alloc(8)
        head.writeUInt16LE(ITEM >>> 16, 0)
        head.writeUInt16LE(ITEM & 0xffff, 2)
        head.writeUInt32LE(body.length, 4)
        return [head, body]
      }),
    )
  }
  if (vr === 'OB' || vr === 'OW') return padded(Buffer.from(InlineBinary ?? '', 'base64'), 0)
  const number = NUMBERS[vr]
  if (number !== undefined) {
    const body = Buffer.alloc(number.size * values.length)
    for (const [n, value] of values.entries())
      (body[number.write] as Store).call(body, value as number, number.size * n)
    return body
  }
  if (!TEXTS.has(vr)) throw new InternalError(`expected a known value representation in element ${key}, got ${vr}`)
  const text = values.map((value) => textOfValue(vr, value)).join('\\')
  return padded(Buffer.from(text, 'utf8'), vr === 'UI' ? 0 : 0x20)
}

type Store = (value: number, at: number) => number
type Load = (at: number) => number

function textOfValue(vr: string, value: DicomValue): string {
  if (typeof value === 'number') return vr === 'DS' ? decimalString(value) : String(value)
  if (typeof value === 'string') return value
  const { Alphabetic = '', Ideographic = '', Phonetic = '' } = value as PersonName
  return [Alphabetic, Ideographic, Phonetic].join('=').replace(/=+$/, '')
}

function padded(body: Buffer, filler: number): Buffer {
  return body.length % 2 === 0 ? body : Buffer.concat([body, Buffer.from([filler])])
}

interface Reader {
  data: Buffer
  where: string
}

function readElements(reader: Reader, start: number, end: number, depth: number): DicomJson {
  if (depth > MAX_DEPTH) throw broken(`at most ${MAX_DEPTH} nested sequences`, reader.where)
  const dataset: Record<string, DicomElement> = {}
  let at = start
  while (at < end) at = readElement(reader, at, end, dataset, depth)
  return dataset
}

function readElement(
  reader: Reader,
  at: number,
  limit: number,
  into: Record<string, DicomElement>,
  depth: number,
): number {
  const { data, where } = reader
  if (at + 8 > limit) throw broken('a whole element', where)
  const tag = data.readUInt16LE(at) * 0x10000 + data.readUInt16LE(at + 2)
  const vr = data.toString('latin1', at + 4, at + 6)
  const long = LONG.has(vr)
  if (long && at + 12 > limit) throw broken('a whole element', where)
  const start = at + (long ? 12 : 8)
  const end = start + (long ? data.readUInt32LE(at + 8) : data.readUInt16LE(at + 6))
  if (end > limit) throw broken(`element ${show(tag)} within its data set`, where)
  const key = tag.toString(16).toUpperCase().padStart(8, '0')
  into[key] = readValue(reader, { vr, start, end, tag }, depth)
  return end
}

function readValue(
  reader: Reader,
  { vr, start, end, tag }: { vr: string; start: number; end: number; tag: number },
  depth: number,
): DicomElement {
  const { data, where } = reader
  if (vr === 'SQ') {
    const items: DicomJson[] = []
    let at = start
    while (at < end) {
      const whole = at + 8 <= end && data.readUInt16LE(at) === ITEM >>> 16 && data.readUInt16LE(at + 2) === 0xe000
      const stop = whole ? at + 8 + data.readUInt32LE(at + 4) : Number.POSITIVE_INFINITY
      if (stop > end) throw broken(`whole items in sequence ${show(tag)}`, where)
      items.push(readElements(reader, at + 8, stop, depth + 1))
      at = stop
    }
    return { vr, ...(items.length === 0 ? {} : { Value: items }) }
  }
  if (start === end) return { vr }
  if (vr === 'OB' || vr === 'OW') return { vr, InlineBinary: data.toString('base64', start, end) }
  const number = NUMBERS[vr]
  if (number !== undefined) {
    if ((end - start) % number.size !== 0) throw broken(`whole numbers in element ${show(tag)}`, where)
    const count = (end - start) / number.size
    const load = data[number.read] as Load
    return { vr, Value: Array.from({ length: count }, (_, n) => load.call(data, start + number.size * n)) }
  }
  if (!TEXTS.has(vr)) throw broken(`a known value representation in element ${show(tag)}`, where)
  const text = data.toString('utf8', start, end).replace(vr === 'UI' ? /\0+$/ : / +$/, '')
  const values = SINGLE.has(vr) ? [text] : text.split('\\')
  if (vr === 'PN') return { vr, Value: values.map(personName) }
  if (vr === 'DS' || vr === 'IS') return { vr, Value: values.map(Number) }
  return { vr, Value: values }
}

function broken(expected: string, where: string): DataError {
  return new DataError('DICOM', `expected ${expected}`, {
    where,
    fix: 'read a report that this software wrote, unchanged',
    details: { rule: 'dicom/result' },
  })
}
