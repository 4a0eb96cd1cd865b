// The part that all adapters share: from drafts (what a format says of an image) to records. Looks at the image's header, compares
// sizes, places lesions, finds the patient, leaves out what is excluded, hashes ids; every fault becomes a problem, and what is
// dropped is named there.
import { createHash } from 'node:crypto'
import { readdir, stat } from 'node:fs/promises'
import { basename, join, relative, resolve, sep } from 'node:path'
import { DataError, UsageError } from '../../errors.js'
import { hashPatient } from '../dicom/parse.js'
import { lateralityFromText, viewFromText } from '../dicom/view.js'
import { type ImageInfo, readImageInfo } from '../image.js'
import { type LesionInput, placeLesion } from '../lesions.js'
import { checkRecord, countDataset } from '../manifest.js'
import {
  type AdapterName,
  type AdapterOptions,
  type BiRads,
  type Box,
  type Dataset,
  type Density,
  type ImageRecord,
  type Laterality,
  MANIFEST_SCHEMA,
  type Problem,
  type SplitHint,
  type View,
} from '../types.js'

export interface DraftLesion extends Omit<LesionInput, 'box'> {
  /** In pixels, or a function of the image's size (YOLO). */
  box: Box | ((width: number, height: number) => Box)
  /** `file:line` or file of the annotation, for messages. */
  where: string
}

/** An image as its format describes it. */
export interface Draft {
  /** Without the dataset's name; made safe here. */
  id: string
  /** Absolute, or relative to the root. */
  path: string
  /** The dataset's pseudonym; without one the pattern or the DICOM file decides. */
  patient?: string
  laterality?: Laterality | null
  view?: View | null
  split?: SplitHint | null
  density?: Density | null
  biRads?: BiRads | null
  annotated: boolean
  lesions: DraftLesion[]
  flags?: string[]
  annotationFile: string | null
  /** Where the image is described, for messages. */
  where: string
  /** Size that the annotation claims. */
  size?: { width: number; height: number }
  /** Spacing that the dataset's description gives. */
  spacingMm?: [number, number]
  frame?: number
}

export interface CollectSettings {
  adapter: AdapterName
  version: number
  /** Decisions for the manifest's header. */
  labelRules?: Record<string, unknown>
  /** The dataset vouches for its images. */
  assumeMammogram?: boolean
}

const PARALLEL = 8

