// Stored detections: one COCO-style JSON file that stands alone (images by id, categories, boxes with scores), so that metrics can be
// computed again with other rules, without the model. Reads its own files and plain COCO result lists.
import { readFile } from 'node:fs/promises'
import { writeFileAtomic } from '../atomic-write.js'
import { DataError } from '../errors.js'
import type { Detection } from '../evaluate/types.js'

export interface StoredPredictions {
  /** Empty for a plain list. */
  info: { split?: string; source?: string; scoreThreshold?: number }
  /** By image id; every scored image has an entry. */
  detections: Map<string, Detection[]>
}

/** Writes detections of the given images. Boxes become x, y, width, height; category ids are class index + 1, image ids count from 1. */
export async function writePredictions(
  path: string,
  { info, detections }: StoredPredictions,
  classes: readonly string[],
): Promise<void> {
  const ids = [...detections.keys()]
  let id = 0
  const annotations = ids.flatMap((name, i) =>
    detections.get(name)!.map(({ box: [x1, y1, x2, y2], score, label }) => ({
      ...{ id: ++id, image_id: i + 1, category_id: label + 1, bbox: [x1, y1, x2 - x1, y2 - y1], score },
      ...{ area: (x2 - x1) * (y2 - y1), iscrowd: 0 },
    })),
  )
  const images = ids.map((file_name, i) => ({ id: i + 1, file_name }))
  const categories = classes.map((name, i) => ({ id: i + 1, name }))
  await writeFileAtomic(path, `${JSON.stringify({ info, images, categories, annotations })}\n`)
}

interface CocoEntry {
  image_id: number | string
  category_id: number
  bbox: [number, number, number, number]
  score: number
}

/**
 * Reads a file of `writePredictions`, or a list of COCO results whose image_id are image ids. Throws DataError ANNOTATION that names
 * the first faulty entry: unknown category or image, box that is not four finite numbers, score that is not a number.
 */
export async function readPredictions(path: string, classes: readonly string[]): Promise<StoredPredictions> {
  const fault = (message: string, cause?: unknown) =>
    new DataError('ANNOTATION', message, {
      where: path,
      fix: 'give a predictions.coco.json of `train`, `evaluate` or `predict`',
      cause,
    })
  let content: unknown
  try {
    content = JSON.parse(await readFile(path, 'utf8'))
  } catch (cause) {
    throw fault('expected a JSON file of predictions', cause)
  }
  const whole = content as {
    info?: StoredPredictions['info']
    images?: { id: number; file_name: string }[]
    categories?: { id: number; name: string }[]
    annotations?: CocoEntry[]
  }
  const entries = Array.isArray(content) ? (content as CocoEntry[]) : whole.annotations
  if (!Array.isArray(entries)) throw fault('expected a list of detections, or an object with `annotations`')
  const names = new Map<number | string, string>(
    Array.isArray(content) ? [] : whole.images?.map((i) => [i.id, i.file_name]),
  )
  const labels = new Map<number, number>(
    Array.isArray(content)
      ? classes.map((_, i) => [i + 1, i])
      : whole.categories?.map((c) => [c.id, classes.indexOf(c.name)]),
  )
  const detections = new Map<string, Detection[]>([...names.values()].map((name) => [name, []]))
  for (const [i, { image_id, category_id, bbox, score }] of entries.entries()) {
    const name = Array.isArray(content) ? String(image_id) : names.get(image_id)
    if (name === undefined) throw fault(`entry ${i}: image_id ${image_id} is not among the images`)
    const label = labels.get(category_id)
    if (label === undefined) throw fault(`entry ${i}: unknown category_id ${category_id}`)
    // A class that this configuration does not detect.
    if (label < 0) continue
    if (!Array.isArray(bbox) || bbox.length !== 4 || !bbox.every(Number.isFinite) || !Number.isFinite(score)) {
      throw fault(`entry ${i}: expected bbox of four finite numbers and a score, got ${JSON.stringify(bbox)}, ${score}`)
    }
    const [x, y, w, h] = bbox
    const list = detections.get(name) ?? []
    detections.set(name, list)
    list.push({ box: [x, y, x + w, y + h], score, label })
  }
  return { info: Array.isArray(content) ? {} : (whole.info ?? {}), detections }
}
