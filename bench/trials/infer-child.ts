// The timed part of `infer`, in a process that never loads LibTorch: its memory is that of prediction alone.
import { readFileSync } from 'node:fs'
import { readImage } from '../../lib/data/image.js'
import { readManifest } from '../../lib/onnx/manifest.js'
import { openOnnx } from '../../lib/onnx/runtime.js'
import { fillInputs, planInput } from '../../lib/predict/preprocess.js'
import { now, timed } from '../statistics.js'
import { residentBytes, restartPeak } from './model.js'
import { noiseFeeds } from './onnx-file.js'

interface Request {
  model: string
  height: number
  width: number
  threads: number
  warmup: number
  count: number
  /** Real films instead of noise: each is read, cropped to the breast and predicted. */
  films?: string[]
}

const request = JSON.parse(readFileSync(0, 'utf8')) as Request
const { model, height, width, threads, films } = request
const baseBytes = restartPeak()
// As a predictor's worker decides it.
const keepMemory = films === undefined && height * width <= 2 ** 21
const session = await openOnnx(model, { threads, spin: true, keepMemory })
let seconds: number[]
let pixels = height * width
let detections: number | undefined
if (films === undefined) {
  const feeds = noiseFeeds(height, width)
  seconds = await timed(
    async () => {
      detections = (await session.run(feeds))['scores']!.dims[0]
    },
    request.warmup,
    request.count,
  )
} else {
  const manifest = await readManifest(model)
  seconds = []
  pixels = 0
  for (const film of films) {
    const image = await readImage(film, {})
    const start = now()
    const plan = planInput(image, null, manifest, {})
    for (const { feeds } of fillInputs(image, plan, manifest)) await session.run(feeds)
    seconds.push(now() - start)
    pixels += (plan.canvas[0] * plan.canvas[1]) / films.length
  }
}
process.stdout.write(
  `${JSON.stringify({ seconds, peakBytes: residentBytes('VmHWM'), baseBytes, extra: { megapixels: pixels / 1e6, ...(detections === undefined ? {} : { detections }) } })}\n`,
)
