// CBIS-DDSM: the case description tables and the TCIA download of images, crops and masks. Stored paths are stale, so files are found by
// case folder; crop and mask are told apart by content; a box is the extent of a mask. CC BY 3.0, doi 10.7937/K9/TCIA.2016.7O02S9CY.
// Format, counts and quirks: datasets spec 2.2.
import { basename, join } from 'node:path'
import { DataError } from '../../errors.js'
import { lateralityFromText, viewFromText } from '../dicom/view.js'
import { readImage, readImageInfo } from '../image.js'
import type { Adapter, AdapterOptions, BiRads, Box, Dataset, Density, Pathology, Problem, SplitHint } from '../types.js'
import { BI_RADS, DENSITIES } from '../types.js'
import { collect, type Draft, forEach, listFiles, noDataset } from './collect.js'
import { columnsOf, readTable } from './table.js'

const VERSION = 1

export const cbisDdsm: Adapter = {
  name: 'cbis-ddsm',
  version: VERSION,
  detect: async (root) => (await listFiles(root).catch(() => [])).some((file) => tableName(file) !== undefined),
  read,
}

export interface CbisRow {
  /** Relative path of the table. */
  file: string
  line: number
  kind: 'mass' | 'calcification'
  split: 'train' | 'test'
  patient: string
  density: Density | null
  /** As written. */
  side: string
  view: string
  abnormality: string
  biRads: BiRads | null
  pathology: Pathology
  /** As written: MALIGNANT, BENIGN or BENIGN_WITHOUT_CALLBACK. */
  pathologyName: string
  subtlety: number | null
  /** Folder of the full image: `Mass-Training_P_00001_LEFT_CC`. Lesion folders add `_<abnormality>`. */
  caseFolder: string
}

export interface CbisTable {
  file: string
  /** Physical lines. */
  lines: number
  rows: CbisRow[]
}

/** Rows, physical lines: complete tables. */
const COMPLETE: Record<string, [number, number]> = {
  'mass-train': [1318, 2637],
  'mass-test': [378, 757],
  'calc-train': [1546, 3093],
  'calc-test': [326, 653],
}

/** Reads all tables below a folder. Throws ERR_MAMMO_ANNOTATION when there are none or one is damaged. */
export async function readCbisTables(
  root: string,
  files?: readonly string[],
): Promise<{ tables: CbisTable[]; problems: Problem[] }> {
  const problems: Problem[] = []
  const tables: CbisTable[] = []
  for (const file of files ?? (await listFiles(root))) {
    const name = tableName(file)
    if (name === undefined) continue
    const needed = [
      'patient id',
      'left or right breast',
      'image view',
      'abnormality id',
      'pathology',
      'image file path',
    ]
    const { header, rows, lines } = await readTable(join(root, file), needed)
    const cell = columnsOf(header)
    const parsed = rows.map((row): CbisRow => {
      const kind = name.startsWith('mass') ? 'mass' : 'calcification'
      const split = name.endsWith('train') ? 'train' : 'test'
      const pathologyName = cell(row, 'pathology')
      const density = Number(cell(row, 'breast density'))
      const assessment = cell(row, 'assessment')
      return {
        file,
        line: row.line,
        kind,
        split,
        patient: cell(row, 'patient id'),
        density: DENSITIES[density - 1] ?? null,
        side: cell(row, 'left or right breast'),
        view: cell(row, 'image view'),
        abnormality: cell(row, 'abnormality id'),
        biRads: (BI_RADS as readonly string[]).includes(assessment) ? (assessment as BiRads) : null,
        pathology:
          pathologyName === 'MALIGNANT' ? 'malignant' : pathologyName.startsWith('BENIGN') ? 'benign' : 'unknown',
        pathologyName,
        subtlety: Number(cell(row, 'subtlety')) || null,
        caseFolder: cell(row, 'image file path').split('/')[0] ?? '',
      }
    })
    tables.push({ file, lines, rows: parsed })
    const [expected] = COMPLETE[name]!
    if (parsed.length !== expected) {
      const message = `complete table has ${expected} rows, this one ${parsed.length}`
      problems.push({
        rule: 'dataset/incomplete',
        level: 'warning',
        message,
        where: file,
        fix: 'nothing to do if that is intended',
      })
    }
    for (const row of parsed) problems.push(...checkRow(row))
  }
  if (tables.length === 0) {
    throw noDataset(
      'tables such as mass_case_description_train_set.csv',
      root,
      'put the four case description tables into the folder',
    )
  }
  return { tables, problems }
}

