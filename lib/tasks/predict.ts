// `predict`: images, DICOM files, folders or a manifest through an exported model; results as files. A failing image is reported
// and the others go on. Needs onnxruntime-node only.
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, stat } from 'node:fs/promises'
import { basename, dirname, extname, join, relative, resolve } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import { readImage } from '../data/image.js'
import { renderImage, type ShownTruth } from '../data/view.js'
import { DataError, type MammoError, UsageError } from '../errors.js'
import { loadDetector, type PredictOptions } from '../predict/predictor.js'
import { CSV_HEADER, type Prediction, toCoco, toCsv, toJson, toJsonLine } from '../predict/results.js'
import type { Output } from './names.js'

export interface PredictTaskOptions extends Omit<PredictOptions, 'id' | 'priority' | 'transfer'> {
  /** Folder of the results. */
  out: string
  outputs: readonly Output[]
  /** COCO JSON whose boxes are drawn as ground truth, matched by file name. */
  annotations?: string
  workers?: number
  threadsPerWorker?: number
  /** Longer side of the pictures in pixels. */
  pictureSide?: number
  onResult?: (result: Prediction, done: number, total: number) => void
  onError?: (path: string, error: MammoError) => void
}

export interface PredictSummary {
  predictions: Prediction[]
  rejected: { path: string; code: string; message: string }[]
  files: string[]
}

const IMAGE_EXTENSIONS = new Set(['.dcm', '.dicom', '.png', '.jpg', '.jpeg', '.tif', '.tiff', '.pgm'])

/** Predicts every image of `inputs`. Throws UsageError for inputs without images, DataError for an unusable model. */
export async function predict(
  model: string,
  inputs: readonly string[],
  options: PredictTaskOptions,
): Promise<PredictSummary> {
  const sources = (await Promise.all(inputs.map(listImages))).flat()
  if (sources.length === 0)
    throw new UsageError('ARGUMENT', `expected at least one image in ${inputs.join(', ')}, got none`)
  const truth = options.annotations === undefined ? undefined : await readTruth(options.annotations)
  const { out, outputs, onResult, onError, annotations: _, workers, threadsPerWorker, pictureSide, ...rest } = options
  await mkdir(out, { recursive: true })
  const detector = await loadDetector(model, {
    ...(workers === undefined ? {} : { workers }),
    ...(threadsPerWorker === undefined ? {} : { threadsPerWorker }),
  })
  const summary: PredictSummary = { predictions: [], rejected: [], files: [] }
  const write = async (name: string, data: string | Uint8Array) => {
    const path = join(out, name)
    await writeFileAtomic(path, data)
    summary.files.push(path)
  }
  try {
    // As many in flight as there are workers, plus one waiting: memory stays bounded, workers stay busy.
    let next = 0
    let done = 0
    const lane = async () => {
      while (next < sources.length) {
        const { path, name } = sources[next++]!
        try {
          const prediction = await detector.predict(path, { ...rest, id: name })
          if (outputs.includes('json')) await write(`${name}.json`, toJson(prediction))
          if (outputs.includes('png')) await write(`${name}.png`, await picture(path, prediction, truth, pictureSide))
          summary.predictions.push(prediction)
          onResult?.(prediction, ++done, sources.length)
        } catch (error) {
          if (!(error instanceof DataError)) throw error
          summary.rejected.push({ path, code: error.code, message: error.message })
          onError?.(path, error)
        }
      }
    }
    await Promise.all(Array.from({ length: detector.workers + 1 }, lane))
    const order = new Map(sources.map(({ name }, i) => [name, i]))
    summary.predictions.sort((a, b) => order.get(a.image.id)! - order.get(b.image.id)!)
    const all = summary.predictions
    if (outputs.includes('jsonl')) await write('detections.jsonl', all.map(toJsonLine).join(''))
    if (outputs.includes('coco')) await write('detections.coco.json', toCoco(all, detector.manifest.classes))
    if (outputs.includes('csv')) await write('detections.csv', CSV_HEADER + all.map(toCsv).join(''))
    return summary
  } finally {
    await detector.close()
  }
}

interface ListedImage {
  path: string
  /** Unique name of the result files: path below the input, without extension. */
  name: string
}

async function listImages(input: string): Promise<ListedImage[]> {
  const info = await stat(input).catch(() => undefined)
  if (info === undefined)
    throw new UsageError('ARGUMENT', 'expected an image, a folder or a manifest.jsonl, nothing exists there', {
      where: input,
    })
  const plain = (path: string, root: string) => ({
    path,
    name: relative(root, path)
      .slice(0, -extname(path).length || undefined)
      .replaceAll('\\', '/'),
  })
  if (info.isDirectory()) {
    const entries = await readdir(input, { recursive: true, withFileTypes: true })
    const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
    const images = files.filter((file) => IMAGE_EXTENSIONS.has(extname(file).toLowerCase()))
    return images.sort().map((path) => plain(path, input))
  }
  if (input.endsWith('.jsonl')) {
    const lines = (await readFile(input, 'utf8')).split('\n').filter((line) => line !== '')
    const header = JSON.parse(lines[0]!) as { root?: string }
    const root = resolve(dirname(input), header.root ?? '.')
    return lines.slice(1).map((line) => {
      const record = JSON.parse(line) as { id: string; path: string }
      return { path: join(root, record.path), name: record.id }
    })
  }
  return [plain(input, dirname(input))]
}

type Truth = Map<string, ShownTruth[]>

async function readTruth(path: string): Promise<Truth> {
  interface Coco {
    images: { id: number; file_name: string }[]
    annotations: { image_id: number; bbox: [number, number, number, number]; category_id: number }[]
    categories: { id: number; name: string }[]
  }
  let coco: Coco
  try {
    coco = JSON.parse(await readFile(path, 'utf8')) as Coco
  } catch (cause) {
    throw new DataError('ANNOTATION', `expected a COCO JSON file: ${(cause as Error).message}`, { where: path, cause })
  }
  const names = new Map(coco.categories.map((c) => [c.id, c.name.toLowerCase()]))
  const truth: Truth = new Map(coco.images.map((image) => [basename(image.file_name), []]))
  const files = new Map(coco.images.map((image) => [image.id, basename(image.file_name)]))
  for (const { image_id, bbox, category_id } of coco.annotations) {
    const [x, y, w, h] = bbox
    truth.get(files.get(image_id) ?? '')?.push({ box: [x, y, x + w, y + h], label: names.get(category_id) ?? 'mass' })
  }
  return truth
}

async function picture(
  path: string,
  prediction: Prediction,
  truth: Truth | undefined,
  maxSide = 1600,
): Promise<Uint8Array> {
  const { pixels, width, height } = await readImage(path)
  return renderImage({
    pixels,
    width,
    height,
    maxSide,
    truth: truth?.get(basename(path)) ?? [],
    predictions: prediction.detections.map(({ box, score, label }) => ({ box, score, label })),
  })
}

/** True when `path` looks like an exported model. */
export function isModelFile(path: string): boolean {
  return extname(path).toLowerCase() === '.onnx' && existsSync(path)
}
