// One way to read an image for preparation and for prediction: by its content it is DICOM or a raster file. Gives 16-bit pixels,
// unwindowed and never resampled, with what is known of spacing, side and view, and what was unusual. Nothing of the patient.
import { type FileHandle, open, readFile } from 'node:fs/promises'
import { DataError } from '../errors.js'
import { transferSyntaxOf } from './dicom/codecs.js'
import {
  type AcceptOptions,
  acceptMammogram,
  type DicomKind,
  flagsOf,
  holdsNoImage,
  sopClassOf,
} from './dicom/mammogram.js'
import { type DicomFile, instanceHash, NeedMore, parseDicom, patientHash, TAGS, textOf } from './dicom/parse.js'
import { finishPixels, type ImageWarning, pixelShape, readStored, requirePixels } from './dicom/pixels.js'
import { spacingOf } from './dicom/spacing.js'
import { lateralityOf, lateralityOfOrientation, lateralityOfPixels, viewOf } from './dicom/view.js'
import { type Voi, voiOf } from './dicom/voi.js'
import { rasterFormat, readRaster, readRasterSize } from './raster.js'
import type { Laterality, View } from './types.js'

export interface ReadImageOptions extends Omit<AcceptOptions, 'frameGiven'> {
  /** 0-based frame (DICOM) or page (TIFF). Naming one accepts multi-frame files. */
  frame?: number
  /** Site key for the hash of the patient id; without it the id is not read. */
  hashKey?: string
}

/** What the header of an image says. */
export interface ImageInfo {
  width: number
  height: number
  frames: number
  /** `[row, column]`. */
  spacingMm: [number, number] | null
  spacingSource: string | null
  laterality: Laterality | null
  view: View | null
  flags: string[]
  warnings: ImageWarning[]
  /** UID of a DICOM file, media type of another. */
  transferSyntax: string
  fileSize: number
  /** Empty for raster files. */
  sopClass: string
  kind: DicomKind | 'raster'
  /** Maker and model of the device; empty when unknown. */
  maker: string
  model: string
  /** `h:` and 16 hex digits, or empty. */
  patient: string
  /** 16 hex digits of the SOP instance UID's SHA-256, or empty. */
  instance: string
}

export interface DecodedImage extends ImageInfo {
  /** Row-major, `width * height`. DICOM: after modality and inversion, padding 0. Raster: the file's values. */
  pixels: Uint16Array
  frame: number
  /** Bits that the stored values use. */
  bits: number
  /** How to show it; undefined: by percentiles. Valid for `pixels`. */
  voi: Voi | undefined
}

/** Files above this are no image of ours: 268 Mpx of 16 bits and room for the rest. */
const MAX_FILE = 2 ** 30
/** First read for a header. Mammograms have theirs in well under this. */
const HEADER_BYTES = 256 * 1024

/**
 * Reads one image. Accepts DICOM mammograms as datasets spec 3.3 says, and grey PNG, JPEG, TIFF and PGM. Throws DataError: DICOM,
 * SOP_CLASS, TRANSFER_SYNTAX, PIXEL_DATA, TOO_LARGE, IMAGE, with `where` the path.
 */
export async function readImage(path: string, options: ReadImageOptions = {}): Promise<DecodedImage> {
  const head = await readHead(path, 4096)
  if (!isDicom(head.bytes) && rasterFormat(head.bytes) !== undefined)
    return readRasterImage(path, head.size, options.frame ?? 0)
  if (head.size > MAX_FILE) throw tooLarge(path, head.size)
  const file = await parseDicom(await readFile(path), path)
  const info = describe(file, head.size, options)
  const shape = pixelShape(file)
  const frame = options.frame ?? 0
  if (frame >= shape.frames) {
    throw new DataError('PIXEL_DATA', `expected a frame below ${shape.frames}, got ${frame}`, {
      where: path,
      fix: 'name another frame; the first is 0',
    })
  }
  const stored = await readStored(file, shape, frame)
  const { pixels, warnings } = finishPixels(file, stored, frame)
  const side = lateralityOfPixels(pixels, shape.width, shape.height)
  const mismatch = info.laterality !== null && side !== null && side !== info.laterality
  const sideWarning = {
    rule: 'dicom/side',
    message: `header says ${info.laterality}, the tissue touches the other edge`,
  }
  // A window is meant for values before inversion and shift.
  const plain = textOf(file.elements, TAGS.photometric) !== 'MONOCHROME1' && !stored.signed
  return {
    ...info,
    warnings: [...info.warnings, ...stored.warnings, ...warnings, ...(mismatch ? [sideWarning] : [])],
    pixels,
    frame,
    bits: stored.bits,
    voi: plain ? voiOf(file) : undefined,
  }
}

