// manifest.jsonl: writing it with the same bytes for the same records on every machine, reading it, and checking every rule with a
// message that says what, where and how to fix. Checks meaning as well as form; prepared.ts adds cache entries to its lines.
// Schema and rules: datasets spec 1.
import { readFile, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import { type DataCode, DataError } from '../errors.js'
import { bounds, clip, iou } from '../geometry/boxes.js'
import { readImageInfo } from './image.js'
import {
  ADAPTERS,
  BI_RADS,
  type Box,
  type DatasetCounts,
  DENSITIES,
  type ImageRecord,
  LATERALITIES,
  type Lesion,
  MANIFEST_SCHEMA,
  type ManifestHeader,
  PATHOLOGIES,
  type Problem,
  SPLITS,
  VIEWS,
} from './types.js'

interface Field {
  name: string
  /** What the value must be, in words. */
  must: string
  valid: (value: unknown) => boolean
  optional?: boolean
}

const isText = (value: unknown): value is string => typeof value === 'string' && value !== ''
const isInteger = (value: unknown, min: number): boolean => Number.isSafeInteger(value) && (value as number) >= min
const isFinite4 = (value: unknown): value is Box =>
  Array.isArray(value) && value.length === 4 && value.every((v) => typeof v === 'number' && Number.isFinite(v))
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const isPoints = (value: unknown): boolean =>
  Array.isArray(value) &&
  value.length >= 1 &&
  value.every((p) => Array.isArray(p) && p.length === 2 && p.every((v) => typeof v === 'number' && Number.isFinite(v)))
const oneOf = (name: string, values: readonly (string | number)[], nullable = true): Field => ({
  name,
  must: `one of ${values.join(', ')}${nullable ? ' or null' : ''}`,
  valid: (value) => (nullable && value === null) || values.includes(value as string),
})
const flag = (name: string): Field => ({ name, must: 'true or false', valid: (value) => typeof value === 'boolean' })

/** Fields of a record in canonical order. */
const recordFields: readonly Field[] = [
  { name: 'v', must: '1', valid: (value) => value === 1 },
  {
    name: 'id',
    must: 'text of A-Z a-z 0-9 . _ / -',
    valid: (value) => isText(value) && /^[A-Za-z0-9._/-]+$/.test(value) && !value.split('/').includes('..'),
  },
  {
    name: 'path',
    must: 'a path relative to the root, with / and without ..',
    valid: (value) =>
      isText(value) && !value.startsWith('/') && !value.includes('\\') && !value.split('/').includes('..'),
  },
  { name: 'frame', must: 'an integer from 0', valid: (value) => isInteger(value, 0) },
  { name: 'patient', must: 'text that is not empty', valid: isText },
  oneOf('laterality', LATERALITIES),
  oneOf('view', VIEWS),
  { name: 'width', must: 'an integer from 1', valid: (value) => isInteger(value, 1) },
  { name: 'height', must: 'an integer from 1', valid: (value) => isInteger(value, 1) },
  {
    name: 'spacingMm',
    must: '[row, column] above 0 or null',
    valid: (value) =>
      value === null || (Array.isArray(value) && value.length === 2 && value.every((v) => Number.isFinite(v) && v > 0)),
  },
  { name: 'spacingSource', must: 'text or null', valid: (value) => value === null || isText(value) },
  oneOf('split', SPLITS),
  oneOf('density', DENSITIES),
  oneOf('biRads', BI_RADS),
  flag('annotated'),
  { name: 'lesions', must: 'a list', valid: Array.isArray },
  { name: 'flags', must: 'a list of texts', valid: (value) => Array.isArray(value) && value.every(isText) },
  { name: 'source', must: 'an object', valid: isObject },
]

const lesionFields: readonly Field[] = [
  { name: 'id', must: 'text that is not empty', valid: isText },
  { name: 'class', must: 'text that is not empty', valid: isText },
  { name: 'box', must: '[x1, y1, x2, y2] of finite numbers', valid: isFinite4 },
  { name: 'polygon', must: 'a list of [x, y]', valid: isPoints, optional: true },
  oneOf('pathology', PATHOLOGIES, false),
  oneOf('biRads', BI_RADS),
  flag('ignore'),
  flag('clipped'),
  { name: 'source', must: 'an object', valid: isObject },
]

/** Counts for the header of a manifest. */
export function countDataset(records: readonly ImageRecord[]): DatasetCounts {
  const lesions = new Map<string, number>()
  for (const record of records) {
    for (const lesion of record.lesions) lesions.set(lesion.class, (lesions.get(lesion.class) ?? 0) + 1)
  }
  const annotated = records.filter((record) => record.annotated)
  return {
    images: records.length,
    patients: new Set(records.map((record) => record.patient)).size,
    annotated: annotated.length,
    negatives: annotated.filter((record) => record.lesions.length === 0).length,
    lesions: Object.fromEntries([...lesions].sort(([a], [b]) => (a < b ? -1 : 1))),
  }
}

/** The header as line 1, without line end; keys in the order of the type. */
export function headerLine(header: ManifestHeader): string {
  const { manifest, root, adapter, labelRules, counts } = header
  return JSON.stringify({ manifest, root, adapter, labelRules: sortKeys(labelRules), counts })
}

/** A record as one line, without line end; keys in canonical order, numbers in shortest form. */
export function recordLine(record: ImageRecord): string {
  const lesions = record.lesions.map((lesion) => ordered(lesion, lesionFields))
  return JSON.stringify(ordered({ ...record, lesions }, recordFields))
}

/** The whole file: header, then records sorted by id. The same records give the same bytes. */
export function manifestText(header: ManifestHeader, records: readonly ImageRecord[]): string {
  const sorted = [...records].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
  return `${[headerLine(header), ...sorted.map(recordLine)].join('\n')}\n`
}

/** Writes a manifest atomically. */
export async function writeManifest(
  path: string,
  header: ManifestHeader,
  records: readonly ImageRecord[],
): Promise<void> {
  await writeFileAtomic(path, manifestText(header, records))
}

export interface Manifest {
  header: ManifestHeader
  records: ImageRecord[]
}

export interface CheckOptions {
  /** Also look for the image files and compare their sizes with the records. */
  images?: boolean
  /** Training scale of a record, for box/tiny. Default 1. */
  scale?: (record: ImageRecord) => number
  /** For files that call themselves something else than mammograms. Default true: the manifest vouches for them. */
  assumeMammogram?: boolean
}

/** Reads a manifest; throws ERR_MAMMO_MANIFEST or ERR_MAMMO_ANNOTATION with every problem of level error. */
export async function readManifest(
  path: string,
  options: CheckOptions = {},
): Promise<Manifest & { problems: Problem[] }> {
  const checked = await checkManifest(path, options)
  throwErrors(checked.problems, path)
  return { header: checked.header as ManifestHeader, records: checked.records, problems: checked.problems }
}

/** Throws one error that lists every problem of level error; does nothing without one. */
export function throwErrors(problems: readonly Problem[], where: string): void {
  const errors = problems.filter(({ level }) => level === 'error')
  const [first] = errors
  if (first === undefined) return
  const code = codeOf(first)
  const lines = errors.map(({ message, where: place, fix }) => `  ${place}: ${message}; ${fix}`)
  const message = errors.length === 1 ? first.message : `${errors.length} problems\n${lines.join('\n')}`
  throw new DataError(code, message, {
    where: errors.length === 1 ? first.where : where,
    fix: errors.length === 1 ? first.fix : 'correct them, or list the images or lesions in --exclude',
    details: { rule: first.rule, problems: errors },
  })
}

/** The reader's own code for an image that cannot be read; otherwise by the kind of rule. */
function codeOf({ rule, details }: Problem): DataCode {
  const given = details?.['code']
  if (typeof given === 'string') return given.replace('ERR_MAMMO_', '') as DataCode
  if (rule.startsWith('manifest/')) return 'MANIFEST'
  return rule.startsWith('leak/') ? 'SPLIT_LEAK' : 'ANNOTATION'
}

/** Checks a manifest file: form, meaning and, by option, the images. Lists every problem; never throws for one. */
export async function checkManifest(
  path: string,
  options: CheckOptions = {},
): Promise<{ header: ManifestHeader | undefined; records: ImageRecord[]; problems: Problem[] }> {
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new DataError('MANIFEST', `expected a manifest that can be read, got ${cause.code}`, {
      where: path,
      fix: 'run `mammo-retinanet data prepare`',
      details: { rule: 'manifest/header' },
    })
  })
  const parsed = parseManifest(text, path, options.scale)
  if (options.images === true && parsed.header !== undefined) {
    const root = resolve(dirname(path), parsed.header.root)
    parsed.problems.push(
      ...(await checkImages(parsed.records, parsed.lines, root, path, options.assumeMammogram ?? true)),
    )
  }
  return parsed
}

