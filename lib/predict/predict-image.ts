// Predicts one image with a loaded model: read, prepare, run, bring boxes back to pixels of the whole image. Runs inside a worker.

import type { ModelManifest } from '../onnx/manifest.js'
import { splitDetections } from '../onnx/parity.js'
import type { OnnxSession } from '../onnx/runtime.js'
import type { Job } from './lane-protocol.js'
import { fillInput, type InputPlan, planInput } from './preprocess.js'
import { readSource } from './read-source.js'
import { DETECTIONS_SCHEMA, type Detection, type Prediction } from './results.js'

/** Throws DataError for an image that cannot be read or does not fit the model, DeviceError when the run fails. */
export async function predictImage(session: OnnxSession, manifest: ModelManifest, job: Job): Promise<Prediction> {
  const start = performance.now()
  const image = await readSource(job)
  const decoded = performance.now()
  const plan = planInput(image, image.spacingMm, manifest, job)
  const feeds = fillInput(image, plan, manifest)
  const prepared = performance.now()
  const found = splitDetections(await session.run(feeds), 1)[0]!
  const done = performance.now()
  const detections: Detection[] = []
  for (let i = 0; i < found.scores.length; i++) {
    const score = found.scores[i]!
    if (!(score > job.threshold)) continue
    const box = toImage(plan, found.boxes, 4 * i)
    const classIndex = found.labels[i]!
    const label = manifest.classes.find(({ index }) => index === classIndex)?.name ?? String(classIndex)
    detections.push({ box, boxMm: toMillimetres(box, image.spacingMm), score, label, classIndex })
  }
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
      scope: 'whole image',
    },
    threshold: job.threshold,
    detections,
    timingsMs: {
      decode: decoded - start,
      prepare: prepared - decoded,
      network: done - prepared,
      total: performance.now() - start,
    },
    warnings: [...image.warnings, ...plan.warnings],
  }
}

/** Network pixels to pixels of the whole image; a scaled side is rounded, so its last pixel may reach beyond the crop. */
function toImage({ crop, scale }: InputPlan, boxes: ArrayLike<number>, at: number): Detection['box'] {
  const back = (offset: number, axis: 0 | 1) =>
    Math.min(Math.max(boxes[at + offset]! / scale + crop[axis], crop[axis]), crop[axis + 2]!)
  return [back(0, 0), back(1, 1), back(2, 0), back(3, 1)]
}

function toMillimetres(box: Detection['box'], spacingMm: [number, number] | null): Detection['boxMm'] {
  if (spacingMm === null) return null
  const [row, column] = spacingMm
  return [box[0] * column, box[1] * row, box[2] * column, box[3] * row]
}
