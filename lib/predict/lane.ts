// One worker with one loaded model, as a thread or as a child process behind the same small interface. A thread shares memory and
// starts fast; a process can be killed while native code runs. Knows nothing of queues.
import { type ChildProcess, fork } from 'node:child_process'
import { Worker } from 'node:worker_threads'
import { DeviceError, type MammoError } from '../errors.js'
import type { FromWorker, Job, ToWorker, WorkerSetup } from './lane-protocol.js'
import { unpackError } from './lane-protocol.js'
import type { Prediction } from './results.js'

export type Isolation = 'thread' | 'process'

export interface Lane {
  /** Runs one job; never more than one at a time. Rejects with WORKER_LOST when the worker ends under it. */
  run(job: Job, transfer: boolean): Promise<Prediction>
  /** False once the worker has ended. */
  alive(): boolean
  /** Lets the worker release its model and end; kills it after `graceMs`. */
  stop(graceMs: number): Promise<void>
  /** Ends a process at once, whatever runs in it. A thread inside native code cannot be ended: false. */
  kill(): boolean
  /** Settles when the worker has ended. */
  readonly ended: Promise<void>
}

interface Port {
  send(message: ToWorker, transfer: ArrayBuffer[]): void
  kill(): boolean
  hold(hold: boolean): void
}

/** Starts a worker and waits until its model is loaded and warm. Rejects with the worker's error when that fails. */
export async function openLane(isolation: Isolation, setup: WorkerSetup): Promise<Lane> {
  let pending: { resolve(value: Prediction): void; reject(error: MammoError): void } | undefined
  let nextId = 0
  let onReady: () => void = () => undefined
  let onFailed: (error: MammoError) => void = () => undefined
  const ready = new Promise<void>((resolve, reject) => {
    onReady = resolve
    onFailed = reject
  })
  let markEnded: () => void = () => undefined
  const ended = new Promise<void>((resolve) => {
    markEnded = resolve
  })
  const settle = () => {
    const job = pending
    pending = undefined
    port.hold(false)
    return job
  }
  const onMessage = (message: FromWorker) => {
    if (message.kind === 'ready') onReady()
    else if (message.kind === 'failed') onFailed(unpackError(message.error))
    else if (message.kind === 'result') settle()?.resolve(message.prediction)
    else settle()?.reject(unpackError(message.error))
  }
  let alive = true
  const onEnd = (why: string) => {
    alive = false
    const lost = new DeviceError('WORKER_LOST', `expected a prediction, got the end of its worker: ${why}`, {
      fix: 'use fewer workers or smaller inputs when memory is short; the image may be tried again',
    })
    onFailed(lost)
    const job = pending
    pending = undefined
    job?.reject(lost)
    markEnded()
  }
  const open = isolation === 'thread' ? openThread : openProcess
  const port = open(import.meta.url.replace(/lane(\.[jt]s)$/, 'worker$1'), onMessage, onEnd)
  port.send({ kind: 'setup', setup }, [])
  try {
    await ready
  } catch (error) {
    port.send({ kind: 'close' }, [])
    await ended
    throw error
  }
  port.hold(false)
  return {
    ended,
    alive: () => alive,
    run(job, transfer) {
      return new Promise((resolve, reject) => {
        pending = { resolve, reject }
        port.hold(true)
        port.send({ kind: 'job', id: nextId++, job }, transfer ? buffersOf(job) : [])
      })
    },
    async stop(graceMs) {
      port.hold(true)
      port.send({ kind: 'close' }, [])
      const timer = setTimeout(() => port.kill(), graceMs)
      await ended
      clearTimeout(timer)
    },
    kill: () => port.kill(),
  }
}

function buffersOf({ source }: Job): ArrayBuffer[] {
  if (typeof source === 'string') return []
  const { buffer } = 'bytes' in source ? source.bytes : source.data
  return buffer instanceof ArrayBuffer ? [buffer] : []
}

function openThread(file: string, onMessage: (message: FromWorker) => void, onEnd: (why: string) => void): Port {
  // Flags such as --eval of the caller's process are not for the worker.
  const worker = new Worker(new URL(file), { execArgv: [] })
  let ended = false
  let why = ''
  worker.on('message', onMessage)
  worker.on('error', (error) => {
    why = error instanceof Error ? error.message : String(error)
  })
  worker.on('exit', (code) => {
    ended = true
    onEnd(why || `exit code ${code}`)
  })
  return {
    send(message, transfer) {
      if (!ended) worker.postMessage(message, transfer)
    },
    kill() {
      void worker.terminate()
      return false
    },
    hold: (hold) => (hold ? worker.ref() : worker.unref()),
  }
}

function openProcess(file: string, onMessage: (message: FromWorker) => void, onEnd: (why: string) => void): Port {
  const child: ChildProcess = fork(new URL(file), {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    execArgv: [],
  })
  let ended = false
  child.on('message', (message) => onMessage(message as FromWorker))
  const end = (why: string) => {
    if (ended) return
    ended = true
    onEnd(why)
  }
  child.on('error', (error) => end(error.message))
  child.on('exit', (code, signal) => end(signal === null ? `exit code ${code}` : `signal ${signal}`))
  return {
    send(message) {
      if (!ended && child.connected) child.send(message, () => undefined)
    },
    kill: () => child.kill('SIGKILL'),
    hold(hold) {
      if (hold) {
        child.ref()
        child.channel?.ref()
      } else {
        child.unref()
        child.channel?.unref()
      }
    },
  }
}
