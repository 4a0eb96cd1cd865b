// Worker threads that prepare images: one image per worker at a time, so memory is bounded by the number of workers.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { type DataCode, DataError, DeviceError, InternalError, UsageError } from '../errors.js'
import { type PreparedImage, type PrepareJob, prepareImage } from './prepare-image.js'
import type { WorkerError, WorkerReply } from './prepare-worker.js'

export interface PreparePool {
  /** Images in work at most. */
  size: number
  /** Never more than `size` calls may be open. */
  run(job: PrepareJob): Promise<PreparedImage>
  close(): Promise<void>
}

/** A pool of `count` threads; with 0 the images are prepared in this thread. */
export function openPool(count: number): PreparePool {
  if (count === 0) return { size: 1, run: prepareImage, close: async () => undefined }
  const script = new URL('./prepare-worker.js', import.meta.url)
  if (!existsSync(fileURLToPath(script)))
    throw new InternalError('expected the compiled worker beside the pool, got none')
  const idle: Worker[] = []
  let closed = false
  const run = (job: PrepareJob): Promise<PreparedImage> =>
    new Promise((resolve, reject) => {
      const worker = idle.pop() ?? new Worker(script)
      const settle = () => {
        worker.off('message', onReply).off('error', onLost).off('exit', onLost)
      }
      const onReply = (reply: WorkerReply) => {
        settle()
        if (closed) void worker.terminate()
        else idle.push(worker)
        if ('prepared' in reply) resolve(reply.prepared)
        else reject(unpackError(reply.error))
      }
      const onLost = (cause: unknown) => {
        settle()
        void worker.terminate()
        reject(
          new DeviceError(
            'WORKER_LOST',
            `expected a prepared image for ${job.record.id}, got the end of its worker thread`,
            {
              where: job.record.path,
              fix: 'run the command again with --workers 1, or more memory',
              cause,
            },
          ),
        )
      }
      worker.on('message', onReply).on('error', onLost).on('exit', onLost)
      worker.postMessage(job)
    })
  return {
    size: count,
    run,
    async close() {
      closed = true
      await Promise.all(idle.splice(0).map((worker) => worker.terminate()))
    },
  }
}

function unpackError(error: WorkerError): Error {
  const parts = {
    ...(error.where === undefined ? {} : { where: error.where }),
    ...(error.fix === undefined ? {} : { fix: error.fix }),
    details: error.details,
  }
  if (error.kind === 'data')
    return new DataError(error.code.replace('ERR_MAMMO_', '') as DataCode, error.message, parts)
  if (error.code === 'ERR_MAMMO_ARGUMENT') return new UsageError('ARGUMENT', error.message, parts)
  if (error.code === 'ERR_MAMMO_DISK_FULL') return new DeviceError('DISK_FULL', error.message, parts)
  return new InternalError(error.message, parts)
}