/** Parses and checks the text of a manifest. `lines` holds the 1-based line of each record. */
export function parseManifest(
  text: string,
  file: string,
  scale: (record: ImageRecord) => number = () => 1,
): { header: ManifestHeader | undefined; records: ImageRecord[]; lines: number[]; problems: Problem[] } {
  const problems: Problem[] = []
  const records: ImageRecord[] = []
  const lines: number[] = []
  const seen = new Map<string, number>()
  const rows = text.split('\n')
  if (rows.at(-1) === '') rows.pop()
  const header = parseHeader(rows[0] ?? '', `${file}:1`, problems)
  for (const [n, row] of rows.entries()) {
    if (n === 0) continue
    const where = `${file}:${n + 1}`
    const record = parseLine(row, where, problems)
    if (record === undefined) continue
    const before = seen.get(record.id)
    if (before !== undefined) {
      problems.push(problem('manifest/duplicate-id', `id ${record.id} also in line ${before}`, where, 'keep one'))
      continue
    }
    seen.set(record.id, n + 1)
    problems.push(...checkRecord(record, where, scale(record)))
    records.push(record)
    lines.push(n + 1)
  }
  return { header, records, lines, problems }
}

/** What a well-formed record means: empty, outside, tiny and doubled boxes, polygons that contradict them. */
export function checkRecord(record: ImageRecord, where: string, scale = 1): Problem[] {
  const problems: Problem[] = []
  const { width, height, lesions } = record
  for (const [n, lesion] of lesions.entries()) {
    const name = `lesion ${lesion.id}`
    const place = `${where}, ${lesion.source.file}`
    const fix = `correct it, or list ${record.id}#${lesion.id} in --exclude`
    const [x1, y1, x2, y2] = lesion.box
    if (!(x2 > x1)) problems.push(problem('box/empty', `box of ${name} has width ${x2 - x1}`, place, fix))
    else if (!(y2 > y1)) problems.push(problem('box/empty', `box of ${name} has height ${y2 - y1}`, place, fix))
    else if (x1 >= width || y1 >= height || x2 <= 0 || y2 <= 0) {
      problems.push(
        problem('box/outside', `box of ${name} lies wholly outside the image of ${width}x${height}`, place, fix),
      )
    } else if (x1 < 0 || y1 < 0 || x2 > width || y2 > height) {
      const beyond = Math.max(-x1, -y1, x2 - width, y2 - height)
      problems.push(problem('box/outside', `box of ${name} leaves the image by ${beyond} px unclipped`, place, fix))
    } else {
      if (lesion.clipped)
        problems.push(problem('box/clipped', `box of ${name} was clipped at the border`, place, fix, 'warning'))
      const shorter = Math.min(x2 - x1, y2 - y1) * scale
      if (shorter < 8) {
        problems.push(
          problem(
            'box/tiny',
            `box of ${name} has a shorter side of ${shorter} px at training scale`,
            place,
            fix,
            'warning',
          ),
        )
      }
    }
    problems.push(...checkPolygon(lesion, record, name, place, fix))
    for (const other of lesions.slice(0, n)) {
      if (other.class !== lesion.class || iou(other.box, lesion.box) <= 0.9) continue
      const message = `${name} and lesion ${other.id} are both ${lesion.class} and overlap by more than 0.9`
      problems.push(problem('lesion/duplicate', message, place, fix, 'warning'))
    }
  }
  return problems
}

