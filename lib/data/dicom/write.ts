// Writes a minimal DICOM file: one frame of 16-bit unsigned grey, explicit little endian. For phantoms and tests; structured
// reports and other result objects are written elsewhere. Encoding: DICOM PS3.5 section 7, PS3.10 section 7.1.
import { createHash } from 'node:crypto'

export interface GreyImage {
  pixels: Uint16Array
  width: number
  height: number
  bitsStored: number
  /** Anything that identifies the image; its UIDs derive from it. */
  identity: string
  modality: string
  sopClass: string
  /** Free text that says what the image is. */
  description: string
  /** Further string elements: tag, value representation, value. */
  more?: readonly (readonly [tag: number, vr: string, value: string])[]
}

const EXPLICIT_LITTLE_ENDIAN = '1.2.840.10008.1.2.1'

/** The bytes of the file. Equal input gives equal bytes. */
export function writeGreyDicom(image: GreyImage): Uint8Array {
  const uid = (part: string) => derivedUid(`${image.identity} ${part}`)
  const instance = uid('instance')
  const meta = Buffer.concat([
    binary(0x00020001, 'OB', Buffer.from([0, 1])),
    text(0x00020002, 'UI', image.sopClass),
    text(0x00020003, 'UI', instance),
    text(0x00020010, 'UI', EXPLICIT_LITTLE_ENDIAN),
    text(0x00020012, 'UI', derivedUid('mammo-retinanet')),
  ])
  const elements: [number, Buffer][] = [
    [0x00080016, text(0x00080016, 'UI', image.sopClass)],
    [0x00080018, text(0x00080018, 'UI', instance)],
    [0x00080060, text(0x00080060, 'CS', image.modality)],
    [0x0008103e, text(0x0008103e, 'LO', image.description)],
    [0x0020000d, text(0x0020000d, 'UI', uid('study'))],
    [0x0020000e, text(0x0020000e, 'UI', uid('series'))],
    [0x00280002, short(0x00280002, 1)],
    [0x00280004, text(0x00280004, 'CS', 'MONOCHROME2')],
    [0x00280010, short(0x00280010, image.height)],
    [0x00280011, short(0x00280011, image.width)],
    [0x00280100, short(0x00280100, 16)],
    [0x00280101, short(0x00280101, image.bitsStored)],
    [0x00280102, short(0x00280102, image.bitsStored - 1)],
    [0x00280103, short(0x00280103, 0)],
    ...(image.more ?? []).map(([tag, vr, value]): [number, Buffer] => [tag, text(tag, vr, value)]),
  ]
  elements.sort(([a], [b]) => a - b)
  const { buffer, byteOffset, byteLength } = image.pixels
  return Buffer.concat([
    Buffer.alloc(128),
    Buffer.from('DICM'),
    long(0x00020000, meta.length),
    meta,
    ...elements.map(([, bytes]) => bytes),
    binary(0x7fe00010, 'OW', Buffer.from(buffer, byteOffset, byteLength)),
  ])
}

/** A UID under 2.25 from the SHA-256 of a text: the form of a UUID, at most 44 characters. */
export function derivedUid(text: string): string {
  return `2.25.${BigInt(`0x${createHash('sha256').update(text).digest('hex').slice(0, 32)}`)}`
}

function head(tag: number, vr: string, length: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt16LE(tag >>> 16, 0)
  bytes.writeUInt16LE(tag & 0xffff, 2)
  bytes.write(vr, 4, 'latin1')
  bytes.writeUInt16LE(length, 6)
  return bytes
}

/** Text of even length: UIDs are padded with zero, other texts with a blank. */
function text(tag: number, vr: string, value: string): Buffer {
  const odd = value.length % 2 === 1
  const body = Buffer.from(odd ? value + (vr === 'UI' ? '\0' : ' ') : value, 'latin1')
  return Buffer.concat([head(tag, vr, body.length), body])
}

function short(tag: number, value: number): Buffer {
  const body = Buffer.alloc(2)
  body.writeUInt16LE(value)
  return Buffer.concat([head(tag, 'US', 2), body])
}

function long(tag: number, value: number): Buffer {
  const body = Buffer.alloc(4)
  body.writeUInt32LE(value)
  return Buffer.concat([head(tag, 'UL', 4), body])
}

/** OB and OW: two reserved bytes, a 32-bit length, an even body. */
function binary(tag: number, vr: string, body: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(body.length + (body.length % 2))
  return Buffer.concat([head(tag, vr, 0), length, body, Buffer.alloc(body.length % 2)])
}
