// `predict`: images, DICOM files, folders or a manifest through an exported model; results as files. A failing image is reported
// and the others go on. Each finished image is recorded at once, so that a stopped run resumes and shards merge. Needs
// onnxruntime-node only.
import { mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DataError, DeviceError, MammoError } from '../errors.js'
import type { ModelManifest } from '../onnx/manifest.js'
import type { PredictedFile } from '../predict/dicom/studies.js'
import { type JournalEntry, openJournal, readJournal, requireSame } from '../predict/journal.js'
import { type Detector, type DetectorOptions, loadDetector, type PredictOptions } from '../predict/predictor.js'
import type { Prediction } from '../predict/results.js'
import { DICOM_OUTPUTS, type Output } from './names.js'
import { listInputs, type Shard, takeShard } from './predict-inputs.js'
import { openOutput } from './predict-output.js'

export interface PredictTaskOptions extends Omit<PredictOptions, 'id' | 'priority' | 'transfer'> {
  /** Folder of the results. */
  out: string
  outputs: readonly Output[]
  /** COCO JSON whose boxes are drawn as ground truth, matched by file name. */
  annotations?: string
  workers?: number
  threadsPerWorker?: number
  isolation?: DetectorOptions['isolation']
  device?: DetectorOptions['device']
  /** Longer side of the pictures in pixels. */
  pictureSide?: number
  /** Findings per DICOM report, the lowest scores left out; 100 by default. */
  maxFindings?: number
  /** Only this part of the images. With `resume` and without `shard`, finished shards in `out` are put together. */
  shard?: Shard
  /** Keep what an earlier run with the same model and settings finished in `out`. */
  resume?: boolean
  onResult?: (result: Prediction, done: number, total: number) => void
  onError?: (path: string, error: MammoError) => void
  /** What was not written, and why; without a path where it concerns a whole study. */
  onWarning?: (path: string | null, warning: { code: string; message: string }) => void
}

export interface PredictSummary {
  predictions: Prediction[]
  rejected: { path: string; code: string; message: string }[]
  files: string[]
  /** Images whose result was there already. */
  resumed: number
}

/** Predicts every image of `inputs`. Throws UsageError for inputs without images, DataError for an unusable model. */
export async function predict(
  model: string,
  inputs: readonly string[],
  options: PredictTaskOptions,
): Promise<PredictSummary> {
  const { out, outputs, shard, resume = false, onResult, onError, onWarning = () => undefined } = options
  const listed = await listInputs(inputs)
  const wholeStudies = DICOM_OUTPUTS.some((kind) => outputs.includes(kind))
  const sources = shard === undefined ? listed : await takeShard(listed, shard, wholeStudies)
  await mkdir(out, { recursive: true })
  const detector = await openDetector(model, options)
  const { manifest } = detector
  const suffix = shard === undefined ? '' : `-${shard.index}-of-${shard.count}`
  const run = { model: manifest.file.sha256, settings: settingsText(options, manifest) }
  try {
    const writer = await openOutput(manifest, { ...outputOptions(options, manifest), suffix, onWarning })
    const others = resume && shard === undefined ? await otherJournals(out, run) : new Map<string, JournalEntry>()
    const journal = await openJournal(join(out, `journal${suffix}.jsonl`), { ...run, resume })
    const finished = new Map<string, JournalEntry>([...others, ...journal.entries])
    const results = new Map<string, Prediction | MammoError>()
    let resumed = 0
    let stopped = false
    // As many in flight as there are workers, plus one waiting: memory stays bounded, workers stay busy.
    let next = 0
    const lane = async () => {
      while (!stopped && next < sources.length) {
        const { path, name } = sources[next++]!
        const earlier = finished.get(name)
        const known = earlier !== undefined && (await isUnchanged(path, earlier)) ? earlier : undefined
        if (known !== undefined) resumed++
        const { entry, error } =
          known === undefined ? await predictFile(detector, path, name, options) : { entry: known, error: undefined }
        if (entry === undefined) {
          // Not the image's fault: it is tried again by the next run.
          results.set(name, error)
          onError?.(path, error)
          continue
        }
        if (known === undefined || others.has(name)) await journal.append(entry)
        if ('schema' in entry.result) {
          await writer.image(path, entry.result, known !== undefined)
          results.set(name, entry.result)
          if (known === undefined) onResult?.(entry.result, results.size, sources.length)
        } else {
          const { code, message } = entry.result
          const told = error ?? new DataError(code.replace(/^ERR_MAMMO_/, '') as never, message, { where: path })
          results.set(name, told)
          onError?.(path, told)
        }
      }
    }
    const guarded = () =>
      lane().catch((error: unknown) => {
        stopped = true
        throw error
      })
    try {
      const ends = await Promise.allSettled(Array.from({ length: detector.workers + 1 }, guarded))
      const failed = ends.find((end) => end.status === 'rejected')
      if (failed) throw failed.reason
    } finally {
      await journal.close()
    }
    const predictions: Prediction[] = []
    const rejected: PredictSummary['rejected'] = []
    const files: PredictedFile[] = []
    for (const { path, name } of sources) {
      const result = results.get(name)!
      if (result instanceof MammoError) rejected.push({ path, code: result.code, message: result.message })
      else predictions.push(result)
      files.push({ path, result: result instanceof MammoError ? result.code : result })
    }
    const names = new Map(sources.map(({ path, name }) => [path, name]))
    const told = rejected.map(({ path, code, message }) => ({ name: names.get(path)!, code, message }))
    await writer.collected(predictions, told, new Map(sources.map(({ path, name }) => [name, path])))
    await writer.studies(files)
    return { predictions, rejected, files: writer.files, resumed }
  } finally {
    await detector.close()
  }
}

