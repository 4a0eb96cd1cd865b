// Native errors arrive as Error with a short `code` (what native/addon/errors.cc sets); here they become the classes of
// lib/errors.ts, each with its remedy and the JavaScript stack of the call that failed instead of the event loop's.
import {
  ConfigError,
  type DeviceCode,
  DeviceError,
  InternalError,
  MammoError,
  TrainingError,
  type UsageCode,
  UsageError,
} from '../errors.js'

const REMEDY: Record<string, string> = {
  ARGUMENT: 'correct the value',
  DISPOSED: 'open a new session',
  NO_CUDA: 'use --device cpu, or build against a CUDA LibTorch: `mammo-retinanet build --variant cuda`',
  CUDA: 'start a new process; if it happens again, run once with CUDA_LAUNCH_BLOCKING=1',
  OUT_OF_MEMORY:
    'use a smaller batch with more accumulation, a smaller image, or freeze the backbone (model.frozenStages=5)',
  DISK_FULL: 'free disk space or choose another folder, then run the same command again',
  CHECKPOINT: 'name a checkpoint that this version wrote, or start without it',
  NON_FINITE_LOSS: 'lower the learning rate or clip the gradient; check the image statistics',
}

/** The error to throw for what a native call threw. `site` holds the stack captured when the call was made. */
export function translate(cause: unknown, site?: { stack?: string }): Error {
  if (cause instanceof MammoError) return cause
  const message = cause instanceof Error ? cause.message : String(cause)
  const code = String((cause as { code?: unknown } | undefined)?.code ?? 'INTERNAL')
  const error = build(code, message, cause)
  if (site?.stack !== undefined) error.stack = `${error.name}: ${error.message}\n${frames(site.stack)}`
  return error
}

function build(code: string, message: string, cause: unknown): MammoError {
  const fix = REMEDY[code]
  const parts = fix === undefined ? { cause } : { fix, cause }
  switch (code) {
    case 'CONFIG':
      return new ConfigError([{ key: '', message }], { cause })
    case 'ARGUMENT':
    case 'DISPOSED':
      return new UsageError(code satisfies UsageCode, message, parts)
    case 'NO_CUDA':
    case 'CUDA':
    case 'OUT_OF_MEMORY':
    case 'DISK_FULL':
      return new DeviceError(code satisfies DeviceCode, message, parts)
    case 'CHECKPOINT':
    case 'NON_FINITE_LOSS':
      return new TrainingError(code, message, parts)
    case 'DEVICE':
      return new DeviceError('NO_CUDA', message, { cause, fix: REMEDY.NO_CUDA ?? '' })
    case 'NON_FINITE':
      return new TrainingError('NON_FINITE_LOSS', message, { cause, fix: REMEDY.NON_FINITE_LOSS ?? '' })
    default:
      return new InternalError(message, { cause })
  }
}

const frames = (stack: string) => stack.slice(stack.indexOf('\n') + 1)
