// What a result object takes over from the image it is about: patient and study as they stand, references, geometry, grey window. The
// only place where patient attributes are read as text; they go into DICOM objects of the same study and nowhere else.
import { open, readFile } from 'node:fs/promises'
import { DataError } from '../../errors.js'
import type { View } from '../types.js'
import { decodeText } from './charset.js'
import { type DicomElement, type DicomJson, personName } from './dataset.js'
import { readLut } from './lut.js'
import { sopClassOf } from './mammogram.js'
import {
  type DicomFile,
  type Elements,
  itemsOf,
  NESTED,
  NeedMore,
  numberOf,
  numbersOf,
  parseDicom,
  TAGS,
  textOf,
} from './parse.js'
import { scanDicom } from './scan.js'
import { spacingOf } from './spacing.js'
import { viewOf } from './view.js'

export interface SourceVoi {
  centres: number[]
  widths: number[]
  function: string
  /** First input value, bits of an entry, entries. */
  lut: { first: number; bits: number; data: Uint16Array } | null
}

export interface SourceImage {
  /** Patient and study elements with decoded text. For DICOM objects only. */
  identity: DicomJson
  study: string
  series: string
  sopClass: string
  instance: string
  /** From 0; null for a file of one frame. */
  frame: number | null
  rows: number
  columns: number
  side: 'L' | 'R' | 'B' | null
  view: View | null
  /** Code values of the view and of its modifiers as the file has them. */
  viewCodes: string[]
  modifierCodes: string[]
  /** Directions of rows and columns; null when unknown. */
  patientOrientation: [string, string] | null
  /** DA and TM; empty when unknown. */
  contentDate: string
  contentTime: string
  /** Row, column. */
  spacingMm: [number, number] | null
  positionerAngle: number | null
  inverted: boolean
  rescale: { slope: number; intercept: number; type: string } | null
  voi: SourceVoi
  /** The file says that its pixels hold text about the patient. */
  burnedIn: boolean
  /** Offset from UTC as `+hhmm`; empty when unknown. */
  timezone: string
}

const HEADER_BYTES = 256 * 1024

const CHARSET = 0x00080005
/** Elements that are copied, with their value representation. Those of type 2 are written even when empty. */
const IDENTITY: readonly [tag: number, vr: string, type2: boolean][] = [
  [0x00080020, 'DA', true],
  [0x00080030, 'TM', true],
  [0x00080050, 'SH', true],
  [0x00080090, 'PN', true],
  [0x00081030, 'LO', false],
  [0x00100010, 'PN', true],
  [0x00100020, 'LO', true],
  [0x00100021, 'LO', false],
  [0x00100030, 'DA', true],
  [0x00100040, 'CS', true],
  [0x00101010, 'AS', false],
  [0x00120062, 'CS', false],
  [0x00120063, 'LO', false],
  [0x0020000d, 'UI', true],
  [0x00200010, 'SH', true],
]
/** Forms of dates and times; what has another one is left empty. */
const FORMS: Record<string, RegExp> = {
  DA: /^\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$/,
  TM: /^\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?$/,
}
const PLAIN = {
  contentDate: 0x00080023,
  contentTime: 0x00080033,
  timezone: 0x00080201,
  positionerAngle: 0x00181510,
  series: 0x0020000e,
  rescaleType: 0x00281054,
} as const
const WANTED: ReadonlySet<number> = new Set([CHARSET, ...IDENTITY.map(([tag]) => tag), ...Object.values(PLAIN)])

/** Reads the header of a DICOM image. Throws ERR_MAMMO_DICOM when what identifies it is missing; the message quotes no value. */
export async function readSourceImage(path: string, frame: number | null = null): Promise<SourceImage> {
  const handle = await open(path, 'r')
  let head: Uint8Array
  let total: number
  try {
    total = (await handle.stat()).size
    const buffer = Buffer.alloc(Math.min(total, HEADER_BYTES))
    await handle.read(buffer, 0, buffer.length, 0)
    head = buffer
  } finally {
    await handle.close()
  }
  try {
    return await describe(head, path, total, frame)
  } catch (error) {
    if (!(error instanceof NeedMore)) throw error
    const whole = await readFile(path)
    return describe(whole, path, whole.length, frame)
  }
}