/** What the header says, without decoding. The same acceptance and errors as readImage. */
export async function readImageInfo(path: string, options: ReadImageOptions = {}): Promise<ImageInfo> {
  const head = await readHead(path, HEADER_BYTES)
  const format = isDicom(head.bytes) ? undefined : rasterFormat(head.bytes)
  if (format !== undefined) {
    const { width, height } = await readRasterSize(path)
    return { ...rasterInfo(format, head.size), width, height }
  }
  if (head.size > MAX_FILE) throw tooLarge(path, head.size)
  let file: DicomFile
  try {
    file = await parseDicom(head.bytes, path, head.size)
  } catch (error) {
    if (!(error instanceof NeedMore)) throw error
    file = await parseDicom(await readFile(path), path)
  }
  return describe(file, head.size, options)
}

function describe(file: DicomFile, fileSize: number, options: ReadImageOptions): ImageInfo {
  const { elements, scan } = file
  // Of a file that breaks off before its pixels, what it is decides before how it is broken.
  if (scan.fault === undefined && !holdsNoImage(file)) requirePixels(file)
  const frameGiven = options.frame !== undefined
  const kind = acceptMammogram(file, { ...options, frameGiven })
  if (scan.fault !== undefined) throw breaksOff(scan.fault)
  const shape = pixelShape(file)
  const syntax = transferSyntaxOf(scan.transferSyntax, file.where)
  const { warnings, ...spacing } = spacingOf(file, options.frame ?? 0)
  const [side, oriented] = [lateralityOf(elements), lateralityOfOrientation(elements)]
  if (side !== null && oriented !== null && side !== oriented) {
    const message = `header says ${side}, the patient orientation is that of a ${oriented === 'L' ? 'left' : 'right'} breast`
    warnings.push({ rule: 'dicom/side', message })
  }
  if (scan.sniffed) warnings.push({ rule: 'dicom/meta', message: 'the file names no transfer syntax: it was guessed' })
  if (textOf(elements, TAGS.burnedIn) === 'YES') {
    warnings.push({ rule: 'dicom/burned-in', message: 'the file says that its pixels hold text about the patient' })
  }
  return {
    width: shape.width,
    height: shape.height,
    frames: shape.frames,
    ...spacing,
    laterality: side,
    view: viewOf(elements),
    flags: flagsOf(file, syntax.lossy === true),
    warnings,
    transferSyntax: scan.transferSyntax,
    fileSize,
    sopClass: sopClassOf(file),
    kind,
    maker: textOf(elements, TAGS.maker),
    model: textOf(elements, TAGS.makerModel),
    patient: options.hashKey === undefined ? '' : patientHash(elements, options.hashKey),
    instance: instanceHash(elements),
  }
}

/** Looked for first: the preamble of a DICOM file may make it a TIFF file too. */
export function isDicom(head: Uint8Array): boolean {
  return head[128] === 0x44 && head[129] === 0x49 && head[130] === 0x43 && head[131] === 0x4d
}

/** A length beyond the file is a fault of the file; another fault before the pixels means that they are missing. */
function breaksOff(fault: DataError): DataError {
  if (fault.details['rule'] === 'dicom/length' || fault.code !== 'ERR_MAMMO_DICOM') return fault
  return new DataError('PIXEL_DATA', `${fault.message}; no pixel data before it`, {
    ...(fault.where === undefined ? {} : { where: fault.where }),
    ...(fault.fix === undefined ? {} : { fix: fault.fix }),
    details: fault.details,
  })
}

async function readRasterImage(path: string, fileSize: number, page: number): Promise<DecodedImage> {
  const { data, width, height, format, bits } = await readRaster(path, page)
  return { ...rasterInfo(format, fileSize), width, height, pixels: data, frame: page, bits, voi: undefined }
}

function rasterInfo(format: string, fileSize: number): Omit<ImageInfo, 'width' | 'height'> {
  return {
    frames: 1,
    spacingMm: null,
    spacingSource: null,
    laterality: null,
    view: null,
    flags: format === 'jpeg' ? ['lossy'] : [],
    warnings: [],
    transferSyntax: format === 'pgm' ? 'image/x-portable-graymap' : `image/${format}`,
    fileSize,
    sopClass: '',
    kind: 'raster',
    maker: '',
    model: '',
    patient: '',
    instance: '',
  }
}

async function readHead(path: string, count: number): Promise<{ bytes: Uint8Array; size: number }> {
  let file: FileHandle
  try {
    file = await open(path, 'r')
  } catch (cause) {
    throw missing(path, cause)
  }
  try {
    const { size } = await file.stat()
    const bytes = new Uint8Array(Math.min(count, size))
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0)
    return { bytes: bytes.subarray(0, bytesRead), size }
  } catch (cause) {
    throw missing(path, cause)
  } finally {
    await file.close()
  }
}

function missing(path: string, cause: unknown): DataError {
  const code = (cause as NodeJS.ErrnoException).code ?? 'unknown reason'
  return new DataError('IMAGE', `expected an image file that can be read, got ${code}`, {
    where: path,
    fix: 'check the path and its permissions',
    details: { rule: 'manifest/missing-file' },
  })
}

function tooLarge(path: string, size: number): DataError {
  return new DataError('TOO_LARGE', `expected a file of at most ${MAX_FILE} bytes, got ${size}`, {
    where: path,
    fix: 'check whether the file is a mammogram',
  })
}
