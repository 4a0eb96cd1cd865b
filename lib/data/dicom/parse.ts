// Values of the few DICOM elements that mammograms are read by. The only importer of dcmjs, which is handed a small file made of
// just these elements: patient names, dates and free texts are never parsed, its untyped errors and its unbounded inflate cannot
// be reached, and the pixel data stays where it is. What may be read is the allow-list below (datasets spec 3.6).

import { createHash, createHmac } from 'node:crypto'
import { createRequire } from 'node:module'
import { DataError } from '../../errors.js'
import { BIG_ENDIAN, type ElementPlace, EXPLICIT, IMPLICIT, NeedMore, type Scan, scanDicom, show } from './scan.js'

/** Elements that are read, by name. The nested ones of a sequence come with it. */
export const TAGS = {
  imageType: 0x00080008,
  sopClass: 0x00080016,
  sopInstance: 0x00080018,
  modality: 0x00080060,
  maker: 0x00080070,
  makerModel: 0x00081090,
  patientId: 0x00100020,
  bodyPart: 0x00180015,
  spatialResolution: 0x00181050,
  magnification: 0x00181114,
  imagerPixelSpacing: 0x00181164,
  nominalScannedPixelSpacing: 0x00182010,
  viewPosition: 0x00185101,
  patientOrientation: 0x00200020,
  laterality: 0x00200060,
  imageLaterality: 0x00200062,
  samplesPerPixel: 0x00280002,
  photometric: 0x00280004,
  frames: 0x00280008,
  rows: 0x00280010,
  columns: 0x00280011,
  pixelSpacing: 0x00280030,
  bitsAllocated: 0x00280100,
  bitsStored: 0x00280101,
  highBit: 0x00280102,
  pixelRepresentation: 0x00280103,
  paddingValue: 0x00280120,
  paddingLimit: 0x00280121,
  qualityControl: 0x00280300,
  burnedIn: 0x00280301,
  spacingCalibration: 0x00280a02,
  windowCenter: 0x00281050,
  windowWidth: 0x00281051,
  intercept: 0x00281052,
  slope: 0x00281053,
  voiFunction: 0x00281056,
  implant: 0x00281300,
  lossy: 0x00282110,
  modalityLut: 0x00283000,
  voiLut: 0x00283010,
  specimen: 0x00400560,
  viewCode: 0x00540220,
  presentationShape: 0x20500020,
  sharedGroups: 0x52009229,
  perFrameGroups: 0x52009230,
  extendedOffsets: 0x7fe00001,
} as const

/** Nested elements that are read out of the sequences above. */
export const NESTED = {
  codeValue: 0x00080100,
  codeScheme: 0x00080102,
  viewModifiers: 0x00540222,
  lutDescriptor: 0x00283002,
  lutData: 0x00283006,
  pixelMeasures: 0x00289110,
  frameVoi: 0x00289132,
  valueTransformation: 0x00289145,
} as const

export type Elements = ReadonlyMap<number, readonly unknown[]>

export interface DicomFile {
  scan: Scan
  elements: Elements
  where: string
}

const WANTED: ReadonlySet<number> = new Set(Object.values(TAGS))

/** Parses the header of a DICOM file. `total` as in scanDicom. Throws ERR_MAMMO_DICOM, ERR_MAMMO_TOO_LARGE. */
export async function parseDicom(bytes: Uint8Array, where: string, total = bytes.length): Promise<DicomFile> {
  const scan = await scanDicom(bytes, where, WANTED, total)
  return { scan, elements: await readElements(scan, where), where }
}

export { NeedMore }

/** The first string of an element, trimmed; empty when absent. */
export function textOf(elements: Elements, tag: number, index = 0): string {
  const value = elements.get(tag)?.[index]
  return typeof value === 'string' ? value.replace(/^[\0 ]+|[\0 ]+$/g, '') : ''
}

/** All finite numbers of an element, of numeric or decimal string representation. */
export function numbersOf(elements: Elements, tag: number): number[] {
  const values = (elements.get(tag) ?? []).map((value) => {
    if (typeof value === 'number') return value
    if (typeof value !== 'string') return Number.NaN
    const text = value.replace(/[\0 ]+/g, '')
    return text === '' ? Number.NaN : Number(text)
  })
  return values.filter(Number.isFinite)
}

/** The first number of an element. */
export function numberOf(elements: Elements, tag: number): number | undefined {
  return numbersOf(elements, tag)[0]
}

/** Items of a sequence. */
export function itemsOf(elements: Elements, tag: number): Elements[] {
  return (elements.get(tag) ?? []).filter((item): item is Elements => item instanceof Map)
}

/** Functional groups of a multi-frame object that hold for a frame: its own before the shared ones. */
export function groupsOf(elements: Elements, frame: number): Elements[] {
  const own = itemsOf(elements, TAGS.perFrameGroups)[frame]
  return [...(own === undefined ? [] : [own]), ...itemsOf(elements, TAGS.sharedGroups)]
}