async function describe(bytes: Uint8Array, path: string, total: number, frame: number | null): Promise<SourceImage> {
  const file = await parseDicom(bytes, path, total)
  const raw = await rawValues(bytes, path, total)
  const sets = latin(raw.get(CHARSET)).split('\\')
  const identity: Record<string, DicomElement> = {}
  for (const [tag, vr, type2] of IDENTITY) {
    const value = raw.get(tag)
    const text = value === undefined ? '' : tidy(decodeText(value, textual(vr) ? sets : [], path))
    if (text === '' && !type2) continue
    // Some devices write zeros for an unknown date; a copy of it would make the report invalid.
    const known = FORMS[vr]?.test(text) ?? true
    identity[tag.toString(16).toUpperCase().padStart(8, '0')] = { vr, ...jsonValue(vr, known ? text : '') }
  }
  const plain = (tag: number) => latin(raw.get(tag))
  const { elements } = file
  const study = plain(0x0020000d)
  const series = plain(PLAIN.series)
  const instance = textOf(elements, TAGS.sopInstance)
  for (const [name, uid] of [
    ['StudyInstanceUID', study],
    ['SeriesInstanceUID', series],
    ['SOPInstanceUID', instance],
  ] as const) {
    if (!/^[0-9.]{1,64}$/.test(uid)) {
      throw new DataError('DICOM', `expected a ${name}, got none that is valid`, {
        where: path,
        fix: 'reports refer to an image by its UIDs: get the file from its source again',
        details: { rule: 'dicom/uid' },
      })
    }
  }
  const orientation = (elements.get(TAGS.patientOrientation) ?? []).map((value) => String(value).trim())
  const angle = Number.parseFloat(plain(PLAIN.positionerAngle))
  const views = itemsOf(elements, TAGS.viewCode)
  const codes = (items: Elements[]) => items.map((item) => textOf(item, NESTED.codeValue)).filter((code) => code !== '')
  const rows = numberOf(elements, TAGS.rows)
  const columns = numberOf(elements, TAGS.columns)
  if (rows === undefined || columns === undefined) {
    throw new DataError('DICOM', 'expected Rows and Columns, got none', {
      where: path,
      fix: 'get the file from its source again',
      details: { rule: 'dicom/matrix' },
    })
  }
  return {
    identity,
    study,
    series,
    sopClass: sopClassOf(file),
    instance,
    frame: frame ?? null,
    rows,
    columns,
    side: sideOf(elements),
    view: viewOf(elements),
    viewCodes: codes(views),
    modifierCodes: codes(views.flatMap((item) => itemsOf(item, NESTED.viewModifiers))),
    patientOrientation:
      orientation.length === 2 && orientation.every((word) => /^[A-Z]+$/.test(word))
        ? [orientation[0]!, orientation[1]!]
        : null,
    contentDate: valid(plain(PLAIN.contentDate), FORMS['DA']!),
    contentTime: valid(plain(PLAIN.contentTime), /^\d{6}(\.\d{1,6})?$/),
    spacingMm: spacingIn(file),
    positionerAngle: Number.isFinite(angle) ? angle : null,
    inverted: textOf(elements, TAGS.photometric) === 'MONOCHROME1',
    rescale: rescaleOf(elements, plain(PLAIN.rescaleType)),
    voi: sourceVoi(file),
    burnedIn: textOf(elements, TAGS.burnedIn) === 'YES',
    timezone: valid(plain(PLAIN.timezone), /^[+-]\d{4}$/),
  }
}

/** An image whose spacing cannot be used is still reported: what is wrong with it is said by the prediction. */
function spacingIn(file: DicomFile): [number, number] | null {
  try {
    return spacingOf(file).spacingMm
  } catch (error) {
    if (error instanceof DataError) return null
    throw error
  }
}

function sideOf(elements: Elements): SourceImage['side'] {
  for (const tag of [TAGS.imageLaterality, TAGS.laterality]) {
    const side = textOf(elements, tag)
    if (side === 'L' || side === 'R' || side === 'B') return side
  }
  return null
}

function rescaleOf(elements: Elements, type: string): SourceImage['rescale'] {
  const slope = numberOf(elements, TAGS.slope)
  const intercept = numberOf(elements, TAGS.intercept)
  return slope === undefined || intercept === undefined ? null : { slope, intercept, type: type || 'US' }
}

function sourceVoi({ elements }: DicomFile): SourceVoi {
  const signed = numberOf(elements, TAGS.pixelRepresentation) === 1
  const item = itemsOf(elements, TAGS.voiLut)[0]
  const centres = numbersOf(elements, TAGS.windowCenter)
  const widths = numbersOf(elements, TAGS.windowWidth)
  const count = Math.min(centres.length, widths.length)
  return {
    centres: centres.slice(0, count),
    widths: widths.slice(0, count),
    function: textOf(elements, TAGS.voiFunction),
    lut: (item === undefined ? undefined : readLut(item, signed)) ?? null,
  }
}

/** Bytes of the elements that parse.ts must not see. */
async function rawValues(bytes: Uint8Array, path: string, total: number): Promise<Map<number, Uint8Array>> {
  const { data, elements } = await scanDicom(bytes, path, WANTED, total)
  return new Map([...elements].map(([tag, { valueStart, end }]) => [tag, data.subarray(valueStart, end)]))
}

function textual(vr: string): boolean {
  return ['LO', 'PN', 'SH'].includes(vr)
}

function latin(bytes: Uint8Array | undefined): string {
  return tidy(Buffer.from(bytes ?? []).toString('latin1'))
}

function tidy(text: string): string {
  return text.replace(/[\0 ]+$/, '').replace(/^ +/, '')
}

function valid(text: string, form: RegExp): string {
  return form.test(text) ? text : ''
}

function jsonValue(vr: string, text: string): Pick<DicomElement, 'Value'> {
  if (text === '') return {}
  const values = text.split('\\')
  return { Value: vr === 'PN' ? values.map(personName) : values }
}
