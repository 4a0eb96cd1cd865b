// Stored detections: one COCO-style JSON file that stands alone (images by id, categories, boxes with scores), so that metrics can be
// computed again with other rules, without the model. Reads its own files and plain COCO result lists.
import { readFile } from 'node:fs/promises'
import { writeFileAtomic } from '../atomic-write.js'
import { DataError } from '../errors.js'
import { fromCocoResults, toCocoResults } from '../evaluate/results.js'
import type { Detection } from '../evaluate/types.js'

export interface StoredPredictions {
  /** Empty for a plain list. */
  info: { split?: string; source?: string; scoreThreshold?: number; nmsIou?: number }
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
  const place = new Map(ids.map((name, i) => [name, i + 1]))
  const rows = toCocoResults(detections, { image: (name) => place.get(name)!, category: (label) => label + 1 })
  const annotations = rows.map((row, i) => ({ id: i + 1, ...row, area: row.bbox[2] * row.bbox[3], iscrowd: 0 }))
  const images = ids.map((file_name, i) => ({ id: i + 1, file_name }))
  const categories = classes.map((name, i) => ({ id: i + 1, name }))
  await writeFileAtomic(path, `${JSON.stringify({ info, images, categories, annotations })}\n`)
}

interface CocoFile {
  info?: StoredPredictions['info']
  images?: { id: number; file_name: string }[]
  categories?: { id: number; name: string }[]
  annotations?: unknown
}

/** Label of a class that the file knows and this configuration does not detect. */
const UNWANTED = -1

/**
 * Reads a file of `writePredictions`, or a plain list of COCO results whose image_id are image ids and whose category_id are class
 * index + 1. Throws DataError ANNOTATION that names the first faulty entry.
 */
export async function readPredictions(path: string, classes: readonly string[]): Promise<StoredPredictions> {
  const fix = 'give a predictions.coco.json of `train`, `evaluate` or `predict`'
  let content: unknown
  try {
    content = JSON.parse(await readFile(path, 'utf8'))
  } catch (cause) {
    throw new DataError('ANNOTATION', 'expected a JSON file of predictions', { where: path, fix, cause })
  }
  const plain = Array.isArray(content)
  const file = (plain ? { annotations: content } : (content ?? {})) as CocoFile
  const list = <T>(value: T[] | undefined, what: string): T[] => {
    const rows: unknown = value ?? []
    if (Array.isArray(rows) && rows.every((row) => typeof row === 'object' && row !== null)) return rows as T[]
    throw new DataError('ANNOTATION', `expected ${what} as a list of objects`, { where: path, fix })
  }
  const names = new Map(list(file.images, 'images').map((image) => [image.id, image.file_name]))
  const labels = plain
    ? new Map(classes.map((_, i) => [i + 1, i]))
    : new Map(list(file.categories, 'categories').map((category) => [category.id, classes.indexOf(category.name)]))
  const { detections, otherImages } = fromCocoResults(
    file.annotations,
    { image: (id) => (plain ? String(id) : names.get(id as number)), label: (id) => labels.get(id) },
    path,
  )
  if (otherImages > 0) {
    const message = `expected detections of the file's images, got ${otherImages} of others`
    throw new DataError('ANNOTATION', message, { where: path, fix })
  }
  for (const [id, found] of detections) {
    const wanted = found.filter(({ label }) => label !== UNWANTED)
    detections.set(id, wanted)
  }
  const every = new Map([...names.values()].map((name) => [name, detections.get(name) ?? []]))
  return { info: file.info ?? {}, detections: plain ? detections : every }
}
