// Detections in COCO's results format ([{image_id, category_id, bbox: [x, y, w, h], score}]), in and out, so that other tools' detections
// can be scored and ours by other tools. It reads values, not files.
import { DataError } from '../errors.js'
import type { Detection, DetectionsByImage } from './types.js'

export interface CocoResultRow {
  image_id: number | string
  category_id: number
  /** x, y, width, height */
  bbox: [number, number, number, number]
  score: number
}

export interface ResultIds {
  /** Our image id of a file's image id; undefined when the image is not part of the evaluation. */
  image(id: number | string): string | undefined
  /** Class index of a category; undefined when unknown. */
  label(category: number): number | undefined
}

export interface ReadResults {
  detections: Map<string, Detection[]>
  /** Rows of images outside the evaluation. */
  otherImages: number
}

/**
 * Reads a parsed results file. Rows keep their order within an image, which breaks ties.
 * @throws DataError naming the row when a row is malformed, has an unknown category, a box without area or numbers that are not finite.
 */
export function fromCocoResults(rows: unknown, ids: ResultIds, source: string): ReadResults {
  const wrong = (what: string, row?: number): never => {
    throw new DataError('ANNOTATION', `COCO results: expected ${what}`, {
      where: row === undefined ? source : `${source}, entry ${row}`,
      fix: 'write a list of {image_id, category_id, bbox: [x, y, width, height], score}',
    })
  }
  if (!Array.isArray(rows)) return wrong('a list')
  const detections = new Map<string, Detection[]>()
  let otherImages = 0
  for (const [i, row] of rows.entries()) {
    const { image_id, category_id, bbox, score } = (row ?? {}) as Partial<CocoResultRow>
    if (typeof image_id !== 'number' && typeof image_id !== 'string') return wrong(`image_id, got ${image_id}`, i)
    if (typeof score !== 'number' || !Number.isFinite(score)) return wrong(`a finite score, got ${score}`, i)
    if (!Array.isArray(bbox) || bbox.length !== 4 || !bbox.every((v) => Number.isFinite(v)))
      return wrong(`bbox of four finite numbers, got ${JSON.stringify(bbox)}`, i)
    const [x, y, width, height] = bbox
    if (!(width > 0 && height > 0)) return wrong(`a box with area, got width ${width}, height ${height}`, i)
    const label = ids.label(category_id as number)
    if (label === undefined) return wrong(`a known category_id, got ${category_id}`, i)
    const image = ids.image(image_id)
    if (image === undefined) {
      otherImages++
      continue
    }
    const list = detections.get(image) ?? []
    list.push({ box: [x, y, x + width, y + height], score, label })
    detections.set(image, list)
  }
  return { detections, otherImages }
}

/** Rows in the order of the images, within an image by descending score. */
export function toCocoResults(
  detections: DetectionsByImage,
  ids: { image(id: string): number | string; category(label: number): number },
): CocoResultRow[] {
  return [...detections].flatMap(([image, list]) =>
    list
      .toSorted((a, b) => b.score - a.score)
      .map(
        ({ box, score, label }): CocoResultRow => ({
          image_id: ids.image(image),
          category_id: ids.category(label),
          bbox: [box[0], box[1], box[2] - box[0], box[3] - box[1]],
          score,
        }),
      ),
  )
}
