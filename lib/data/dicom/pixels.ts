// The pixel pipeline of DICOM images, in the one order that is right: frame, stored values, padding, modality, inversion, result.
// Every step from stored value to result depends on the value alone, so that it is one table of 65536 entries. No window, no
// percentile, no gamma: those are for display (voi.ts). Method: datasets spec 3.2; DICOM PS3.3 C.7.6.3, C.11.1.
import { endianness } from 'node:os'
import { DataError, InternalError } from '../../errors.js'
import { roundHalfToEven } from '../../geometry/anchors.js'
import { MAX_PIXELS } from '../raster.js'
import { colour, decodeFrame, type TransferSyntax, transferSyntaxOf } from './codecs.js'
import { groupFragments, joinFragments } from './fragments.js'
import { readLut } from './lut.js'
import { bytesOf, type DicomFile, type Elements, groupsOf, itemsOf, NESTED, numberOf, TAGS, textOf } from './parse.js'

export interface ImageWarning {
  rule: string
  message: string
}

/** Size and depth of an image as its header gives them. */
export interface PixelShape {
  width: number
  height: number
  frames: number
  bitsAllocated: 8 | 16
  bitsStored: number
  highBit: number
  signed: boolean
}

/** Stored values after step 2: 16-bit patterns; signed ones in two's complement. */
export interface StoredFrame {
  values: Uint16Array
  width: number
  height: number
  bits: number
  signed: boolean
  /** Values that lossy compression had pushed out of the stored range. */
  overshoot: number
  warnings: ImageWarning[]
}

export interface FinishedFrame {
  pixels: Uint16Array
  /** Pixels whose value did not fit in 0..65535. */
  clamped: number
  warnings: ImageWarning[]
}

/**
 * Size and depth. Throws ERR_MAMMO_PIXEL_DATA when an attribute is missing or makes no sense, ERR_MAMMO_SOP_CLASS for colour,
 * palettes and depths that no mammogram has, ERR_MAMMO_TOO_LARGE.
 */
export function pixelShape(file: DicomFile): PixelShape {
  const { elements, where } = file
  const photometric = textOf(elements, TAGS.photometric)
  const samples = numberOf(elements, TAGS.samplesPerPixel) ?? 1
  if (samples !== 1) throw colour(`${samples} samples per pixel`, where)
  if (photometric === 'PALETTE COLOR') throw colour('a palette', where)
  const { height, width, bitsAllocated } = requirePixels(file)
  if (bitsAllocated !== 8 && bitsAllocated !== 16) {
    throw new DataError('SOP_CLASS', `expected 8 or 16 bits allocated, got ${bitsAllocated}`, {
      where,
      fix: 'mammograms have 8 or 16: leave the file out',
      details: { rule: 'dicom/bits' },
    })
  }
  if (photometric !== '' && photometric !== 'MONOCHROME1' && photometric !== 'MONOCHROME2')
    throw colour('colour', where)
  const bitsStored = numberOf(elements, TAGS.bitsStored) ?? bitsAllocated
  const highBit = numberOf(elements, TAGS.highBit) ?? bitsStored - 1
  const frames = Math.max(1, numberOf(elements, TAGS.frames) ?? 1)
  if (bitsStored < 1 || bitsStored > bitsAllocated || highBit + 1 < bitsStored || highBit >= bitsAllocated) {
    throw new DataError(
      'PIXEL_DATA',
      `expected stored bits within the allocated ones, got ${bitsStored} bits below bit ${highBit} of ${bitsAllocated}`,
      { where, fix: 'the header is damaged: get the file from its source again', details: { rule: 'dicom/bits' } },
    )
  }
  if (width * height > MAX_PIXELS) {
    throw new DataError('TOO_LARGE', `expected at most ${MAX_PIXELS} pixels, got ${width}x${height}`, {
      where,
      fix: 'mammograms have up to 30 megapixels: check whether the file is one',
    })
  }
  const signed = numberOf(elements, TAGS.pixelRepresentation) === 1
  return { width, height, frames, bitsAllocated, bitsStored, highBit, signed }
}

/** What no image can do without. Throws ERR_MAMMO_PIXEL_DATA. */
export function requirePixels({ elements, where, scan }: DicomFile): {
  height: number
  width: number
  bitsAllocated: number
} {
  const required = (name: string, tag: number) => {
    const value = numberOf(elements, tag)
    if (value === undefined || value <= 0) throw missing(name, where)
    return value
  }
  const height = required('Rows', TAGS.rows)
  const width = required('Columns', TAGS.columns)
  const bitsAllocated = required('BitsAllocated', TAGS.bitsAllocated)
  if (scan.pixels === undefined) throw missing('PixelData', where)
  return { height, width, bitsAllocated }
}

