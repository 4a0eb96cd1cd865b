// COCO JSON, read and written: images, annotations with boxes `[x, y, w, h]` and polygons, categories. Class names are trimmed and
// case-folded ("Mass" is mass). Run-length masks are not kept; the box is. Other formats (KITTI, Open Images, ...) come in this way.
import { readdir } from 'node:fs/promises'
import { dirname, extname, join, relative } from 'node:path'
import { DataError } from '../../errors.js'
import type { Adapter, AdapterOptions, Box, Dataset, ImageRecord, Point, Problem } from '../types.js'
import { collect, type Draft, isFile, isFolder, noDataset, stem } from './collect.js'
import { readText } from './table.js'

const VERSION = 1
const CUSTOMARY = ['annotations.json', '_annotations.coco.json', 'coco.json', 'instances.json']

interface CocoFile {
  images: unknown[]
  annotations: unknown[]
  categories: unknown[]
}

export const coco: Adapter = {
  name: 'coco',
  version: VERSION,
  detect: async (root) => (await findAnnotations(root)) !== undefined,
  read,
}

/** Reads a folder with a COCO file, or the file itself. Throws ERR_MAMMO_ANNOTATION when the file is no COCO file. */
async function read(path: string, options: AdapterOptions = {}): Promise<Dataset> {
  const named = options.annotations ?? (extname(path) === '.json' ? path : await findAnnotations(path))
  if (named === undefined) {
    throw noDataset('a COCO file such as annotations.json', path, 'name it with --annotations')
  }
  const root = extname(path) === '.json' ? dirname(path) : path
  const file = options.annotations === undefined || (await isFile(named)) ? named : join(root, named)
  const content = parse(await readText(file), file)
  const annotationFile = relative(root, file)
  const problems: Problem[] = []
  const error = (rule: string, message: string, fix: string) =>
    problems.push({ rule, level: 'error', message, where: annotationFile, fix })

  const classes = new Map<number, string>()
  for (const category of content.categories) {
    const { id, name } = fieldsOf(category)
    if (!Number.isInteger(id) || typeof name !== 'string' || name.trim() === '') {
      error('coco/category', 'a category has no integer id or no name', 'correct the categories')
    } else if (classes.has(id as number)) {
      error('coco/category', `category id ${id} occurs twice`, 'keep one')
    } else classes.set(id as number, name.trim())
  }
  const drafts = new Map<number, Draft>()
  const folders = await imageFolders(root, file, options)
  for (const [n, image] of content.images.entries()) {
    const { id, file_name: name, width, height } = fieldsOf(image)
    if (!Number.isInteger(id) || typeof name !== 'string') {
      error('coco/image', `image ${n} has no integer id or no file_name`, 'correct it')
      continue
    }
    if (drafts.has(id as number)) {
      error('coco/image', `image id ${id} occurs twice`, 'keep one')
      continue
    }
    drafts.set(id as number, {
      id: stem(name),
      path: await locate(root, folders, name),
      annotated: true,
      lesions: [],
      annotationFile,
      where: `${annotationFile}, image ${id}`,
      ...(Number.isInteger(width) && Number.isInteger(height)
        ? { size: { width: width as number, height: height as number } }
        : {}),
    })
  }
  const counts = new Map<number, number>()
  for (const [n, annotation] of content.annotations.entries()) {
    const { id, image_id: imageId, category_id: categoryId, bbox, iscrowd, segmentation } = fieldsOf(annotation)
    const label = Number.isInteger(id) ? `annotation ${id}` : `annotation number ${n}`
    const where = `${annotationFile}, ${label}`
    const draft = drafts.get(imageId as number)
    const name = classes.get(categoryId as number)
    if (draft === undefined)
      error('coco/image-id', `${label} has image_id ${imageId}, which no image has`, 'correct or remove it')
    else if (name === undefined) {
      error(
        'coco/category-id',
        `${label} has category_id ${categoryId}, known are ${[...classes.keys()].join(', ')}`,
        'correct it',
      )
    } else if (!Array.isArray(bbox) || bbox.length !== 4 || !bbox.every((v) => typeof v === 'number')) {
      error('coco/bbox', `${label} must have bbox [x, y, width, height] of numbers`, 'correct it')
    } else {
      const [x, y, w, h] = bbox as Box
      const index = counts.get(imageId as number) ?? 0
      counts.set(imageId as number, index + 1)
      const polygon = polygonOf(segmentation)
      if (Array.isArray(segmentation) && segmentation.length > 1) {
        problems.push({
          rule: 'coco/polygons',
          level: 'warning',
          message: `${label} has ${segmentation.length} polygons: the box is kept`,
          where,
          fix: 'nothing to do, or split it into lesions',
        })
      }
      draft.lesions.push({
        id: Number.isInteger(id) ? String(id) : `n${n}`,
        class: name.toLowerCase(),
        box: [x, y, x + w, y + h],
        ...(polygon === undefined ? {} : { polygon }),
        ignore: iscrowd === 1,
        source: { file: annotationFile, index, name },
        where,
      })
    }
  }
  const classNames = [...classes].sort(([a], [b]) => a - b).map(([, name]) => name.toLowerCase())
  return collect(root, [...drafts.values()], problems, options, {
    adapter: 'coco',
    version: VERSION,
    labelRules: { classes: classNames },
  })
}