function checkPolygon(
  lesion: Lesion,
  { width, height }: ImageRecord,
  name: string,
  where: string,
  fix: string,
): Problem[] {
  // Points and lines have no area to compare.
  if (lesion.polygon === undefined || lesion.polygon.length < 3) return []
  const extent = clip(bounds(lesion.polygon), width, height)
  const off = Math.max(...extent.map((value, n) => Math.abs(value - lesion.box[n]!)))
  if (off <= 1) return []
  return [problem('polygon/box', `polygon bounds and box of ${name} differ by ${off} px`, where, fix)]
}

function parseHeader(line: string, where: string, problems: Problem[]): ManifestHeader | undefined {
  const fix = 'run `data prepare` again'
  let header: unknown
  try {
    header = JSON.parse(line)
  } catch {
    header = undefined
  }
  const schema = isObject(header) ? header['manifest'] : undefined
  if (!isObject(header) || schema !== MANIFEST_SCHEMA) {
    const got = schema === undefined ? 'no header' : String(schema)
    problems.push(problem('manifest/header', `expected schema ${MANIFEST_SCHEMA}, got ${got}`, where, fix))
    return undefined
  }
  const wrong = [
    isText(header['root']) ? '' : 'root',
    (ADAPTERS as readonly unknown[]).includes(header['adapter']) ? '' : 'adapter',
    isObject(header['labelRules']) ? '' : 'labelRules',
    isObject(header['counts']) ? '' : 'counts',
  ].filter(Boolean)
  for (const name of wrong)
    problems.push(problem('manifest/header', `field ${name} of the header is missing or wrong`, where, fix))
  return wrong.length === 0 ? (header as unknown as ManifestHeader) : undefined
}