/** Turns drafts into a dataset. Records are sorted by id. */
export async function collect(
  root: string,
  drafts: readonly Draft[],
  problems: readonly Problem[],
  options: AdapterOptions,
  settings: CollectSettings,
): Promise<Dataset> {
  const found: Problem[] = [...problems]
  const pattern = compilePattern(options.patientPattern)
  const excluded = new Set(options.exclude ?? [])
  const ids = new Set<string>()
  const records: ImageRecord[] = []
  let done = 0
  let withoutPatient = 0
  let dropped = 0
  const work = drafts.map((draft) => {
    const path = relative(root, resolve(root, draft.path)).split(sep).join('/')
    const id = uniqueId(`${settings.adapter}/${safeId(draft.id)}`, ids)
    return { draft, path, id }
  })
  const one = async ({ draft, path, id }: (typeof work)[number]): Promise<void> => {
    options.signal?.throwIfAborted()
    if (excluded.has(id) || excluded.has(path)) {
      dropped++
      return
    }
    const own: Problem[] = []
    const info = await inspect(root, path, draft, options, settings, own)
    found.push(...own.map((problem) => ({ ...problem, details: { target: id, ...problem.details } })))
    options.onProgress?.(++done, work.length)
    if (info === undefined) return
    const named = pattern === undefined ? undefined : matchPath(pattern, path)
    if (pattern !== undefined && named?.['patient'] === undefined && draft.patient === undefined) {
      const message = `--patient-pattern finds no patient in ${path}`
      found.push({
        rule: 'data/patient-pattern',
        level: 'error',
        message,
        where: draft.where,
        fix: 'correct the pattern',
      })
    }
    const given = draft.patient ?? named?.['patient']
    if (given === undefined && info.patient === '') withoutPatient++
    const patient = given === undefined ? info.patient || id : hashedPatient(given, options)
    const lesions = draft.lesions.flatMap((lesion) => {
      if (excluded.has(`${id}#${lesion.id}`)) {
        dropped++
        return []
      }
      const { where, box, ...input } = lesion
      const numbers = typeof box === 'function' ? box(info.width, info.height) : box
      const placed = placeLesion({ ...input, image: id, box: numbers }, info.width, info.height, where)
      found.push(...placed.problems)
      return placed.lesion === undefined ? [] : [placed.lesion]
    })
    const record: ImageRecord = {
      v: 1,
      id,
      path,
      frame: draft.frame ?? 0,
      patient,
      laterality: draft.laterality ?? lateralityFromText(named?.['laterality'] ?? '') ?? info.laterality,
      view: draft.view ?? viewFromText(named?.['view'] ?? '') ?? info.view,
      width: info.width,
      height: info.height,
      spacingMm: draft.spacingMm ?? info.spacingMm,
      spacingSource: draft.spacingMm === undefined ? info.spacingSource : settings.adapter,
      split: draft.split ?? null,
      density: draft.density ?? null,
      biRads: draft.biRads ?? null,
      annotated: draft.annotated,
      lesions,
      flags: [...new Set([...(draft.flags ?? []), ...info.flags])].sort(),
      source: {
        adapter: settings.adapter,
        adapterVersion: settings.version,
        annotationFile: draft.annotationFile,
        transferSyntax: info.transferSyntax,
        fileSize: info.fileSize,
      },
    }
    // Clipping has been reported with its size.
    found.push(...checkRecord(record, draft.where).filter(({ rule }) => rule !== 'box/clipped' && rule !== 'box/tiny'))
    records.push(record)
  }
  await forEach(work, PARALLEL, one)
  if (withoutPatient > 0) {
    const message = `${withoutPatient} images name no patient: each is a group of its own`
    const fix = 'set --patient-pattern, a regular expression with a group named patient'
    found.push({ rule: 'split/no-patient', level: 'warning', message, where: root, fix })
  }
  if (dropped > 0) {
    const message = `${dropped} images or lesions left out by --exclude`
    found.push({ rule: 'data/excluded', level: 'warning', message, where: root, fix: 'nothing to do' })
  }
  records.sort((a, b) => (a.id < b.id ? -1 : 1))
  found.sort((a, b) => compare(a.where, b.where) || compare(a.rule, b.rule) || compare(a.message, b.message))
  const header = {
    manifest: MANIFEST_SCHEMA,
    root: '.',
    adapter: settings.adapter,
    labelRules: settings.labelRules ?? {},
    counts: countDataset(records),
  } as const
  return { root: resolve(root), header, records, problems: found }
}

