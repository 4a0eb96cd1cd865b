// `predict`: images, DICOM files, folders or a manifest through an exported model; results as files. A failing image is reported
// and the others go on. Needs onnxruntime-node only.
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, stat } from 'node:fs/promises'
import { basename, dirname, extname, join, relative, resolve } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import { readImage } from '../data/image.js'
import { renderImage, type ShownTruth } from '../data/view.js'
import { DataError, type MammoError, UsageError } from '../errors.js'
import { toolVersion } from '../package-root.js'
import { type PredictedFile, writeStudies } from '../predict/dicom/studies.js'
import { loadDetector, type PredictOptions } from '../predict/predictor.js'
import { CSV_HEADER, type Prediction, toCoco, toCsv, toJson, toJsonLine } from '../predict/results.js'
import { DICOM_OUTPUTS, type Output } from './names.js'

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
  /** Findings per DICOM report, the lowest scores left out; 100 by default. */
  maxFindings?: number
  onResult?: (result: Prediction, done: number, total: number) => void
  onError?: (path: string, error: MammoError) => void
  /** What was not written, and why; without a path where it concerns a whole study. */
  onWarning?: (path: string | null, warning: { code: string; message: string }) => void
}

export interface PredictSummary {
  predictions: Prediction[]
  rejected: { path: string; code: string; message: string }[]
  files: string[]
}

/** Longer side of pictures unless told otherwise, in pixels. */
const PICTURE_SIDE = 1600

const IMAGE_EXTENSIONS = new Set(['.dcm', '.dicom', '.png', '.jpg', '.jpeg', '.tif', '.tiff', '.pgm'])

