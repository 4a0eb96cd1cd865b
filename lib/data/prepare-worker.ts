// Worker thread of `data prepare`: prepares one image per message. Errors travel back as plain values, with code and remedy.
import { parentPort } from 'node:worker_threads'
import { asMammoError, DataError, DeviceError, UsageError } from '../errors.js'
import { type PreparedImage, type PrepareJob, prepareImage } from './prepare-image.js'

export interface WorkerError {
  kind: 'data' | 'device' | 'usage' | 'other'
  code: string
  message: string
  where?: string
  fix?: string
  details: Record<string, unknown>
}

export type WorkerReply = { prepared: PreparedImage } | { error: WorkerError }

/** An error as values that survive the way between threads. */
export function packError(given: unknown): WorkerError {
  const error = asMammoError(given)
  const kinds = { data: DataError, device: DeviceError, usage: UsageError } as const
  const kind = (Object.keys(kinds) as (keyof typeof kinds)[]).find((name) => error instanceof kinds[name])
  return {
    kind: kind ?? 'other',
    code: error.code,
    message: error.message,
    ...(error.where === undefined ? {} : { where: error.where }),
    ...(error.fix === undefined ? {} : { fix: error.fix }),
    details: error.details,
  }
}

parentPort?.on('message', async (job: PrepareJob) => {
  const reply: WorkerReply = await prepareImage(job).then(
    (prepared) => ({ prepared }),
    (error: unknown) => ({ error: packError(error) }),
  )
  parentPort?.postMessage(reply)
})
