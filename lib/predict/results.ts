// What a prediction is and how it is written: JSON of one image, COCO results, CSV, JSON lines. Pure functions to texts; files are
// written by the caller. Boxes are in pixels of the whole stored image, half-open.
import { stringify } from 'csv-stringify/sync'
import type { ModelManifest } from '../onnx/manifest.js'

export const DETECTIONS_SCHEMA = 'mammo-retinanet/detections@1'

export interface Detection {
  /** x1, y1, x2, y2 in pixels of the whole image. */
  box: [number, number, number, number]
  /** The same in millimetres from the top left corner; null without a known pixel spacing. */
  boxMm: [number, number, number, number] | null
  score: number
  /** Class name and index. */
  label: string
  classIndex: number
}

/** How the image was changed before the network saw it. */
export interface AppliedPipeline {
  /** Region of the whole image that was used. */
  crop: [number, number, number, number]
  breastFound: boolean | null
  /** Network pixels per image pixel. */
  scale: number
  /** Height and width of the network input, padding included. */
  canvas: [number, number]
  normalise: 'dataset' | 'image'
  scope: 'whole image' | 'tiles'
  /** Parts that were predicted: tiles, mirrored copies. */
  views: number
  merge: 'none' | 'nms' | 'fusion'
}

export interface Prediction {
  schema: typeof DETECTIONS_SCHEMA
  image: { id: string; sha256: string; rows: number; columns: number; spacingMm: [number, number] | null }
  model: { name: string; version: string; sha256: string }
  pipeline: AppliedPipeline
  threshold: number
  /** Descending scores. */
  detections: Detection[]
  timingsMs: { decode: number; prepare: number; network: number; total: number }
  warnings: { code: string; message: string }[]
}

export function toJson(prediction: Prediction): string {
  return `${JSON.stringify(prediction, null, 2)}\n`
}

/** One object per line, for streams. */
export function toJsonLine(prediction: Prediction): string {
  return `${JSON.stringify(prediction)}\n`
}

/** A COCO document: images numbered from 1 in the given order, annotations with scores, boxes as x, y, width, height. */
export function toCoco(predictions: readonly Prediction[], classes: ModelManifest['classes']): string {
  let id = 0
  const images = predictions.map(({ image }, index) => ({
    id: index + 1,
    file_name: image.id,
    width: image.columns,
    height: image.rows,
  }))
  const annotations = predictions.flatMap(({ detections }, index) =>
    detections.map(({ box: [x1, y1, x2, y2], score, classIndex }) => ({
      id: ++id,
      image_id: index + 1,
      category_id: classIndex + 1,
      bbox: [x1, y1, x2 - x1, y2 - y1],
      area: (x2 - x1) * (y2 - y1),
      iscrowd: 0,
      score,
    })),
  )
  const categories = classes.map(({ index, name }) => ({ id: index + 1, name }))
  return `${JSON.stringify({ images, annotations, categories }, null, 1)}\n`
}

export const CSV_HEADER = 'image,x1,y1,x2,y2,score,label,x1_mm,y1_mm,x2_mm,y2_mm\n'

/** Rows below CSV_HEADER, one per detection; nothing for an image without detections. */
export function toCsv(prediction: Prediction): string {
  return stringify(
    prediction.detections.map(({ box, boxMm, score, label }) => [
      ...[prediction.image.id, ...box, score, label],
      ...(boxMm ?? ['', '', '', '']),
    ]),
  )
}
