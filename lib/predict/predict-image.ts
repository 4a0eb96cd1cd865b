// Predicts one image with a loaded model: read, prepare, run, bring boxes back to pixels of the whole image. Runs inside a worker.

import type { ScoredBox } from '../geometry/fusion.js'
import type { ModelManifest } from '../onnx/manifest.js'
import { splitDetections } from '../onnx/parity.js'
import type { OnnxSession, Tensor } from '../onnx/runtime.js'
import { fromView, mergeViews, type View } from './combine.js'
import type { Job } from './lane-protocol.js'
import { fillInputs, type InputPlan, planInput } from './preprocess.js'
import { readSource } from './read-source.js'
import { DETECTIONS_SCHEMA, type Detection, type Prediction } from './results.js'

/** Throws DataError for an image that cannot be read or does not fit the model, DeviceError when the run fails. */
export async function predictImage(session: OnnxSession, manifest: ModelManifest, job: Job): Promise<Prediction> {
  const start = performance.now()
  const image = await readSource(job)
  const decoded = performance.now()
  const plan = planInput(image, image.spacingMm, manifest, job)
  let prepare = performance.now() - decoded
  let network = 0
  let last = performance.now()
  const parts: { view: View; detections: ScoredBox[] }[] = []
  for (const { view, feeds } of fillInputs(image, plan, manifest)) {
    const ready = performance.now()
    prepare += ready - last
    parts.push({ view, detections: detectionsOf(await session.run(feeds), view) })
    last = performance.now()
    network += last - ready
  }
  const { nmsIou, maxDetections } = manifest.output
  const merged = mergeViews(parts, plan.size, { nmsIou, maxDetections, merge: job.merge ?? 'fusion' })
  const detections = merged
    .filter(({ score }) => score > job.threshold)
    .map(({ box, score, label: classIndex }): Detection => {
      const whole = toImage(plan, box)
      const label = manifest.classes.find(({ index }) => index === classIndex)?.name ?? String(classIndex)
      return { box: whole, boxMm: toMillimetres(whole, image.spacingMm), score, label, classIndex }
    })
  return {
    schema: DETECTIONS_SCHEMA,
    image: {
      id: image.id,
      sha256: image.sha256,
      rows: image.height,
      columns: image.width,
      spacingMm: image.spacingMm,
    },
    model: { name: manifest.name, version: manifest.version, sha256: manifest.file.sha256 },
    pipeline: {
      crop: plan.crop,
      breastFound: plan.breastFound,
      scale: plan.scale,
      canvas: plan.canvas,
      normalise: manifest.input.normalise,
      scope: job.tile === undefined ? 'whole image' : 'tiles',
      views: plan.views.length,
      merge: plan.views.length === 1 ? 'none' : (job.merge ?? 'fusion'),
    },
    threshold: job.threshold,
    detections,
    timingsMs: {
      decode: decoded - start,
      prepare,
      network,
      total: performance.now() - start,
    },
    warnings: [...image.warnings, ...plan.warnings],
  }
}

function detectionsOf(outputs: Record<string, Tensor>, view: View): ScoredBox[] {
  const { boxes, scores, labels } = splitDetections(outputs, 1)[0]!
  return Array.from(scores, (score, i) => ({
    box: fromView(view, [boxes[4 * i]!, boxes[4 * i + 1]!, boxes[4 * i + 2]!, boxes[4 * i + 3]!]),
    score,
    label: labels[i]!,
  }))
}

/** Pixels of the scaled crop to pixels of the whole image; a scaled side is rounded, so its last pixel may reach beyond the crop. */
function toImage({ crop, scale }: InputPlan, box: ScoredBox['box']): Detection['box'] {
  const back = (value: number, axis: 0 | 1) =>
    Math.min(Math.max(value / scale + crop[axis], crop[axis]), crop[axis + 2]!)
  return [back(box[0], 0), back(box[1], 1), back(box[2], 0), back(box[3], 1)]
}

function toMillimetres(box: Detection['box'], spacingMm: [number, number] | null): Detection['boxMm'] {
  if (spacingMm === null) return null
  const [row, column] = spacingMm
  return [box[0] * column, box[1] * row, box[2] * column, box[3] * row]
}
