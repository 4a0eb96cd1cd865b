// Raster files in and out: reads grey PNG, JPEG, TIFF and PGM of 8 or 16 bit without changing a value, writes PNG and JPEG, and
// draws SVG over a picture. The only importer of sharp. It never resamples, and it knows nothing of DICOM (dicom/).
import { createHash } from 'node:crypto'
import { type FileHandle, open, readFile, stat } from 'node:fs/promises'
import { endianness } from 'node:os'
import sharp, { type Sharp } from 'sharp'
import { DataError, InternalError } from '../errors.js'
import { readPgm, readPgmHeader } from './pgm.js'

/** Largest image that is read, in pixels; checked on the header, before memory is taken. */
export const MAX_PIXELS = 268_000_000

export interface RasterSize {
  width: number
  height: number
  format: 'png' | 'jpeg' | 'tiff' | 'pgm'
  /** Bits of a sample: 8 or 16. Files of 1, 2 or 4 bits are expanded to 0..255. */
  bits: 8 | 16
}

export interface Raster extends RasterSize {
  /** Row-major. Values of 8-bit files stay 0..255. */
  data: Uint16Array
}

const formats = ['png', 'jpeg', 'tiff'] as const
const openOptions = { limitInputPixels: MAX_PIXELS, failOn: 'error', ignoreIcc: true } as const

/** What a file is by its first bytes; undefined is none of ours. */
export function rasterFormat(head: Uint8Array): RasterSize['format'] | undefined {
  const starts = (...bytes: number[]) => bytes.every((byte, n) => head[n] === byte)
  if (starts(0x89, 0x50, 0x4e, 0x47)) return 'png'
  if (starts(0xff, 0xd8, 0xff)) return 'jpeg'
  if (starts(0x49, 0x49, 0x2a, 0) || starts(0x4d, 0x4d, 0, 0x2a)) return 'tiff'
  if (starts(0x50, 0x35)) return 'pgm'
  return undefined
}

/** Size of a raster file from its header; decodes nothing. Throws ERR_MAMMO_IMAGE, ERR_MAMMO_TOO_LARGE. */
export async function readRasterSize(path: string): Promise<RasterSize> {
  const head = await readHead(path)
  if (rasterFormat(head) === 'pgm') {
    const { width, height, maximum } = readPgmHeader(head, path)
    checkSize(width, height, path)
    return { width, height, format: 'pgm', bits: maximum > 255 ? 16 : 8 }
  }
  const { width, height, format, bits } = await readMetadata(path)
  return { width, height, format, bits }
}

/**
 * Reads a grey image. Three channels are accepted when they are equal everywhere, an alpha channel when it is opaque.
 * `page` is the 0-based page of a TIFF. Throws ERR_MAMMO_IMAGE (damaged, colour, not a raster file), ERR_MAMMO_TOO_LARGE.
 */
export async function readRaster(path: string, page = 0): Promise<Raster> {
  const head = await readHead(path)
  if (rasterFormat(head) === 'pgm') {
    const { width, height } = readPgmHeader(head, path)
    checkSize(width, height, path)
    const { data, maximum } = readPgm(await readBytes(path), path)
    return { data, width, height, format: 'pgm', bits: maximum > 255 ? 16 : 8 }
  }
  const { width, height, format, bits, channels, pages } = await readMetadata(path)
  if (page >= pages) throw unreadable(`page ${page} of an image with ${pages}`, path)
  const grey = channels <= 2
  const space = bits === 16 ? (grey ? 'grey16' : 'rgb16') : grey ? 'b-w' : 'srgb'
  const depth = bits === 16 ? 'ushort' : 'uchar'
  const options = format === 'tiff' ? { ...openOptions, page } : openOptions
  const result = await sharp(path, options)
    .toColourspace(space)
    .raw({ depth })
    .toBuffer({ resolveWithObject: true })
    .catch((cause: Error) => {
      throw unreadable('an image that can be decoded', path, cause)
    })
  const { buffer, byteOffset, length } = result.data
  const samples =
    bits === 16 ? new Uint16Array(buffer, byteOffset, length / 2) : new Uint8Array(buffer, byteOffset, length)
  if (samples.length !== width * height * result.info.channels) {
    throw new InternalError(
      `expected ${width * height} pixels with ${result.info.channels} channels, got ${samples.length} samples`,
    )
  }
  const data = oneChannel(samples, result.info.channels, bits, path)
  return { data, width, height, format, bits }
}