/** Bytes of a binary element. */
export function bytesOf(elements: Elements, tag: number): Uint8Array | undefined {
  const value = elements.get(tag)?.[0]
  if (value instanceof ArrayBuffer) return new Uint8Array(value)
  return value instanceof Uint8Array ? value : undefined
}

/** SHA-256 of the SOP instance UID, 16 hex digits: tells copies apart without naming them. Empty without a UID. */
export function instanceHash(elements: Elements): string {
  const uid = textOf(elements, TAGS.sopInstance)
  return uid === '' ? '' : createHash('sha256').update(uid).digest('hex').slice(0, 16)
}

/** `h:` and 16 hex digits of HMAC-SHA256(key, patient id); empty when the file names no patient. */
export function patientHash(elements: Elements, key: string): string {
  const id = textOf(elements, TAGS.patientId)
  return id === '' ? '' : hashPatient(id, key)
}

/** Pseudonym of a patient: `h:` and 16 hex digits of HMAC-SHA256(key, id). */
export function hashPatient(id: string, key: string): string {
  return `h:${createHmac('sha256', key).update(id).digest('hex').slice(0, 16)}`
}

async function readElements(scan: Scan, where: string): Promise<Elements> {
  const places = [...scan.elements.values()].sort((a, b) => a.tag - b.tag)
  // Required, not imported: dcmjs-codecs requires it too, and a require during an unfinished import is refused as a cycle.
  const dcmjs = createRequire(import.meta.url)('dcmjs') as typeof import('dcmjs')
  silence(dcmjs.log)
  try {
    const { dict } = dcmjs.data.DicomMessage.readFile(smallFile(scan, places), { noCopy: true })
    return toMap(dict, !scan.littleEndian)
  } catch {
    // One element that dcmjs cannot read must not hide the others; its message may quote values and is dropped.
    const elements = new Map<number, readonly unknown[]>()
    for (const place of places) {
      try {
        const { dict } = dcmjs.data.DicomMessage.readFile(smallFile(scan, [place]), { noCopy: true })
        for (const [tag, values] of toMap(dict, !scan.littleEndian)) elements.set(tag, values)
      } catch {
        scan.fault ??= new DataError('DICOM', `expected a readable value in element ${show(place.tag)}`, {
          where,
          fix: 'the file is damaged: get it from its source again',
          details: { rule: 'dicom/value' },
        })
      }
    }
    return elements
  }
}

/** A DICOM file that holds the given elements only, in the native form of the original syntax. */
function smallFile(scan: Scan, places: readonly ElementPlace[]): ArrayBuffer {
  const syntax = !scan.explicit ? IMPLICIT : scan.littleEndian ? EXPLICIT : BIG_ENDIAN
  const uid = Buffer.from(syntax.length % 2 === 0 ? syntax : `${syntax}\0`, 'latin1')
  const meta = Buffer.alloc(12 + 8 + uid.length)
  meta.writeUInt32LE(0x00000002, 0)
  meta.write('UL', 4, 'latin1')
  meta.writeUInt16LE(4, 6)
  meta.writeUInt32LE(8 + uid.length, 8)
  meta.writeUInt32LE(0x00100002, 12)
  meta.write('UI', 16, 'latin1')
  meta.writeUInt16LE(uid.length, 18)
  uid.copy(meta, 20)
  const preamble = Buffer.alloc(132)
  preamble.write('DICM', 128, 'latin1')
  const parts = [preamble, meta, ...places.map(({ start, end }) => scan.data.subarray(start, end))]
  // dcmjs needs an ArrayBuffer of exactly the file; Buffer.concat may hand out a slice of a pool.
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole.buffer
}

function toMap(
  dict: Record<string, { vr: string; Value?: unknown[] }>,
  bigEndian: boolean,
): Map<number, readonly unknown[]> {
  const elements = new Map<number, readonly unknown[]>()
  for (const [key, element] of Object.entries(dict)) {
    if (!/^[0-9a-fA-F]{8}$/.test(key)) continue
    const values = Array.isArray(element.Value) ? [...element.Value] : []
    // Words stay as they are in the file.
    if (bigEndian && element.vr === 'OW' && values[0] instanceof ArrayBuffer) {
      const words = Buffer.from(values[0].slice(0))
      values[0] = new Uint8Array(words.length % 2 === 0 ? words.swap16() : words)
    }
    const nested = element.vr === 'SQ' ? values.map((item) => toMap((item ?? {}) as typeof dict, bigEndian)) : values
    elements.set(Number.parseInt(key, 16), nested)
  }
  return elements
}

let silenced = false

/** dcmjs logs values it cannot read: they would reach the console with patient data. */
function silence(log: {
  setLevel(level: string, persist?: boolean): void
  getLoggers(): Record<string, typeof log | object>
}): void {
  if (silenced) return
  silenced = true
  log.setLevel('silent', false)
  for (const logger of Object.values(log.getLoggers())) (logger as typeof log).setLevel('silent', false)
}
