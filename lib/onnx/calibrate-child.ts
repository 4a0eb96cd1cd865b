// The child process of the calibration: runs a model whose outputs are its activations on one image after the other and keeps the
// range of each. Started by calibrate.ts only.
import type { CalibrationReply, CalibrationRequest } from './calibrate.js'
import type { Range } from './precision.js'
import { type OnnxSession, openOnnx } from './runtime.js'

const BINS = 4096

let session: OnnxSession | undefined
let percentile = 100
const ranges = new Map<string, [number, number]>()

process.on('message', async (message) => {
  const request = message as CalibrationRequest
  let reply: CalibrationReply
  try {
    if (request.kind === 'open') {
      session = await openOnnx(request.model, { threads: request.threads, spin: true })
      percentile = request.percentile
      reply = { kind: 'ok' }
    } else if (request.kind === 'image') {
      const outputs = await session!.run(request.feeds)
      for (const [name, tensor] of Object.entries(outputs)) {
        const [low, high] = rangeOf(tensor.data as Float32Array, percentile)
        const known = ranges.get(name)
        ranges.set(name, known === undefined ? [low, high] : [Math.min(known[0], low), Math.max(known[1], high)])
      }
      reply = { kind: 'ok' }
    } else {
      await session?.close()
      reply = { kind: 'ranges', ranges: [...ranges] }
    }
  } catch (error) {
    reply = { kind: 'error', message: (error as Error).message }
  }
  process.send?.(reply)
})

/** Least and largest value; with a percentile below 100 the rare values beyond it on each side are cut. */
function rangeOf(values: Float32Array, percent: number): Range {
  let low = Number.POSITIVE_INFINITY
  let high = Number.NEGATIVE_INFINITY
  for (const value of values) {
    if (value < low) low = value
    if (value > high) high = value
  }
  if (percent >= 100 || !(high > low)) return [low, high]
  const counts = new Uint32Array(BINS)
  const step = (high - low) / BINS
  for (const value of values) counts[Math.min(BINS - 1, Math.floor((value - low) / step))]!++
  const rare = (values.length * (100 - percent)) / 100
  let first = 0
  for (let sum = counts[0]!; sum <= rare && first < BINS - 1; sum += counts[first]!) first++
  let last = BINS - 1
  for (let sum = counts[last]!; sum <= rare && last > first; sum += counts[last]!) last--
  return [low + first * step, low + (last + 1) * step]
}