/** Predicts every image of `inputs`. Throws UsageError for inputs without images, DataError for an unusable model. */
export async function predict(
  model: string,
  inputs: readonly string[],
  options: PredictTaskOptions,
): Promise<PredictSummary> {
  const sources = withUniqueNames((await Promise.all(inputs.map(listImages))).flat())
  if (sources.length === 0) {
    throw new UsageError('ARGUMENT', `expected at least one image in ${inputs.join(', ')}, got none`, {
      fix: `images end in ${[...IMAGE_EXTENSIONS].join(', ')}`,
    })
  }
  const truth = options.annotations === undefined ? undefined : await readTruth(options.annotations)
  const { out, outputs, onResult, onError, onWarning = () => undefined, annotations: _, ...others } = options
  const { workers, threadsPerWorker, pictureSide, maxFindings = 100, ...rest } = others
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
    const files: PredictedFile[] = []
    // As many in flight as there are workers, plus one waiting: memory stays bounded, workers stay busy.
    let next = 0
    let done = 0
    const lane = async () => {
      while (next < sources.length) {
        const { path, name } = sources[next++]!
        try {
          const prediction = await detector.predict(path, { ...rest, id: name })
          if (outputs.includes('json')) await write(`${name}.json`, toJson(prediction))
          if (outputs.includes('png')) {
            if (prediction.warnings.some(({ code }) => code === 'dicom/burned-in')) {
              onWarning(path, { code: 'dicom/burned-in', message: 'no picture: the pixels hold text' })
            } else await write(`${name}.png`, await picture(path, prediction, truth, pictureSide, rest.frame))
          }
          summary.predictions.push(prediction)
          files.push({ path, result: prediction })
          onResult?.(prediction, ++done, sources.length)
        } catch (error) {
          if (!(error instanceof DataError)) throw error
          summary.rejected.push({ path, code: error.code, message: error.message })
          files.push({ path, result: error.code })
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
    const kinds = DICOM_OUTPUTS.filter((kind) => outputs.includes(kind))
    if (kinds.length > 0) {
      const { manifest } = detector
      const objects = await writeStudies(files, {
        out: join(out, 'dicom'),
        kinds,
        manifest,
        toolVersion: toolVersion(),
        threshold: rest.threshold ?? manifest.defaultThreshold,
        maxFindings,
        read: anyMammogram(rest.frame),
        maxSide: pictureSide ?? PICTURE_SIDE,
        time: new Date(),
        onWarning,
      })
      summary.files.push(...objects)
    }
    return summary
  } finally {
    await detector.close()
  }
}

interface ListedImage {
  path: string
  /** Name of the result files: path below the input, without extension. */
  name: string
}

async function listImages(input: string): Promise<ListedImage[]> {
  const info = await stat(input).catch(() => undefined)
  if (info === undefined)
    throw new UsageError('ARGUMENT', 'expected an image, a folder or a manifest.jsonl, nothing exists there', {
      where: input,
      fix: 'check the path',
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
  if (input.endsWith('.jsonl')) return listManifest(input)
  return [plain(input, dirname(input))]
}

/** Images of a manifest.jsonl by their ids. */
async function listManifest(path: string): Promise<ListedImage[]> {
  const lines = (await readFile(path, 'utf8')).split('\n')
  const rows = lines.flatMap((line, n) => {
    if (line.trim() === '') return []
    try {
      return [{ n: n + 1, value: (JSON.parse(line) ?? {}) as Record<string, unknown> }]
    } catch {
      return [{ n: n + 1, value: {} as Record<string, unknown> }]
    }
  })
  const root = resolve(dirname(path), String(rows[0]?.value['root'] ?? '.'))
  return rows.slice(1).map(({ n, value: { id, path: file } }) => {
    if (typeof id === 'string' && id !== '' && !id.split('/').includes('..') && typeof file === 'string') {
      return { path: join(root, file), name: id }
    }
    throw new DataError('MANIFEST', 'expected one JSON object per line, a header and then records with id and path', {
      where: `${path}:${n}`,
      fix: 'give a manifest.jsonl of `data prepare`',
    })
  })
}

/** Two images of one name must not share result files: the second becomes `name-2`. */
function withUniqueNames(images: readonly ListedImage[]): ListedImage[] {
  const used = new Set<string>()
  return images.map((image) => {
    let name = image.name
    for (let n = 2; used.has(name); n++) name = `${image.name}-${n}`
    used.add(name)
    return { ...image, name }
  })
}

type Truth = Map<string, ShownTruth[]>

async function readTruth(path: string): Promise<Truth> {
  interface Coco {
    images: { id: number; file_name: string }[]
    annotations: { image_id: number; bbox: [number, number, number, number]; category_id: number }[]
    categories: { id: number; name: string }[]
  }
  const fix = 'give a COCO file with the lists images, annotations and categories'
  let coco: Partial<Coco> | null
  try {
    coco = JSON.parse(await readFile(path, 'utf8')) as Partial<Coco> | null
  } catch (cause) {
    const message = `expected a COCO JSON file: ${(cause as Error).message}`
    throw new DataError('ANNOTATION', message, { where: path, fix, cause })
  }
  const listed = (value: unknown) => Array.isArray(value) && value.every((v) => typeof v === 'object' && v !== null)
  if (!listed(coco?.images) || !listed(coco?.annotations) || !listed(coco?.categories)) {
    throw new DataError('ANNOTATION', 'expected a COCO JSON file, lists are missing', { where: path, fix })
  }
  const { images, annotations, categories } = coco as Coco
  const names = new Map(categories.map((c) => [c.id, String(c.name).toLowerCase()]))
  const truth: Truth = new Map(images.map((image) => [basename(String(image.file_name)), []]))
  const files = new Map(images.map((image) => [image.id, basename(String(image.file_name))]))
  for (const { image_id, bbox, category_id } of annotations) {
    if (!Array.isArray(bbox) || bbox.length !== 4 || !bbox.every((v) => Number.isFinite(v))) {
      throw new DataError('ANNOTATION', `expected bbox of four finite numbers, got ${JSON.stringify(bbox)}`, {
        where: path,
        fix,
      })
    }
    const [x, y, w, h] = bbox
    truth.get(files.get(image_id) ?? '')?.push({ box: [x, y, x + w, y + h], label: names.get(category_id) ?? 'mass' })
  }
  return truth
}

async function picture(
  path: string,
  prediction: Prediction,
  truth: Truth | undefined,
  maxSide = PICTURE_SIDE,
  frame?: number,
): Promise<Uint8Array> {
  const { pixels, width, height } = await readImage(path, anyMammogram(frame))
  return renderImage({
    pixels,
    width,
    height,
    maxSide,
    truth: truth?.get(basename(path)) ?? [],
    predictions: prediction.detections.map(({ box, score, label }) => ({ box, score, label })),
  })
}

/** For images that the predictor has accepted by its own rules. */
function anyMammogram(frame: number | undefined) {
  return { assumeMammogram: true, allowForProcessing: true, ...(frame === undefined ? {} : { frame }) }
}

/** True when `path` looks like an exported model. */
export function isModelFile(path: string): boolean {
  return extname(path).toLowerCase() === '.onnx' && existsSync(path)
}
