// INbreast: AllDICOMs, AllXML (property lists of contours) and INbreast.csv. Masses come from the contours alone; images without XML are
// negatives; the 16 hex digits in a file name are the patient. The set is available on request from its authors and must not be
// redistributed. Format and quirks: datasets spec 2.1.
import { basename, join } from 'node:path'
import { parse as parsePlist } from 'plist'
import { lateralityFromText } from '../dicom/view.js'
import { contourBox } from '../lesions.js'
import type { Adapter, AdapterOptions, BiRads, Box, Dataset, Pathology, Point, Problem } from '../types.js'
import { BI_RADS, DENSITIES } from '../types.js'
import { collect, type Draft, type DraftLesion, isFile, isFolder, listFiles, noDataset } from './collect.js'
import { columnsOf, readTable, readText } from './table.js'

const VERSION = 1
const IMAGES = 410
const TABLE = 'INbreast.csv'
const FILE_NAME = /^(\d+)_([0-9a-f]{16})_MG_([LR])_(CC|ML|FB)_ANON\.dcm$/i
/** Order of assessment for data.inbreast.malignantFrom. */
const ASSESSMENTS: readonly BiRads[] = ['1', '2', '3', '4', '4a', '4b', '4c', '5', '6']

const classes: Record<string, string> = {
  mass: 'mass',
  calcification: 'calcification',
  calcifications: 'calcification',
  cluster: 'calcification',
  unnamed: 'calcification',
  'point 3': 'calcification',
  distortion: 'distortion',
  asymmetry: 'asymmetry',
  assymetry: 'asymmetry',
  'spiculated region': 'spiculation',
  'espiculated region': 'spiculation',
}

export const inbreast: Adapter = {
  name: 'inbreast',
  version: VERSION,
  detect: async (root) => (await isFolder(join(root, 'AllDICOMs'))) && (await isFolder(join(root, 'AllXML'))),
  read,
}

/** Reads the folder with AllDICOMs, AllXML and INbreast.csv. Throws ERR_MAMMO_ANNOTATION when one is missing. */
async function read(root: string, options: AdapterOptions = {}): Promise<Dataset> {
  if (!(await isFile(join(root, TABLE)))) {
    const xls = await isFile(join(root, 'INbreast.xls'))
    throw noDataset(
      `the table ${TABLE}${xls ? ' (INbreast.xls is not read: the CSV holds all that is needed)' : ''}`,
      root,
      `put ${TABLE} of the download beside AllDICOMs`,
    )
  }
  const spiculatedAsMass = options.inbreast?.spiculatedAsMass ?? false
  const malignantFrom = options.inbreast?.malignantFrom ?? null
  const rounding = options.boxRounding ?? 'outward'
  const problems: Problem[] = []
  const table = await readTable(join(root, TABLE), ['laterality', 'view', 'file name', 'acr', 'bi-rads'], ';')
  const cell = columnsOf(table.header)
  const rows = new Map(table.rows.map((row) => [cell(row, 'file name').replace(/\.dcm$/i, ''), row]))
  const files = (await listFiles(join(root, 'AllDICOMs'))).filter((file) => FILE_NAME.test(basename(file)))
  if (files.length === 0) {
    throw noDataset(
      'files <id>_<16 hex>_MG_<L|R>_<CC|ML|FB>_ANON.dcm in AllDICOMs',
      root,
      'choose the folder of the download',
    )
  }
  if (files.length !== IMAGES) {
    const message = `complete set has ${IMAGES} images, this one ${files.length}`
    problems.push({
      rule: 'dataset/incomplete',
      level: 'warning',
      message,
      where: 'AllDICOMs',
      fix: 'nothing to do if that is intended',
    })
  }
  const drafts: Draft[] = []
  const used = new Set<string>()
  for (const file of files) {
    const [, id = '', hash = '', side = '', view = ''] = FILE_NAME.exec(basename(file))!
    used.add(id)
    const row = rows.get(id)
    const where = row === undefined ? `AllDICOMs/${file}` : `${TABLE}:${row.line}`
    if (row === undefined) {
      problems.push({
        rule: 'inbreast/table',
        level: 'error',
        message: `image ${id} has no row in ${TABLE}`,
        where,
        fix: 'restore the table',
      })
    } else if (cell(row, 'laterality') !== side.toUpperCase()) {
      const message = `table says side ${cell(row, 'laterality')}, the file name ${side}: the table counts`
      problems.push({ rule: 'inbreast/side', level: 'warning', message, where, fix: 'check the image' })
    }
    const biRads = row === undefined ? null : biRadsOf(cell(row, 'bi-rads'))
    const xml = `AllXML/${id}.xml`
    const present = await isFile(join(root, xml))
    const contours = present ? parseContours(await readText(join(root, xml)), xml, problems) : []
    const pathology = pathologyOf(biRads, malignantFrom)
    drafts.push({
      id,
      path: `AllDICOMs/${file}`,
      patient: hash.toLowerCase(),
      laterality: lateralityFromText((row && cell(row, 'laterality')) || side),
      view: view.toUpperCase() === 'ML' ? 'MLO' : (view.toUpperCase() as 'CC' | 'FB'),
      density: row === undefined ? null : (DENSITIES[Number(cell(row, 'acr')) - 1] ?? null),
      biRads,
      annotated: contours !== undefined,
      lesions: (contours ?? []).map((contour) => lesionOf(contour, xml, rounding, spiculatedAsMass, pathology)),
      annotationFile: present ? xml : null,
      where: present ? xml : where,
      spacingMm: [0.07, 0.07],
    })
  }
  for (const [id, row] of rows) {
    if (used.has(id) || id === '') continue
    const message = `image ${/^\d+$/.test(id) ? id : 'of this row'} has no file in AllDICOMs`
    const fix = 'restore the image, or nothing to do for a part of the set'
    problems.push({ rule: 'manifest/missing-file', level: 'warning', message, where: `${TABLE}:${row.line}`, fix })
  }
  return collect(root, drafts, problems, options, {
    adapter: 'inbreast',
    version: VERSION,
    assumeMammogram: true,
    labelRules: { boxRounding: rounding, malignantFrom, spiculatedAsMass },
  })
}