/** SHA-256 of samples as little-endian uint16. */
export function pixelHash(data: Uint16Array): string {
  if (endianness() !== 'LE') throw new InternalError('expected a little-endian machine')
  return createHash('sha256')
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex')
}

/** PNG of interleaved 8-bit RGB. */
export async function encodeRgbPng(rgb: Uint8Array, width: number, height: number): Promise<Uint8Array> {
  return rawRgb(rgb, width, height).png().toBuffer()
}

/** PNG of 8-bit grey. */
export async function encodeGreyPng(grey: Uint8Array, width: number, height: number): Promise<Uint8Array> {
  return sharp(grey, { raw: { width, height, channels: 1 } })
    .toColourspace('b-w')
    .png()
    .toBuffer()
}

/** PNG of 16-bit grey; every value is kept. */
export async function encodeGrey16Png(grey: Uint16Array, width: number, height: number): Promise<Uint8Array> {
  return sharp(grey, { raw: { width, height, channels: 1 } })
    .toColourspace('grey16')
    .png()
    .toBuffer()
}

/** TIFF of 8- or 16-bit grey, deflated; every value is kept. */
export async function encodeGreyTiff(
  grey: Uint8Array | Uint16Array,
  width: number,
  height: number,
): Promise<Uint8Array> {
  const space = grey instanceof Uint16Array ? 'grey16' : 'b-w'
  const image = sharp(grey, { raw: { width, height, channels: 1 } }).toColourspace(space)
  return image.tiff({ compression: 'deflate' }).toBuffer()
}

/** JPEG of interleaved 8-bit RGB (3 channels) or grey (1 channel), for reports. */
export async function encodeJpeg(
  pixels: Uint8Array,
  width: number,
  height: number,
  channels: 1 | 3,
  quality = 85,
): Promise<Uint8Array> {
  const image = sharp(pixels, { raw: { width, height, channels } })
  return (channels === 1 ? image.toColourspace('b-w') : image).jpeg({ quality, mozjpeg: false }).toBuffer()
}

/** A picture as a smaller JPEG, for pages that embed many. */
export async function pngToJpeg(png: Uint8Array, quality = 85): Promise<Uint8Array> {
  return sharp(png).jpeg({ quality }).toBuffer()
}

/** Draws `svg` over interleaved 8-bit RGB of the same size; PNG bytes. The SVG must not refer to other files. */
export async function composeSvg(rgb: Uint8Array, width: number, height: number, svg: string): Promise<Uint8Array> {
  return rawRgb(rgb, width, height)
    .composite([{ input: Buffer.from(svg), top: 0, left: 0 }])
    .removeAlpha()
    .png()
    .toBuffer()
}

/** Pixels of an SVG picture as interleaved 8-bit RGB on white; for tests and for pictures in reports. */
export async function renderSvg(svg: string): Promise<{ rgb: Uint8Array; width: number; height: number }> {
  const image = sharp(Buffer.from(svg), { limitInputPixels: MAX_PIXELS })
    .flatten({ background: '#ffffff' })
    .toColourspace('srgb')
  const { data, info } = await image.raw().toBuffer({ resolveWithObject: true })
  return { rgb: data, width: info.width, height: info.height }
}

/** Threads that sharp may use for one image. */
export function limitRasterThreads(threads: number): void {
  sharp.concurrency(threads)
}