function parseLine(row: string, where: string, problems: Problem[]): ImageRecord | undefined {
  let value: unknown
  try {
    value = JSON.parse(row)
  } catch (error) {
    const column = /position (\d+)/.exec((error as Error).message)?.[1]
    const message = `line is not a JSON object (column ${column === undefined ? row.length + 1 : Number(column) + 1})`
    problems.push(problem('manifest/json', message, where, 'restore the line or regenerate'))
    return undefined
  }
  if (!isObject(value)) {
    problems.push(
      problem('manifest/json', 'line is not a JSON object (column 1)', where, 'restore the line or regenerate'),
    )
    return undefined
  }
  const before = problems.length
  checkFields(value, recordFields, '', where, problems)
  if (Array.isArray(value['lesions'])) {
    for (const [n, lesion] of value['lesions'].entries()) {
      if (isObject(lesion)) checkFields(lesion, lesionFields, `lesions[${n}].`, where, problems)
      else problems.push(fieldProblem(`lesions[${n}]`, 'an object', lesion, where))
    }
  }
  return problems.length === before ? (value as unknown as ImageRecord) : undefined
}

function checkFields(
  value: Record<string, unknown>,
  fields: readonly Field[],
  prefix: string,
  where: string,
  problems: Problem[],
): void {
  for (const { name, must, valid, optional } of fields) {
    const content = value[name]
    if (content === undefined && optional === true) continue
    if (!valid(content)) problems.push(fieldProblem(prefix + name, must, content, where))
  }
}

function fieldProblem(name: string, must: string, got: unknown, where: string): Problem {
  const text = got === undefined ? 'nothing' : JSON.stringify(got)
  const short = text.length > 80 ? `${text.slice(0, 77)}...` : text
  return problem('manifest/field', `field ${name} must be ${must}, got ${short}`, where, 'correct it')
}

async function checkImages(
  records: readonly ImageRecord[],
  lines: readonly number[],
  root: string,
  file: string,
  assumeMammogram: boolean,
): Promise<Problem[]> {
  const problems: Problem[] = []
  for (const [n, record] of records.entries()) {
    const where = `${file}:${lines[n]}`
    const path = join(root, record.path)
    if ((await stat(path).catch(() => undefined))?.isFile() !== true) {
      problems.push(
        problem('manifest/missing-file', `image ${record.path} not found`, where, 'set root, or list it in --exclude'),
      )
      continue
    }
    try {
      const info = await readImageInfo(path, { frame: record.frame, assumeMammogram, allowForProcessing: true })
      if (info.width === record.width && info.height === record.height) continue
      const message = `record says ${record.width}x${record.height}, file decodes to ${info.width}x${info.height}`
      problems.push(problem('manifest/size', message, `${where}, ${record.path}`, 'regenerate the manifest'))
    } catch (error) {
      if (!(error instanceof DataError)) throw error
      problems.push(
        problem(
          'manifest/size',
          `image cannot be read: ${error.message}`,
          `${where}, ${record.path}`,
          error.fix ?? 'restore the file',
        ),
      )
    }
  }
  return problems
}

function problem(
  rule: string,
  message: string,
  where: string,
  fix: string,
  level: Problem['level'] = 'error',
): Problem {
  return { rule, level, message, where, fix }
}

/** The object with the keys of `fields` first, in their order; other keys follow by name; undefined ones are left out. */
function ordered(value: object, fields: readonly Field[]): Record<string, unknown> {
  const from = value as Record<string, unknown>
  const names = new Set([...fields.map(({ name }) => name), ...Object.keys(from).sort()])
  return Object.fromEntries([...names].filter((name) => from[name] !== undefined).map((name) => [name, from[name]]))
}

function sortKeys(value: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
}
