// The messages between the predictor and its workers, and how an error crosses. Values only, so that they survive structured cloning
// into threads and child processes alike.
import type { ReadImageOptions } from '../data/image.js'
import * as errors from '../errors.js'
import type { ModelManifest } from '../onnx/manifest.js'
import type { InputOptions } from './preprocess.js'
import type { Prediction } from './results.js'

/** A grey image in memory: 16-bit values, row-major, dark background. */
export interface RawImage {
  data: Uint16Array
  height: number
  width: number
  /** Row and column spacing. */
  spacingMm?: [number, number] | null
  id?: string
}

/** A DICOM, PNG, JPEG or TIFF file by path, its bytes, or decoded pixels. */
export type Source = string | { bytes: Uint8Array; id?: string } | RawImage

export interface Job extends InputOptions {
  source: Source
  /** Name of the image in results; the file name by default. */
  id?: string
  threshold: number
  /** Which files count as mammograms; for DICOM. */
  read: ReadImageOptions
}

export interface WorkerSetup {
  model: string
  manifest: ModelManifest
  threads: number
  spin: boolean
  device: 'cpu' | 'cuda'
  /** Sizes (height, width) to run once before the worker is ready. */
  warmup: [number, number][]
}

export type ToWorker = { kind: 'setup'; setup: WorkerSetup } | { kind: 'job'; id: number; job: Job } | { kind: 'close' }

export type FromWorker =
  | { kind: 'ready' }
  | { kind: 'failed'; error: PackedError }
  | { kind: 'result'; id: number; prediction: Prediction }
  | { kind: 'error'; id: number; error: PackedError }

export interface PackedError {
  name: string
  code: string
  exitCode: number
  message: string
  where?: string
  fix?: string
  details: Record<string, unknown>
}

export function packError(error: unknown): PackedError {
  const known =
    error instanceof errors.MammoError
      ? error
      : new errors.InternalError(error instanceof Error ? error.message : String(error))
  return {
    name: known.name,
    code: known.code,
    exitCode: known.exitCode,
    message: known.message,
    ...(known.where === undefined ? {} : { where: known.where }),
    ...(known.fix === undefined ? {} : { fix: known.fix }),
    details: known.details,
  }
}

const CLASSES: Record<string, new (code: never, message: string, parts?: errors.ErrorParts) => errors.MammoError> = {
  UsageError: errors.UsageError,
  DataError: errors.DataError,
  DeviceError: errors.DeviceError,
  ExportError: errors.ExportError,
}

/** The error again, of its own class. */
export function unpackError({ name, code, exitCode, message, where, fix, details }: PackedError): errors.MammoError {
  const parts = { ...(where === undefined ? {} : { where }), ...(fix === undefined ? {} : { fix }), details }
  const short = code.replace(/^ERR_MAMMO_/, '')
  const known = CLASSES[name]
  return known ? new known(short as never, message, parts) : new errors.MammoError(short, exitCode, message, parts)
}
