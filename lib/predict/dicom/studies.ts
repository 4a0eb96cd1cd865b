// From predictions on files to result objects in a folder: images are grouped by study, every study gets one report of each kind. An
// object that is there already stays as it is; a changed result names the earlier report as its predecessor. File names and warnings
// hold hashes and numbers only, nothing of the patient.
import { createHash } from 'node:crypto'
import { open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from '../../atomic-write.js'
import { firstText } from '../../data/dicom/dataset.js'
import { readSourceImage } from '../../data/dicom/source.js'
import { isDicom, type ReadImageOptions, readImage } from '../../data/image.js'
import { DataError } from '../../errors.js'
import type { ModelManifest } from '../../onnx/manifest.js'
import type { Prediction } from '../results.js'
import { PRODUCT, type ResultKind } from './header.js'
import { resultObjects } from './objects.js'
import { type ReadResult, readResult } from './read.js'
import { type AnalysedImage, planReport, type Reference, type ReportSettings } from './report.js'

export interface PredictedFile {
  path: string
  /** The result, or the code of the error that the file ended with. */
  result: Prediction | string
}

export interface StudyOptions {
  /** Folder of the objects, one subfolder per study. */
  out: string
  kinds: readonly ResultKind[]
  manifest: ModelManifest
  toolVersion: string
  threshold: number
  maxFindings: number
  read: ReadImageOptions
  /** Longer side of pictures. */
  maxSide: number
  time: Date
  scoreMeaning?: ReportSettings['scoreMeaning']
  /** `path` is null for what concerns a whole study. */
  onWarning(path: string | null, warning: { code: string; message: string }): void
}

interface StudyImage extends AnalysedImage {
  path: string
  result: Prediction | string
}

/** Writes the objects of all studies; returns the paths of those that are new. Files that are no DICOM images are warned about. */
export async function writeStudies(files: readonly PredictedFile[], options: StudyOptions): Promise<string[]> {
  const studies = new Map<string, StudyImage[]>()
  for (const file of files) {
    const image = await studyImage(file, options)
    if (image === undefined) continue
    const study = studies.get(image.source.study) ?? []
    studies.set(image.source.study, study)
    if (study.some(({ source }) => source.instance === image.source.instance)) {
      options.onWarning(file.path, { code: 'dicom/copy', message: 'a copy of an image that is in the report already' })
    } else study.push(image)
  }
  const written: string[] = []
  for (const images of studies.values()) {
    if (new Set(images.map(({ source }) => firstText(source.identity, '00100020'))).size > 1) {
      const message = 'no report: the images of one study name several patients'
      options.onWarning(null, { code: 'dicom/patient', message })
      continue
    }
    written.push(...(await writeStudy(images, options)))
  }
  return written
}

/** The image as its report has it; undefined for what cannot be in one. */
async function studyImage(file: PredictedFile, options: StudyOptions): Promise<StudyImage | undefined> {
  const { path, result } = file
  if (!(await startsAsDicom(path))) {
    const message = `no ${options.kinds.join(', ')}: only a DICOM image can have DICOM results`
    options.onWarning(path, { code: 'dicom/input', message })
    return undefined
  }
  // Not a mammogram, or not of the kind that the model was made for: nobody expects a result on it.
  if (result === 'ERR_MAMMO_SOP_CLASS') return undefined
  try {
    const source = await readSourceImage(path, options.read.frame ?? null)
    const failed = typeof result === 'string'
    const findings = failed ? [] : result.detections.map(({ box, score }) => ({ box, score }))
    return { source, findings, failure: failed ? result : null, path, result }
  } catch (error) {
    if (!(error instanceof DataError)) throw error
    options.onWarning(path, { code: error.code, message: `in no report: ${error.message}` })
    return undefined
  }
}

async function writeStudy(images: readonly StudyImage[], options: StudyOptions): Promise<string[]> {
  const { manifest, kinds, threshold } = options
  const report = planReport(images, {
    model: {
      name: manifest.name,
      version: manifest.version,
      sha256: manifest.file.sha256,
      deviceUid: manifest.provenance.deviceUID,
    },
    manufacturer: PRODUCT,
    toolVersion: options.toolVersion,
    threshold,
    displayThreshold: Math.max(threshold, manifest.defaultThreshold),
    maxFindings: options.maxFindings,
    ...pipelineOf(images),
    scoreMeaning: options.scoreMeaning ?? 'certainty',
    calibration: manifest.calibration,
    time: options.time,
  })
  const folder = join(options.out, hash(images[0]!.source.study, 16))
  const names = await readdir(folder).catch((): string[] => [])
  const earlier = await readEarlier(folder, names, kinds)
  const paths = report.images.map((image) => (image as StudyImage).path)
  const drawable = kinds.filter((kind) => kind !== 'sc' || warnOfText(images, options))
  const written: string[] = []
  const nameOf = (kind: ResultKind, instance: string) => `${kind}-${hash(instance, 12)}.dcm`
  const objects = resultObjects(report, drawable, {
    maxSide: options.maxSide,
    pixels: async (n) => (await readImage(paths[n]!, options.read)).pixels,
    exists: (kind, instance) => names.includes(nameOf(kind, instance)),
    predecessors: (kind) => earlier.get(kind) ?? [],
  })
  for await (const { kind, instance, bytes } of objects) {
    const path = join(folder, nameOf(kind, instance))
    await writeFileAtomic(path, bytes)
    written.push(path)
  }
  return written
}

/** No pictures of a study whose pixels name the patient. */
function warnOfText(images: readonly StudyImage[], { onWarning }: StudyOptions): boolean {
  const marked = images.filter(({ source }) => source.burnedIn)
  for (const { path } of marked) {
    onWarning(path, {
      code: 'dicom/burned-in',
      message: 'no pictures of its study: its pixels hold text (BurnedInAnnotation)',
    })
  }
  return marked.length === 0
}

/** How the images were prepared: sentences on what they share, and everything for the UIDs. */
function pipelineOf(images: readonly StudyImage[]): Pick<ReportSettings, 'pipeline' | 'fingerprint'> {
  const applied = images.flatMap(({ result, source }) =>
    typeof result === 'string' ? [] : [{ instance: source.instance, ...result.pipeline }],
  )
  const sentences = applied.map(
    ({ scope, views, merge, normalise }) =>
      `${scope} in ${views} part${views === 1 ? '' : 's'}, normalised by ${normalise}, merged by ${merge}`,
  )
  applied.sort((a, b) => (a.instance < b.instance ? -1 : 1))
  return { pipeline: [...new Set(sentences)].sort(), fingerprint: JSON.stringify(applied) }
}

/** The newest report of each kind in the folder of a study. */
async function readEarlier(
  folder: string,
  names: readonly string[],
  kinds: readonly ResultKind[],
): Promise<Map<ResultKind, Reference[]>> {
  const found = new Map<ResultKind, Reference[]>()
  for (const kind of kinds) {
    if (kind !== 'cad-sr' && kind !== 'tid1500') continue
    const results: ReadResult[] = []
    for (const name of names.filter((name) => name.startsWith(`${kind}-`) && name.endsWith('.dcm'))) {
      results.push(readResult(await readFile(join(folder, name)), join(folder, name)))
    }
    const when = ({ dataset }: ReadResult) => firstText(dataset, '00080023') + firstText(dataset, '00080033')
    const newest = results.sort((a, b) => (when(a) < when(b) ? -1 : 1)).at(-1)
    if (newest !== undefined) found.set(kind, [newest.reference])
  }
  return found
}

async function startsAsDicom(path: string): Promise<boolean> {
  const handle = await open(path, 'r')
  try {
    const head = Buffer.alloc(132)
    await handle.read(head, 0, 132, 0)
    return isDicom(head)
  } finally {
    await handle.close()
  }
}

function hash(uid: string, digits: number): string {
  return createHash('sha256').update(uid).digest('hex').slice(0, digits)
}