export interface Contour {
  /** Number in the file, from 0. */
  index: number
  name: string
  points: Point[]
}

/**
 * Contours of a property list: `Images[0].ROIs[]`. A contour whose numbers contradict each other is an error and left out, the others
 * count. Undefined when the file as a whole is damaged.
 */
export function parseContours(xml: string, where: string, problems: Problem[]): Contour[] | undefined {
  const error = (message: string, details?: Record<string, unknown>) =>
    problems.push({
      rule: 'inbreast/xml',
      level: 'error',
      message,
      where,
      fix: 'restore the file from the download, or list the image in --exclude',
      ...(details === undefined ? {} : { details }),
    })
  let root: unknown
  try {
    root = parsePlist(xml)
  } catch {
    error('file is not a property list')
    return undefined
  }
  const images = (root as { Images?: unknown } | null)?.Images
  const image = Array.isArray(images)
    ? (images[0] as { ROIs?: unknown; NumberOfROIs?: unknown } | undefined)
    : undefined
  if (!Array.isArray(image?.ROIs)) {
    error('file has no list Images[0].ROIs')
    return undefined
  }
  if (image.NumberOfROIs !== undefined && Number(image.NumberOfROIs) !== image.ROIs.length) {
    error(`NumberOfROIs says ${image.NumberOfROIs}, the list has ${image.ROIs.length}`)
  }
  const contours: Contour[] = []
  for (const [n, roi] of (image.ROIs as Record<string, unknown>[]).entries()) {
    const name = String(roi?.['Name'] ?? '').trim()
    const list = roi?.['Point_px']
    const label = `ROI ${n}${/^[A-Za-z0-9 ]{1,40}$/.test(name) ? ` ("${name}")` : ''}`
    if (!Array.isArray(list) || list.length === 0) {
      error(`${label} has no points`, { roi: n })
      continue
    }
    if (roi['NumberOfPoints'] !== undefined && Number(roi['NumberOfPoints']) !== list.length) {
      error(`${label}: NumberOfPoints says ${Number(roi['NumberOfPoints'])}, the list has ${list.length}`, { roi: n })
      continue
    }
    const points = list.map(parsePoint)
    if (points.includes(undefined)) {
      error(`${label} has a point that is not "(x, y)"`, { roi: n })
      continue
    }
    contours.push({ index: n, name, points: points as Point[] })
  }
  return contours
}

function parsePoint(text: unknown): Point | undefined {
  const match = /^\(\s*(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*,\s*(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*\)$/i.exec(
    String(text).trim(),
  )
  return match === null ? undefined : [Number(match[1]), Number(match[2])]
}

/** Class of a contour's name. */
export function inbreastClass(name: string, spiculatedAsMass: boolean): string {
  const key = name.trim().toLowerCase()
  if (key === '' || key === 'point 1') return 'unknown'
  const found = classes[key] ?? key
  return found === 'spiculation' && spiculatedAsMass ? 'mass' : found
}

function lesionOf(
  { index, name, points }: Contour,
  file: string,
  rounding: 'outward' | 'none',
  spiculatedAsMass: boolean,
  pathology: Pathology,
): DraftLesion {
  const outline = points.length >= 3
  return {
    id: `roi${index}`,
    class: inbreastClass(name, spiculatedAsMass),
    box: outline ? contourBox(points, rounding) : pointBox(points),
    polygon: points,
    pathology,
    source: { file, index, name },
    where: `${file}, ROI ${index}`,
  }
}

/** One or two points mark a place: the pixels they lie in, so that no box is empty. */
function pointBox(points: readonly Point[]): Box {
  const [x1, y1, x2, y2] = contourBox(points, 'none')
  return [Math.floor(x1), Math.floor(y1), Math.floor(x2) + 1, Math.floor(y2) + 1]
}

function biRadsOf(text: string): BiRads | null {
  const value = text.trim().toLowerCase()
  return (BI_RADS as readonly string[]).includes(value) ? (value as BiRads) : null
}

function pathologyOf(biRads: BiRads | null, malignantFrom: BiRads | null): Pathology {
  if (malignantFrom === null || biRads === null || biRads === '0') return 'unknown'
  return ASSESSMENTS.indexOf(biRads) >= ASSESSMENTS.indexOf(malignantFrom) ? 'malignant' : 'benign'
}