/** Steps 1 and 2: the stored values of one frame. Throws ERR_MAMMO_PIXEL_DATA, ERR_MAMMO_TRANSFER_SYNTAX. */
export async function readStored(file: DicomFile, shape: PixelShape, frame: number): Promise<StoredFrame> {
  const { scan, where } = file
  const syntax = transferSyntaxOf(scan.transferSyntax, where)
  const { width, height, bitsAllocated } = shape
  if (scan.pixels!.fragments === undefined) {
    const cells = nativeCells(file, shape, frame)
    const values = bitsAllocated === 8 ? Uint16Array.from(cells) : cells16(cells, !scan.littleEndian)
    const shift = shape.highBit + 1 - shape.bitsStored
    takeBits(values, shift, shape.bitsStored, shape.signed)
    return { values, width, height, bits: shape.bitsStored, signed: shape.signed, overshoot: 0, warnings: [] }
  }
  return decodeStored(file, shape, syntax, frame)
}

async function decodeStored(
  file: DicomFile,
  shape: PixelShape,
  syntax: TransferSyntax,
  frame: number,
): Promise<StoredFrame> {
  const { scan, elements, where } = file
  const { width, height } = shape
  const pixels = scan.pixels!
  const extendedOffsets = readExtendedOffsets(elements)
  const layout = { fragments: pixels.fragments!, offsets: pixels.offsets, extendedOffsets, frames: shape.frames }
  const fragments = groupFragments(layout, scan.data, where)[frame]!
  const { cells, bytesPerCell, stream } = await decodeFrame(joinFragments(fragments, scan.data), syntax, shape, where)
  const values = bytesPerCell === 1 ? Uint16Array.from(cells) : cells16(cells, false)
  const warnings: ImageWarning[] = []
  let { bitsStored: bits, signed } = shape
  let overshoot = 0
  if (stream === undefined) {
    takeBits(values, shape.highBit + 1 - bits, bits, signed)
  } else if (syntax.codec === 'jpeg') {
    // A lossless stream of whole cells still holds what lies around the stored bits; a shorter one holds just these.
    const shift = syntax.lossy !== true && stream.precision > shape.highBit ? shape.highBit + 1 - bits : 0
    if (syntax.lossy === true) overshoot = clampBits(values, bits, signed)
    else takeBits(values, shift, bits, signed)
  } else {
    if (stream.precision !== bits) {
      warnings.push({
        rule: 'dicom/depth',
        message: `header says ${bits} bits, the stream ${stream.precision}: the stream counts`,
      })
      bits = stream.precision
    }
    // JPEG-LS knows no sign: the header's counts.
    if (syntax.codec !== 'jpeg-ls' && stream.signed !== signed) {
      const says = (is: boolean) => (is ? 'signed' : 'unsigned')
      warnings.push({
        rule: 'dicom/depth',
        message: `header says ${says(signed)} values, the stream ${says(stream.signed)}: the stream counts`,
      })
      signed = stream.signed
    }
    takeBits(values, 0, bits, signed)
  }
  if (overshoot > 0) {
    warnings.push({
      rule: 'dicom/overshoot',
      message: `${overshoot} pixels left the range of ${bits} bits by compression: clamped`,
    })
  }
  return { values, width, height, bits, signed, overshoot, warnings }
}

/** Bytes of a native frame. Longer pixel data is fine, shorter is an error. */
function nativeCells({ scan, where }: DicomFile, shape: PixelShape, frame: number): Uint8Array {
  const { start, length, vr } = scan.pixels!
  const size = (shape.width * shape.height * shape.bitsAllocated) / 8
  if ((frame + 1) * size > length) {
    throw new DataError('PIXEL_DATA', `expected ${(frame + 1) * size} bytes of pixel data, got ${length}`, {
      where,
      fix: 'the file is cut: get it from its source again',
      details: { rule: 'dicom/short' },
    })
  }
  const cells = scan.data.subarray(start + frame * size, start + (frame + 1) * size)
  // Big endian words of two 8-bit cells each.
  if (shape.bitsAllocated === 8 && !scan.littleEndian && vr === 'OW')
    return swapWords(scan.data, start, frame * size, size)
  return cells
}

function swapWords(data: Uint8Array, start: number, offset: number, size: number): Uint8Array {
  const cells = new Uint8Array(size)
  for (let i = 0; i < size; i++) cells[i] = data[start + ((offset + i) ^ 1)] ?? 0
  return cells
}

function cells16(cells: Uint8Array, bigEndian: boolean): Uint16Array {
  if (endianness() !== 'LE') throw new InternalError('expected a little-endian machine')
  const values = new Uint16Array(cells.length / 2)
  const bytes = new Uint8Array(values.buffer)
  bytes.set(cells)
  if (bigEndian) Buffer.from(values.buffer).swap16()
  return values
}

/** Takes `bits` bits above `shift`, in place; sign-extends. What lies around them are overlays of old files. */
function takeBits(values: Uint16Array, shift: number, bits: number, signed: boolean): void {
  if (shift === 0 && bits === 16) return
  const mask = 2 ** bits - 1
  const sign = signed ? 2 ** (bits - 1) : 0
  for (let i = 0; i < values.length; i++) {
    const value = (values[i]! >>> shift) & mask
    values[i] = sign !== 0 && value >= sign ? value - mask - 1 : value
  }
}