/** Text of a COCO file for records; image file names are the records' paths. */
export function cocoText(records: readonly ImageRecord[]): string {
  const names = [...new Set(records.flatMap((record) => record.lesions.map((lesion) => lesion.class)))].sort()
  const categories = names.map((name, id) => ({ id, name, supercategory: 'none' }))
  const images = records.map(({ path, width, height }, id) => ({ id, file_name: path, width, height }))
  let next = 0
  const annotations = records.flatMap(({ lesions }, imageId) =>
    lesions.map(({ box, class: name, ignore, polygon }) => {
      const [x1, y1, x2, y2] = box
      return {
        id: next++,
        image_id: imageId,
        category_id: names.indexOf(name),
        bbox: [x1, y1, x2 - x1, y2 - y1],
        area: (x2 - x1) * (y2 - y1),
        iscrowd: ignore ? 1 : 0,
        segmentation: polygon === undefined ? [] : [polygon.flat()],
      }
    }),
  )
  return `${JSON.stringify({ images, annotations, categories }, null, 1)}\n`
}

/** Fields of an entry; none when it is no object. */
function fieldsOf(entry: unknown): Record<string, unknown> {
  return typeof entry === 'object' && entry !== null ? (entry as Record<string, unknown>) : {}
}

function polygonOf(segmentation: unknown): Point[] | undefined {
  if (!Array.isArray(segmentation) || segmentation.length !== 1) return undefined
  const [flat] = segmentation as unknown[]
  if (!Array.isArray(flat) || flat.length < 6 || flat.length % 2 !== 0 || !flat.every((v) => Number.isFinite(v)))
    return undefined
  const numbers = flat as number[]
  return Array.from({ length: numbers.length / 2 }, (_, n) => [numbers[2 * n]!, numbers[2 * n + 1]!])
}

function parse(text: string, file: string): CocoFile {
  let content: unknown
  try {
    content = JSON.parse(text.replace(/^\uFEFF/, ''))
  } catch (error) {
    const position = Number(/position (\d+)/.exec((error as Error).message)?.[1] ?? text.length)
    const line = text.slice(0, position).split('\n').length
    throw new DataError('ANNOTATION', 'expected a JSON file, got damaged text', {
      where: `${file}:${line}`,
      fix: 'restore the file from its source',
      details: { rule: 'coco/json' },
    })
  }
  const { images, annotations, categories } = (content ?? {}) as Partial<CocoFile>
  if (Array.isArray(images) && Array.isArray(annotations) && Array.isArray(categories))
    return { images, annotations, categories }
  throw new DataError('ANNOTATION', 'expected the lists images, annotations and categories of a COCO file', {
    where: file,
    fix: 'name the COCO file with --annotations',
    details: { rule: 'coco/lists' },
  })
}

async function findAnnotations(root: string): Promise<string | undefined> {
  if (extname(root) === '.json') return (await isFile(root)) ? root : undefined
  for (const name of CUSTOMARY) if (await isFile(join(root, name))) return join(root, name)
  const folder = join(root, 'annotations')
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith('.json')).sort()
  return names.length === 1 ? join(folder, names[0]!) : undefined
}

/** Folders that file names may be relative to, in order. */
async function imageFolders(root: string, file: string, options: AdapterOptions): Promise<string[]> {
  if (options.images !== undefined)
    return [(await isFolder(options.images)) ? options.images : join(root, options.images)]
  return [dirname(file), root, join(root, 'images')]
}

async function locate(root: string, folders: readonly string[], name: string): Promise<string> {
  for (const folder of folders) if (await isFile(join(folder, name))) return relative(root, join(folder, name))
  return relative(root, join(folders[0]!, name))
}
