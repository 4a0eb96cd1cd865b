// Every error of mammo-retinanet. A message says what was expected, for which name, and what came; `where` names the place
// and `fix` the remedy. Codes and exit codes are stable: scripts may depend on them. This file imports nothing.

/** Optional parts of an error. `details` must never hold patient attributes. */
export interface ErrorParts {
  where?: string
  fix?: string
  details?: Record<string, unknown>
  cause?: unknown
}

/** Base of all errors that a user can act on. `code` is `ERR_MAMMO_...`; `exitCode` is what the command line ends with. */
export class MammoError extends Error {
  readonly code: string
  readonly exitCode: number
  readonly where: string | undefined
  readonly fix: string | undefined
  readonly details: Record<string, unknown>

  constructor(code: string, exitCode: number, message: string, parts: ErrorParts = {}) {
    super(message, parts.cause === undefined ? undefined : { cause: parts.cause })
    this.name = new.target.name
    this.code = `ERR_MAMMO_${code}`
    this.exitCode = exitCode
    this.where = parts.where
    this.fix = parts.fix
    this.details = parts.details ?? {}
  }
}

export type UsageCode = 'ARGUMENT' | 'BUSY' | 'QUEUE_FULL' | 'CANCELLED' | 'DISPOSED' | 'RUN_EXISTS'
export type DataCode =
  | 'DICOM'
  | 'SOP_CLASS'
  | 'TRANSFER_SYNTAX'
  | 'PIXEL_DATA'
  | 'NO_PIXEL_SPACING'
  | 'TOO_LARGE'
  | 'IMAGE'
  | 'ANNOTATION'
  | 'MANIFEST'
  | 'SPLIT_LEAK'
  | 'MODEL_MANIFEST'
export type BindingCode = 'BINDING_MISSING' | 'BINDING_LOAD' | 'BINDING_ABI' | 'BUILD'
export type DeviceCode =
  | 'NO_CUDA'
  | 'CUDA'
  | 'OUT_OF_MEMORY'
  | 'DISK_FULL'
  | 'MODEL_NOT_READY'
  | 'TIMEOUT'
  | 'WORKER_LOST'
export type TrainingCode = 'NON_FINITE_LOSS' | 'CHECKPOINT'
export type ExportCode = 'ONNX_UNSUPPORTED' | 'ONNX_MISMATCH' | 'PRECISION_LOSS' | 'CHECK_FAILED'

/** One fault of a configuration: where it stands and what to write instead. */
export interface ConfigProblem {
  /** Dotted key, such as `loss.gamma`. */
  key: string
  message: string
  file?: string
  line?: number
  column?: number
}

/** The configuration or a preset is wrong; all problems are listed at once. Exit 2. */
export class ConfigError extends MammoError {
  readonly problems: readonly ConfigProblem[]
  constructor(problems: readonly ConfigProblem[], parts: ErrorParts = {}) {
    const place = (p: ConfigProblem) => (p.line === undefined ? '' : `line ${p.line}, column ${p.column}: `)
    const files = [...new Set(problems.map((p) => p.file).filter(Boolean))].join(', ')
    const head = `${problems.length} problem${problems.length === 1 ? '' : 's'}${files ? ` in ${files}` : ''}`
    super('CONFIG', 2, [head, ...problems.map((p) => `  ${place(p)}${p.message}`)].join('\n'), {
      fix: 'edit the file or the --set option, or run `mammo-retinanet config show --diff`',
      ...parts,
    })
    this.problems = problems
  }
}

/** The call or command line was wrong. Exit 2. */
export class UsageError extends MammoError {
  constructor(code: UsageCode, message: string, parts?: ErrorParts) {
    super(code, 2, message, parts)
  }
}

/** An input file or dataset is wrong; `where` names it. Exit 3. */
export class DataError extends MammoError {
  constructor(code: DataCode, message: string, parts?: ErrorParts) {
    super(code, 3, message, parts)
  }
}

/** The native addon is missing or does not fit. Exit 4. */
export class BindingError extends MammoError {
  constructor(code: BindingCode, message: string, parts?: ErrorParts) {
    super(code, 4, message, parts)
  }
}

/** A resource of the machine failed: device, memory, disk, worker. Exit 4. */
export class DeviceError extends MammoError {
  constructor(code: DeviceCode, message: string, parts?: ErrorParts) {
    super(code, 4, message, parts)
  }
}

/** Training cannot go on: exit 5; an unusable checkpoint: exit 4. */
export class TrainingError extends MammoError {
  constructor(code: TrainingCode, message: string, parts?: ErrorParts) {
    super(code, code === 'CHECKPOINT' ? 4 : 5, message, parts)
  }
}

/** A check on a result failed: parity, precision, `--fail-under`. Exit 6. */
export class ExportError extends MammoError {
  constructor(code: ExportCode, message: string, parts?: ErrorParts) {
    super(code, 6, message, parts)
  }
}

/** Answers of the system about a path that a user can change. */
const PATH_FAULTS = new Set([
  'EACCES',
  'EPERM',
  'EROFS',
  'ENOENT',
  'ENOTDIR',
  'EISDIR',
  'EEXIST',
  'ENAMETOOLONG',
  'ELOOP',
])

/** Any error as one of ours: the system's refusals of a path become ARGUMENT or DISK_FULL, everything else is a bug. */
export function asMammoError(error: unknown): MammoError {
  if (error instanceof MammoError) return error
  const { code, path, message } = (error ?? {}) as { code?: unknown; path?: unknown; message?: unknown }
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new DeviceError('DISK_FULL', 'no space left on the device', {
      ...(typeof path === 'string' ? { where: path } : {}),
      fix: 'free disk space or choose another folder, then run the same command again',
      cause: error,
    })
  }
  if (typeof path === 'string' && PATH_FAULTS.has(String(code))) {
    return new UsageError(
      'ARGUMENT',
      `expected a path that can be used, the system says ${String(message).split(',')[0]}`,
      {
        where: path,
        fix: 'check the path and its permissions, or choose another one',
        cause: error,
      },
    )
  }
  return new InternalError(String(message ?? error), { cause: error })
}

/** A bug in this software. Exit 1. */
export class InternalError extends MammoError {
  constructor(message: string, parts?: ErrorParts) {
    super('INTERNAL', 1, message, { fix: 'please report this with the command and MAMMO_TRACE=1', ...parts })
  }
}