/** Header of the image; undefined when it is missing, unreadable or of another size, which becomes a problem. */
async function inspect(
  root: string,
  path: string,
  draft: Draft,
  options: AdapterOptions,
  settings: CollectSettings,
  problems: Problem[],
): Promise<ImageInfo | undefined> {
  const { where } = draft
  if (path.startsWith('..') || path.startsWith('/')) {
    const message = `image ${path} lies outside the dataset's folder`
    problems.push({
      rule: 'manifest/field',
      level: 'error',
      message,
      where,
      fix: 'choose the folder that holds images and annotations',
    })
    return undefined
  }
  const file = join(root, path)
  if ((await stat(file).catch(() => undefined))?.isFile() !== true) {
    const message = `image ${path} not found`
    problems.push({
      rule: 'manifest/missing-file',
      level: 'error',
      message,
      where,
      fix: 'restore the image, or list it in --exclude',
    })
    return undefined
  }
  try {
    const info = await readImageInfo(file, {
      allowForProcessing: options.allowForProcessing ?? false,
      assumeMammogram: settings.assumeMammogram ?? options.assumeMammogram ?? false,
      ...(draft.frame === undefined ? {} : { frame: draft.frame }),
      ...(options.hashKey === undefined ? {} : { hashKey: options.hashKey }),
    })
    const { size } = draft
    if (size !== undefined && (size.width !== info.width || size.height !== info.height)) {
      const message = `annotation says ${size.width}x${size.height}, file decodes to ${info.width}x${info.height}`
      problems.push({
        rule: 'manifest/size',
        level: 'error',
        message,
        where: `${where}, ${path}`,
        fix: 'correct the annotation or restore the image',
      })
      return undefined
    }
    for (const { rule, message } of info.warnings) {
      problems.push({ rule, level: 'warning', message, where: path, fix: 'check the image' })
    }
    return info
  } catch (error) {
    if (!(error instanceof DataError)) throw error
    const rule = typeof error.details['rule'] === 'string' ? error.details['rule'] : error.code
    const level = rule === 'dicom/tomosynthesis' || rule === 'dicom/skipped' ? 'warning' : 'error'
    problems.push({
      rule,
      level,
      message: error.message,
      where: path,
      fix: error.fix ?? 'list it in --exclude',
      details: { code: error.code },
    })
    return undefined
  }
}

function hashedPatient(patient: string, { hashIds, hashKey }: AdapterOptions): string {
  if (hashIds !== true) return patient
  if (hashKey === undefined) {
    throw new UsageError('ARGUMENT', 'expected a site key for --hash-ids, got none', {
      fix: 'give the key, or leave --hash-ids off',
    })
  }
  return hashPatient(patient, hashKey)
}

/** Compiles --patient-pattern. Throws ERR_MAMMO_ARGUMENT when it is no regular expression or has no group `patient`. */
export function compilePattern(pattern: string | undefined): RegExp | undefined {
  if (pattern === undefined) return undefined
  const fix = "write a regular expression such as '^(?<patient>[0-9]+)_'"
  if (!pattern.includes('(?<patient>')) {
    throw new UsageError('ARGUMENT', `expected a group named patient in --patient-pattern, got ${pattern}`, { fix })
  }
  try {
    return new RegExp(pattern)
  } catch {
    throw new UsageError('ARGUMENT', `expected a regular expression in --patient-pattern, got ${pattern}`, { fix })
  }
}

/** Named groups, from the file name, else from the relative path. */
function matchPath(pattern: RegExp, path: string): Record<string, string | undefined> | undefined {
  return (pattern.exec(basename(path)) ?? pattern.exec(path))?.groups
}

/** Text of A-Z a-z 0-9 . _ / -; what had other characters gets a hash, so that two names stay two. */
export function safeId(text: string): string {
  const safe = text.replace(/[^A-Za-z0-9._/-]/g, '_').replace(/\.\.+/g, '_')
  return safe === text ? text : `${safe}-${createHash('sha256').update(text).digest('hex').slice(0, 8)}`
}

function uniqueId(id: string, ids: Set<string>): string {
  let unique = id
  for (let n = 2; ids.has(unique); n++) unique = `${id}-${n}`
  ids.add(unique)
  return unique
}

/** Files below `root`, relative with /, sorted; symbolic links to folders are not followed. */
export async function listFiles(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .sort()
}

/** Whether a path is a folder. */
export async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() === true
}

/** Whether a path is a file. */
export async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() === true
}

/** Path without its last extension. */
export function stem(path: string): string {
  return path.replace(/\.[^./]*$/, '')
}

export async function forEach<T>(items: readonly T[], lanes: number, one: (item: T) => Promise<void>): Promise<void> {
  let next = 0
  const lane = async () => {
    while (next < items.length) await one(items[next++]!)
  }
  await Promise.all(Array.from({ length: Math.min(lanes, items.length) }, lane))
}

/** Error for a dataset that cannot be read as a whole. */
export function noDataset(expected: string, where: string, fix: string): DataError {
  return new DataError('ANNOTATION', `expected ${expected}`, { where, fix, details: { rule: 'data/layout' } })
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