export function openDetector(model: string, options: PredictTaskOptions): Promise<Detector> {
  const { workers, threadsPerWorker, isolation, device } = options
  return loadDetector(model, {
    ...(workers === undefined ? {} : { workers }),
    ...(threadsPerWorker === undefined ? {} : { threadsPerWorker }),
    ...(isolation === undefined ? {} : { isolation }),
    ...(device === undefined ? {} : { device }),
  })
}

export function outputOptions(options: PredictTaskOptions, manifest: ModelManifest) {
  const { out, outputs, annotations, pictureSide, maxFindings, frame } = options
  const threshold = options.threshold ?? manifest.defaultThreshold
  return { out, outputs, threshold, annotations, pictureSide, maxFindings, frame }
}

/** What decides about detections, as one text: results under different texts are not mixed. */
export function settingsText(options: PredictTaskOptions, manifest: ModelManifest): string {
  const { crop, cropMargin, spacing, tile, mirror, merge, assumeMammogram, frame } = options
  const threshold = options.threshold ?? manifest.defaultThreshold
  return JSON.stringify({ threshold, crop, cropMargin, spacing, tile, mirror, merge, assumeMammogram, frame })
}

/** An entry for the journal, with the error of a rejected image; without an entry the worker was lost or too slow. */
export type FileOutcome =
  | { entry: JournalEntry; error: DataError | undefined }
  | { entry: undefined; error: DeviceError }

/** One image as a journal's entry, a rejected image included. Throws every error that is not about this one image. */
export async function predictFile(
  detector: Detector,
  path: string,
  name: string,
  options: PredictTaskOptions,
): Promise<FileOutcome> {
  const { threshold, crop, cropMargin, spacing, tile, mirror, merge, assumeMammogram, frame } = options
  const given = { threshold, crop, cropMargin, spacing, tile, mirror, merge, assumeMammogram, frame }
  const { signal, timeoutMs } = options
  const chosen = Object.fromEntries(
    Object.entries({ ...given, signal, timeoutMs }).filter(([, value]) => value !== undefined),
  ) as PredictOptions
  const { size, mtimeMs } = await fileState(path)
  const entry = { name, bytes: size, mtimeMs, study: null, file: null }
  try {
    const result = await detector.predict(path, { ...chosen, id: name })
    return { entry: { ...entry, result }, error: undefined }
  } catch (error) {
    if (error instanceof DataError) {
      return { entry: { ...entry, result: { code: error.code, message: error.message } }, error }
    }
    if (error instanceof DeviceError && /TIMEOUT|WORKER_LOST/.test(error.code)) {
      return { entry: undefined, error }
    }
    throw error
  }
}

async function fileState(path: string): Promise<{ size: number; mtimeMs: number }> {
  return stat(path).catch(() => ({ size: -1, mtimeMs: 0 }))
}

async function isUnchanged(path: string, { bytes, mtimeMs }: JournalEntry): Promise<boolean> {
  const now = await fileState(path)
  return now.size === bytes && now.mtimeMs === mtimeMs
}

/** Entries of finished shards. Throws UsageError ARGUMENT when one was made with another model or other settings. */
async function otherJournals(
  out: string,
  run: { model: string; settings: string },
): Promise<Map<string, JournalEntry>> {
  const names = (await readdir(out)).filter((name) => /^journal-\d+-of-\d+\.jsonl$/.test(name)).sort()
  const entries = new Map<string, JournalEntry>()
  for (const name of names) {
    const stored = await readJournal(join(out, name))
    if (stored === undefined) continue
    requireSame(stored, run, join(out, name))
    for (const [key, entry] of stored.entries) entries.set(key, entry)
  }
  return entries
}