function rawRgb(rgb: Uint8Array, width: number, height: number): Sharp {
  if (rgb.length !== width * height * 3) {
    throw new InternalError(
      `expected ${width * height * 3} bytes of RGB for ${width}x${height} pixels, got ${rgb.length}`,
    )
  }
  return sharp(rgb, { raw: { width, height, channels: 3 } })
}

interface Metadata extends RasterSize {
  channels: number
  pages: number
}

async function readMetadata(path: string): Promise<Metadata> {
  const found = await sharp(path, openOptions)
    .metadata()
    .catch((cause: Error) => {
      if (/pixel limit/i.test(cause.message)) throw tooLarge(path, cause)
      throw unreadable('a PNG, JPEG, TIFF or PGM image', path, cause)
    })
  const format = formats.find((name) => name === found.format)
  if (format === undefined) throw unreadable(`a PNG, JPEG, TIFF or PGM image, got ${found.format}`, path)
  const { width, height, channels = 1, depth, space } = found
  if (depth !== 'uchar' && depth !== 'ushort') throw unreadable(`samples of 8 or 16 bit, unsigned, got ${depth}`, path)
  if (space === 'cmyk' || space === 'lab') throw unreadable(`a grey image, got colour (${space})`, path)
  checkSize(width, height, path)
  return { width, height, format, channels, pages: found.pages ?? 1, bits: depth === 'ushort' ? 16 : 8 }
}

/** The grey channel of interleaved samples. Throws when the others say something else. */
function oneChannel(samples: Uint8Array | Uint16Array, channels: number, bits: 8 | 16, path: string): Uint16Array {
  const data = new Uint16Array(samples.length / channels)
  if (channels === 1) {
    data.set(samples)
    return data
  }
  const opaque = bits === 16 ? 65535 : 255
  const colours = channels >= 3 ? 3 : 1
  for (let i = 0, at = 0; i < data.length; i++, at += channels) {
    const value = samples[at]!
    for (let c = 1; c < colours; c++) {
      if (samples[at + c] !== value) throw unreadable('a grey image, got colour (channels differ)', path)
    }
    if (channels > colours && samples[at + colours] !== opaque)
      throw unreadable('an opaque image, got transparency', path)
    data[i] = value
  }
  return data
}

const HEAD_BYTES = 1024

async function readHead(path: string): Promise<Uint8Array> {
  let file: FileHandle
  try {
    file = await open(path, 'r')
  } catch (cause) {
    throw missing(path, cause)
  }
  try {
    const head = new Uint8Array(HEAD_BYTES)
    const { bytesRead } = await file.read(head, 0, HEAD_BYTES, 0)
    return head.subarray(0, bytesRead)
  } catch (cause) {
    throw missing(path, cause)
  } finally {
    await file.close()
  }
}

async function readBytes(path: string): Promise<Uint8Array> {
  if ((await stat(path)).size > 3 * MAX_PIXELS) throw tooLarge(path)
  return readFile(path)
}

function checkSize(width: number, height: number, path: string): void {
  if (width * height > MAX_PIXELS) throw tooLarge(path)
}

function missing(path: string, cause: unknown): DataError {
  const code = (cause as NodeJS.ErrnoException).code ?? 'unknown reason'
  return new DataError('IMAGE', `expected an image file that can be read, got ${code}`, {
    where: path,
    fix: 'check the path and its permissions',
    details: { rule: 'manifest/missing-file' },
  })
}

function tooLarge(path: string, cause?: unknown): DataError {
  return new DataError('TOO_LARGE', `expected at most ${MAX_PIXELS} pixels, got more`, {
    where: path,
    fix: 'mammograms have up to 30 megapixels: check whether the file is one',
    cause,
  })
}

function unreadable(expected: string, path: string, cause?: Error): DataError {
  const fix = 'restore the file, or convert it to a grey PNG or TIFF'
  return new DataError('IMAGE', `expected ${expected}${cause === undefined ? '' : ', got a damaged or foreign file'}`, {
    where: path,
    fix,
    cause,
  })
}