/** Clamps to the range of `bits` bits, in place; returns how many values lay outside. */
function clampBits(values: Uint16Array, bits: number, signed: boolean): number {
  let outside = 0
  const [low, high] = storedRange(bits, signed)
  for (let i = 0; i < values.length; i++) {
    const value = signed ? (values[i]! << 16) >> 16 : values[i]!
    if (value >= low && value <= high) continue
    outside++
    values[i] = value < low ? low : high
  }
  return outside
}

function storedRange(bits: number, signed: boolean): [number, number] {
  return signed ? [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] : [0, 2 ** bits - 1]
}

function readExtendedOffsets(elements: Elements): number[] {
  const bytes = bytesOf(elements, TAGS.extendedOffsets)
  if (bytes === undefined) return []
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Array.from({ length: Math.floor(bytes.length / 8) }, (_, n) => Number(view.getBigUint64(8 * n, true)))
}

/** Steps 3 to 7 of a frame: padding, modality, inversion, rounding. */
export function finishPixels({ elements }: DicomFile, stored: StoredFrame, frame = 0): FinishedFrame {
  const { values, bits, signed } = stored
  const warnings: ImageWarning[] = []
  const [low, high] = storedRange(bits, signed)
  const modality = modalityOf(elements, frame)
  const inverted = textOf(elements, TAGS.photometric) === 'MONOCHROME1'
  const shape = textOf(elements, TAGS.presentationShape)
  if ((inverted && shape === 'IDENTITY') || (!inverted && shape === 'INVERSE')) {
    warnings.push({
      rule: 'dicom/presentation',
      message: `PresentationLUTShape ${shape} contradicts the photometric interpretation, which counts`,
    })
  }
  const [first, second] = modality.range(low, high)
  const offset = signed ? 2 ** (bits - 1) : 0
  if (signed) warnings.push({ rule: 'dicom/signed', message: `signed values: ${offset} was added` })
  const padding = paddingRange(elements, signed)

  const table = new Uint16Array(65536)
  const outside = new Uint8Array(65536)
  for (let value = low; value <= high; value++) {
    if (padding !== undefined && value >= padding[0] && value <= padding[1]) continue
    const modified = modality.map(value)
    const result = roundHalfToEven((inverted ? first + second - modified : modified) + offset)
    table[value & 0xffff] = Math.min(65535, Math.max(0, result))
    if (!(result >= 0 && result <= 65535)) outside[value & 0xffff] = 1
  }
  const pixels = new Uint16Array(values.length)
  let clamped = 0
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!
    pixels[i] = table[value]!
    clamped += outside[value]!
  }
  if (clamped > 0)
    warnings.push({ rule: 'dicom/clamped', message: `${clamped} pixels left the range 0..65535 and were clamped` })
  return { pixels, clamped, warnings }
}

interface Modality {
  map: (stored: number) => number
  /** Lowest and highest value over a range of stored values. */
  range: (low: number, high: number) => [number, number]
}

/** Step 4: the modality table, else slope and intercept. */
function modalityOf(elements: Elements, frame: number): Modality {
  const transformation = [
    elements,
    ...groupsOf(elements, frame).flatMap((group) => itemsOf(group, NESTED.valueTransformation)),
  ]
  const item = transformation.flatMap((from) => itemsOf(from, TAGS.modalityLut))[0]
  const signed = numberOf(elements, TAGS.pixelRepresentation) === 1
  const lut = item === undefined ? undefined : readLut(item, signed)
  if (lut !== undefined) {
    const map = (stored: number) => lut.data[Math.min(lut.data.length - 1, Math.max(0, stored - lut.first))]!
    const range = (low: number, high: number): [number, number] => {
      let [least, most] = [map(low), map(low)]
      for (let value = low; value <= high; value++) {
        least = Math.min(least, map(value))
        most = Math.max(most, map(value))
      }
      return [least, most]
    }
    return { map, range }
  }
  const first = (tag: number) => transformation.map((from) => numberOf(from, tag)).find((value) => value !== undefined)
  const slope = first(TAGS.slope) ?? 1
  const intercept = first(TAGS.intercept) ?? 0
  const map = (stored: number) => stored * slope + intercept
  return { map, range: (low, high) => (slope < 0 ? [map(high), map(low)] : [map(low), map(high)]) }
}

/** Step 3: stored values that stand for "no image", both ends included. */
export function paddingRange(elements: Elements, signed: boolean): [number, number] | undefined {
  const first = numberOf(elements, TAGS.paddingValue)
  if (first === undefined) return undefined
  const second = numberOf(elements, TAGS.paddingLimit) ?? first
  // The value representation is US or SS after the pixels' sign; parsers may have taken the other one.
  const asStored = (value: number) => (signed ? (value << 16) >> 16 : value & 0xffff)
  const [a, b] = [asStored(first), asStored(second)]
  return a <= b ? [a, b] : [b, a]
}

function missing(name: string, where: string): DataError {
  return new DataError('PIXEL_DATA', `expected ${name} in the file, found none`, {
    where,
    fix: 'the file holds no complete image: leave it out, or get it from its source again',
    details: { rule: 'dicom/missing' },
  })
}