/** Split of each patient: with several tables loaded, any test membership wins. */
export function cbisSplits(tables: readonly CbisTable[]): Map<string, SplitHint> {
  const splits = new Map<string, SplitHint>()
  for (const { rows } of tables) {
    for (const { patient, split } of rows) if (splits.get(patient) !== 'test') splits.set(patient, split)
  }
  return splits
}

/** The table against its own folder name. */
function checkRow({ file, line, kind, split, patient, side, view, caseFolder }: CbisRow): Problem[] {
  const expected = `${kind === 'mass' ? 'Mass' : 'Calc'}-${split === 'train' ? 'Training' : 'Test'}_${patient}_${side}_${view}`
  if (caseFolder === expected) return []
  const message = `folder ${caseFolder} differs from the table's ${expected}`
  return [
    {
      rule: 'cbis/folder',
      level: 'warning',
      message,
      where: `${file}:${line}`,
      fix: 'nothing to do: the folder is used',
    },
  ]
}

async function read(root: string, options: AdapterOptions = {}): Promise<Dataset> {
  const files = await listFiles(root)
  const { tables, problems } = await readCbisTables(root, files)
  const splits = cbisSplits(tables)
  const byCase = indexFolders(files)
  const cases = new Map<string, CbisRow[]>()
  for (const row of tables.flatMap((table) => table.rows)) {
    cases.set(row.caseFolder, [...(cases.get(row.caseFolder) ?? []), row])
  }
  const present = [...cases].filter(([folder]) => byCase.has(folder))
  const absent = cases.size - present.length
  if (present.length === 0)
    throw noDataset(
      'image folders such as Mass-Training_P_00001_LEFT_CC',
      root,
      'download the images from TCIA into the folder',
    )
  if (absent > 0) {
    const message = `${absent} of ${cases.size} images of the tables have no folder`
    problems.push({
      rule: 'dataset/incomplete',
      level: 'warning',
      message,
      where: root,
      fix: 'download the rest, or nothing to do',
    })
  }
  const drafts: Draft[] = []
  await forEach(present, 2, async ([folder, rows]) => {
    options.signal?.throwIfAborted()
    const images = byCase.get(folder)!
    const first = rows[0]!
    const where = `${first.file}:${first.line}`
    if (images.length !== 1) {
      const message = `folder ${folder} must hold one image, holds ${images.length}`
      problems.push({ rule: 'cbis/image', level: 'error', message, where, fix: 'download the case again' })
      return
    }
    const path = images[0]!
    const size = await readImageInfo(join(root, path), { assumeMammogram: true }).catch((error: unknown) => {
      if (error instanceof DataError) return undefined
      throw error
    })
    const draft: Draft = {
      id: folder,
      path,
      patient: first.patient,
      laterality: lateralityFromText(first.side),
      view: viewFromText(first.view),
      split: splits.get(first.patient) ?? first.split,
      density: first.density,
      annotated: true,
      lesions: [],
      flags: ['film'],
      annotationFile: first.file,
      where,
    }
    for (const row of rows) {
      const place = `${row.file}:${row.line}`
      const candidates = byCase.get(`${folder}_${row.abnormality}`) ?? []
      const found =
        size === undefined ? undefined : await findMask(root, candidates, size.width, size.height, place, problems)
      if (found === undefined) continue
      const index = draft.lesions.length
      draft.lesions.push({
        id: `${row.kind}${row.abnormality}`,
        class: row.kind,
        box: found.box,
        pathology: row.pathology,
        biRads: row.biRads,
        source: { file: found.path, index, name: row.pathologyName },
        where: place,
      })
    }
    // A lesion without a box makes the image neither negative nor complete.
    if (draft.lesions.length === 0) draft.annotated = false
    drafts.push(draft)
  })
  drafts.sort((a, b) => (a.id < b.id ? -1 : 1))
  return collect(root, drafts, problems, options, { adapter: 'cbis-ddsm', version: VERSION, assumeMammogram: true })
}

