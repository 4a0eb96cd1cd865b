// COCO evaluation of many images, from detections in memory to AP and AR, in one process. The peer's numbers stand in its row's notes: they must be equal.
import { type CocoDetection, type CocoTruth, cocoEvaluate, cocoStatistics } from '../../lib/evaluate/coco-ap.js'
import type { Measurement } from '../trials.js'
import { residentBytes } from './model.js'
import { uniforms } from './op.js'

type Xywh = [number, number, number, number]

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const { images, detections: perImage, lesions, classes, count = 1 } = options as Record<string, number>
  const { truth, detections } = invent(images!, perImage!, lesions!, classes!)
  const baseBytes = residentBytes('VmRSS')
  const seconds: number[] = []
  let statistics: ReturnType<typeof cocoStatistics> | undefined
  for (let run = 0; run < count!; run++) {
    const start = performance.now()
    statistics = cocoStatistics(cocoEvaluate(truth, detections, { images: images!, classes: classes! }))
    seconds.push((performance.now() - start) / 1000)
  }
  const { AP, AP50, AR_100 } = statistics!
  return { seconds, peakBytes: residentBytes('VmHWM'), baseBytes, extra: { AP, AP50, AR100: AR_100 } }
}

/** Lesions anywhere; four detections around each, the others anywhere. */
function invent(images: number, perImage: number, lesions: number, classes: number) {
  const u = uniforms(images * (6 * lesions + 6 * perImage))
  let place = 0
  const take = () => u[place++]!
  const truth: CocoTruth[] = []
  const detections: CocoDetection[] = []
  for (let image = 0; image < images; image++) {
    const first = truth.length
    for (let i = 0; i < lesions; i++) {
      const [x, y] = [take() * 3000, take() * 4000]
      const [w, h] = [20 + 400 * take(), 20 + 400 * take()]
      const label = Math.floor(take() * classes)
      take()
      truth.push({ image, label, box: [x, y, w, h] })
    }
    for (let i = 0; i < perImage; i++) {
      const [a, b, c, d, e, score] = [take(), take(), take(), take(), take(), take()]
      const near = i < 4 * lesions ? truth[first + (i % lesions)]! : undefined
      const box: Xywh = near
        ? [
            near.box[0] + (a - 0.5) * near.box[2],
            near.box[1] + (b - 0.5) * near.box[3],
            near.box[2] * (0.7 + 0.6 * c),
            near.box[3] * (0.7 + 0.6 * d),
          ]
        : [a * 3000, b * 4000, 20 + 400 * c, 20 + 400 * d]
      detections.push({ image, label: near?.label ?? Math.floor(e * classes), box, score })
    }
  }
  return { truth, detections }
}
