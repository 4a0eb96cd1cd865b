// The files of a prediction run: JSON and a picture per image, one file for all as COCO, CSV, JSON lines and a page, DICOM objects per
// study. Every file is written whole or not at all.
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import { readImage } from '../data/image.js'
import { renderImage, type ShownTruth } from '../data/view.js'
import { DataError } from '../errors.js'
import type { ModelManifest } from '../onnx/manifest.js'
import { toolVersion } from '../package-root.js'
import { type PredictedFile, writeStudies } from '../predict/dicom/studies.js'
import { CSV_HEADER, type Prediction, toCoco, toCsv, toJson, toJsonLine } from '../predict/results.js'
import { predictionsPageHtml } from '../report/predictions-page.js'
import { DICOM_OUTPUTS, type Output } from './names.js'

/** Longer side of pictures unless told otherwise, in pixels. */
const PICTURE_SIDE = 1600
/** Pictures on the page, and their longer side. */
const PAGE_PICTURES = 24
const PAGE_PICTURE_SIDE = 480

export interface OutputOptions {
  out: string
  outputs: readonly Output[]
  threshold: number
  /** COCO JSON whose boxes are drawn as ground truth, matched by file name. */
  annotations?: string | undefined
  pictureSide?: number | undefined
  maxFindings?: number | undefined
  frame?: number | undefined
  /** Part of the names of the files for all images, such as `-1-of-4`. */
  suffix?: string | undefined
  onWarning: (path: string | null, warning: { code: string; message: string }) => void
}

export interface OutputWriter {
  /** Paths of what was written. */
  readonly files: string[]
  /** JSON and picture; with `missingOnly` what exists stays. */
  image(path: string, prediction: Prediction, missingOnly?: boolean): Promise<void>
  /** The files for all images. `paths` gives the image of a name for the page's pictures. */
  collected(
    predictions: readonly Prediction[],
    rejected: readonly { name: string; code: string; message: string }[],
    paths: ReadonlyMap<string, string>,
  ): Promise<void>
  /** Reports of whole studies; objects that exist stay. */
  studies(files: readonly PredictedFile[]): Promise<void>
}

/** Reads the annotations at once, so that a bad file is told before any work. */
export async function openOutput(manifest: ModelManifest, options: OutputOptions): Promise<OutputWriter> {
  const { out, outputs, suffix = '', frame, pictureSide = PICTURE_SIDE, onWarning } = options
  const truth = options.annotations === undefined ? undefined : await readTruth(options.annotations)
  const files: string[] = []
  const write = async (name: string, data: string | Uint8Array) => {
    const path = join(out, name)
    await writeFileAtomic(path, data)
    files.push(path)
  }
  const picture = async (path: string, { detections }: Prediction, maxSide: number) => {
    const { pixels, width, height } = await readImage(path, anyMammogram(frame))
    const predictions = detections.map(({ box, score, label }) => ({ box, score, label }))
    return renderImage({ pixels, width, height, maxSide, truth: truth?.get(basename(path)) ?? [], predictions })
  }
  const holdsText = (prediction: Prediction) => prediction.warnings.some(({ code }) => code === 'dicom/burned-in')

  return {
    files,
    async image(path, prediction, missingOnly = false) {
      const { id } = prediction.image
      const wanted = (name: string) => !(missingOnly && existsSync(join(out, name)))
      if (outputs.includes('json') && wanted(`${id}.json`)) await write(`${id}.json`, toJson(prediction))
      if (!outputs.includes('png') || !wanted(`${id}.png`)) return
      if (holdsText(prediction))
        onWarning(path, { code: 'dicom/burned-in', message: 'no picture: the pixels hold text' })
      else await write(`${id}.png`, await picture(path, prediction, pictureSide))
    },
    async collected(predictions, rejected, paths) {
      if (outputs.includes('jsonl')) await write(`detections${suffix}.jsonl`, predictions.map(toJsonLine).join(''))
      if (outputs.includes('coco')) {
        await write(`detections${suffix}.coco.json`, toCoco(predictions, manifest.classes))
      }
      if (outputs.includes('csv')) await write(`detections${suffix}.csv`, CSV_HEADER + predictions.map(toCsv).join(''))
      if (!outputs.includes('html')) return
      const shown = predictions
        .filter((prediction) => prediction.detections.length > 0 && !holdsText(prediction))
        .sort((a, b) => b.detections[0]!.score - a.detections[0]!.score)
        .slice(0, PAGE_PICTURES)
      const pictures = []
      for (const prediction of shown) {
        const path = paths.get(prediction.image.id)
        if (path === undefined || !existsSync(path)) continue
        const { id } = prediction.image
        const top = prediction.detections[0]!.score.toFixed(2)
        const caption = `${id}: ${prediction.detections.length} detections, highest ${top}`
        const bytes = await picture(path, prediction, PAGE_PICTURE_SIDE)
        pictures.push({ bytes, type: 'image/png' as const, caption, alt: `mammogram with detections as dashed boxes` })
      }
      const { name, version, file } = manifest
      const text = await predictionsPageHtml({
        model: { name, version, sha256: file.sha256 },
        threshold: options.threshold,
        settings: pipelineRows(predictions),
        images: predictions.map(({ image, detections, timingsMs, warnings }) => ({
          name: image.id,
          rows: image.rows,
          columns: image.columns,
          scores: detections.map(({ score }) => score),
          milliseconds: timingsMs.total,
          warnings: warnings.map(({ code }) => code),
        })),
        rejected: [...rejected],
        pictures,
        files: ['csv', 'coco', 'jsonl'].flatMap((kind) => {
          const ending = kind === 'coco' ? 'coco.json' : kind
          return outputs.includes(kind as Output) ? [`detections${suffix}.${ending}`] : []
        }),
      })
      await write(`summary${suffix}.html`, text)
    },
    async studies(predicted) {
      const kinds = DICOM_OUTPUTS.filter((kind) => outputs.includes(kind))
      if (kinds.length === 0 || predicted.length === 0) return
      const objects = await writeStudies(predicted, {
        out: join(out, 'dicom'),
        kinds,
        manifest,
        toolVersion: toolVersion(),
        threshold: options.threshold,
        maxFindings: options.maxFindings ?? 100,
        read: anyMammogram(frame),
        maxSide: pictureSide,
        time: new Date(),
        onWarning,
      })
      files.push(...objects)
    },
  }
}

function pipelineRows(predictions: readonly Prediction[]): [string, string][] {
  const sentences = predictions.map(
    ({ pipeline: { scope, views, merge, normalise } }) =>
      `${scope}, ${views === 1 ? '1 view' : `${views} views`}, merge ${merge}, normalised by ${normalise}`,
  )
  return [...new Set(sentences)].slice(0, 5).map((sentence) => ['pipeline', sentence])
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

/** For images that the predictor has accepted by its own rules. */
function anyMammogram(frame: number | undefined) {
  return { assumeMammogram: true, allowForProcessing: true, ...(frame === undefined ? {} : { frame }) }
}
