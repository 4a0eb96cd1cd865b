// Ranges of a model's activations on images, for quantisation: the model with all of them as outputs runs in a child process, image by
// image, so that neither memory nor the caller's thread depends on how many there are.
import { fork } from 'node:child_process'
import { rm, writeFile } from 'node:fs/promises'
import { DeviceError } from '../errors.js'
import { calibrationTensors, planQuantisation, type Range, type Ranges, withOutputs } from './precision.js'
import { encodeModel, type ModelMessage } from './proto.js'
import type { Tensor } from './runtime.js'

export interface CalibrationOptions {
  /** 100 keeps the extreme values (MinMax); below, that share of values of an image on each side of a tensor. */
  percentile: number
  threads: number
  /** Path of a temporary model; removed again. */
  scratch: string
}

export type CalibrationRequest =
  | { kind: 'open'; model: string; threads: number; percentile: number }
  | { kind: 'image'; feeds: Record<string, Tensor> }
  | { kind: 'end' }

export type CalibrationReply =
  | { kind: 'ok' }
  | { kind: 'ranges'; ranges: [string, Range][] }
  | { kind: 'error'; message: string }

/** The range of every tensor that `quantise` needs, over all images. Throws DeviceError WORKER_LOST when the model does not run. */
export async function calibrate(
  model: ModelMessage,
  images: AsyncIterable<Record<string, Tensor>>,
  { percentile, threads, scratch }: CalibrationOptions,
): Promise<Ranges> {
  const tensors = calibrationTensors(planQuantisation(model))
  const file = import.meta.url.replace(/calibrate(\.[jt]s)$/, 'calibrate-child$1')
  const child = fork(new URL(file), {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    execArgv: [],
  })
  const lost = (why: string) => new DeviceError('WORKER_LOST', `expected ranges from the calibration, got ${why}`)
  const ask = (request: CalibrationRequest) =>
    new Promise<CalibrationReply>((resolve, reject) => {
      const end = (code: number | null, signal: string | null) => reject(lost(signal ?? `exit ${code}`))
      const fail = (error: Error) => reject(lost(error.message))
      child.once('exit', end)
      child.once('error', fail)
      child.once('message', (message) => {
        child.off('exit', end)
        child.off('error', fail)
        const reply = message as CalibrationReply
        if (reply.kind === 'error') reject(lost(reply.message))
        else resolve(reply)
      })
      child.send(request, (error) => error && reject(lost(error.message)))
    })
  try {
    await writeFile(scratch, encodeModel(withOutputs(model, tensors)))
    await ask({ kind: 'open', model: scratch, threads, percentile })
    for await (const feeds of images) await ask({ kind: 'image', feeds })
    const reply = await ask({ kind: 'end' })
    return new Map(reply.kind === 'ranges' ? reply.ranges : [])
  } finally {
    child.removeAllListeners()
    if (child.connected) child.disconnect()
    else child.kill()
    await rm(scratch, { force: true })
  }
}