/** The mask among the files of a lesion: at most two values and a canvas like the image's. */
async function findMask(
  root: string,
  candidates: readonly string[],
  width: number,
  height: number,
  where: string,
  problems: Problem[],
): Promise<{ path: string; box: Box } | undefined> {
  const fail = (rule: string, message: string, level: Problem['level'] = 'error') => {
    problems.push({ rule, level, message, where, fix: 'download the case again, or leave the lesion out' })
    return undefined
  }
  const masks: { path: string; pixels: Uint16Array; width: number; height: number }[] = []
  const odd: string[] = []
  for (const path of candidates) {
    const image = await readImage(join(root, path), { assumeMammogram: true }).catch((error: unknown) => {
      if (error instanceof DataError) return undefined
      throw error
    })
    if (image === undefined || !hasTwoValues(image.pixels)) continue
    const [rx, ry] = [image.width / width, image.height / height]
    if (Math.abs(rx - ry) <= 0.02 * Math.max(rx, ry) && rx >= 0.5 && rx <= 2) masks.push({ ...image, path })
    else odd.push(path)
  }
  const [mask] = masks
  if (masks.length !== 1 || mask === undefined) {
    const got =
      masks.length > 0
        ? `${masks.length} fit`
        : odd.length > 0
          ? 'its canvas has another shape'
          : `none of ${candidates.length} files fits`
    return fail('cbis/ambiguous-mask', `expected one mask, ${got}: lesion skipped`, 'warning')
  }
  const extent = maskExtent(mask.pixels, mask.width)
  if (extent === undefined) return fail('cbis/empty-mask', 'mask is empty')
  const [sx, sy] = [width / mask.width, height / mask.height]
  if (sx !== 1 || sy !== 1)
    fail('cbis/mask-size', `mask of ${mask.width}x${mask.height} was scaled to ${width}x${height}`, 'warning')
  return { path: mask.path, box: [extent[0] * sx, extent[1] * sy, extent[2] * sx, extent[3] * sy] }
}

function hasTwoValues(pixels: Uint16Array): boolean {
  const first = pixels[0]
  let second: number | undefined
  for (const value of pixels) {
    if (value === first || value === second) continue
    if (second !== undefined) return false
    second = value
  }
  return true
}

/** Bounds of the non-zero pixels, half-open; undefined without any. */
export function maskExtent(pixels: Uint16Array, width: number): Box | undefined {
  let [x1, y1, x2, y2] = [width, Number.POSITIVE_INFINITY, 0, 0]
  for (let i = 0; i < pixels.length; i++) {
    if (pixels[i] === 0) continue
    const x = i % width
    const y = (i - x) / width
    if (x < x1) x1 = x
    if (x >= x2) x2 = x + 1
    if (y < y1) y1 = y
    y2 = y + 1
  }
  return x2 === 0 ? undefined : [x1, y1, x2, y2]
}

/** Image files by the case folder on their path. */
function indexFolders(files: readonly string[]): Map<string, string[]> {
  const folders = new Map<string, string[]>()
  for (const file of files) {
    if (!/\.(dcm|dicom|png|tiff?)$/i.test(file)) continue
    const folder = file
      .split('/')
      .find((part) => /^(Mass|Calc)-(Training|Test)_P_\d+_(LEFT|RIGHT)_(CC|MLO)(_\d+)?$/.test(part))
    if (folder !== undefined) folders.set(folder, [...(folders.get(folder) ?? []), file])
  }
  return folders
}

function tableName(file: string): string | undefined {
  const match = /^(mass|calc)_case_description_(train|test)_set\.csv$/.exec(basename(file))
  return match === null ? undefined : `${match[1]}-${match[2]}`
}
