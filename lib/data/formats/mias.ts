// mini-MIAS: mdbNNN.pgm of 1024 x 1024 at 0.2 mm, and Info.txt. Its origin is the bottom left corner, circles are centre and radius.
// Masses are CIRC, SPIC and MISC. Research use only; nothing of it may be redistributed. Format: datasets spec 2.3.
import { basename, join } from 'node:path'
import type { Adapter, AdapterOptions, Box, Dataset, Pathology, Problem } from '../types.js'
import { collect, type Draft, isFile, listFiles, noDataset } from './collect.js'
import { readText } from './table.js'

const VERSION = 1
const SIDE = 1024
const ROWS = 330

const classes: Record<string, string> = {
  CALC: 'calcification',
  CIRC: 'mass',
  SPIC: 'mass',
  MISC: 'mass',
  ARCH: 'distortion',
  ASYM: 'asymmetry',
}

export const mias: Adapter = {
  name: 'mini-mias',
  version: VERSION,
  detect: async (root) => (await findInfo(root)) !== undefined,
  read,
}

export interface MiasRow {
  line: number
  reference: string
  kind: string
  severity: string
  /** x, y from the bottom, radius; undefined when the row has none. */
  circle: [number, number, number] | undefined
}

/** Reads the folder with Info.txt and the PGM files. Throws ERR_MAMMO_ANNOTATION without Info.txt. */
async function read(root: string, options: AdapterOptions = {}): Promise<Dataset> {
  const info = options.annotations ?? (await findInfo(root))
  if (info === undefined) throw noDataset('Info.txt of mini-MIAS', root, 'put it beside the mdbNNN.pgm files')
  const problems: Problem[] = []
  const rows = parseInfo(await readText(join(root, info)), info, problems)
  if (rows.length !== ROWS) {
    problems.push({
      rule: 'dataset/incomplete',
      level: 'warning',
      message: `complete set has ${ROWS} rows, this one ${rows.length}`,
      where: info,
      fix: 'nothing to do if that is intended',
    })
  }
  const files = new Map((await listFiles(root)).map((file) => [basename(file).toLowerCase(), file]))
  const drafts = new Map<string, Draft>()
  for (const row of rows) {
    const where = `${info}:${row.line}`
    let draft = drafts.get(row.reference)
    if (draft === undefined) {
      const number = Number(row.reference.slice(3))
      draft = {
        id: row.reference,
        path: files.get(`${row.reference}.pgm`) ?? `${row.reference}.pgm`,
        patient: `p${String(Math.ceil(number / 2)).padStart(3, '0')}`,
        laterality: number % 2 === 0 ? 'L' : 'R',
        view: 'MLO',
        annotated: true,
        lesions: [],
        flags: ['film'],
        annotationFile: info,
        where,
        size: { width: SIDE, height: SIDE },
        spacingMm: [0.2, 0.2],
      }
      drafts.set(row.reference, draft)
    }
    const name = classes[row.kind]
    if (name === undefined) continue
    if (row.circle === undefined) {
      // A mass somewhere in the image: neither a negative nor usable. Other findings do not make mass labels incomplete.
      if (name === 'mass') {
        draft.annotated = false
        problems.push({
          rule: 'mias/no-coordinates',
          level: 'warning',
          message: `${row.reference} has a ${row.kind} without coordinates: not annotated`,
          where,
          fix: 'nothing to do',
        })
      }
      continue
    }
    const index = draft.lesions.length
    draft.lesions.push({
      id: `${row.kind.toLowerCase()}${index + 1}`,
      class: name,
      box: miasBox(...row.circle),
      pathology: pathologyOf(row.severity),
      source: { file: info, index, name: row.kind },
      where,
    })
  }
  return collect(root, [...drafts.values()], problems, options, {
    adapter: 'mini-mias',
    version: VERSION,
    labelRules: { mass: ['CIRC', 'SPIC', 'MISC'] },
  })
}

/** Box of a circle whose y counts from the bottom. */
export function miasBox(x: number, y: number, radius: number): Box {
  return [x - radius, SIDE - y - radius, x + radius, SIDE - y + radius]
}

/** Rows of Info.txt: lines that begin with mdb and three digits; prose and headers around them are passed over. */
export function parseInfo(text: string, file: string, problems: Problem[]): MiasRow[] {
  const rows: MiasRow[] = []
  for (const [n, line] of text.split(/\r?\n/).entries()) {
    if (!/^\s*mdb\d{3}(\s|$)/i.test(line)) continue
    const cells = line.trim().split(/\s+/)
    const [reference = '', , kind = '', severity = ''] = cells
    const numbers = cells.slice(4, 7).map(Number)
    const circle =
      cells.length >= 7 && numbers.every(Number.isFinite) ? (numbers as [number, number, number]) : undefined
    const known = kind === 'NORM' || classes[kind] !== undefined
    if (cells.length < 3 || !known) {
      const message = `line must be REF BG CLASS [SEVERITY X Y RADIUS], class one of NORM, ${Object.keys(classes).join(', ')}`
      problems.push({
        rule: 'mias/row',
        level: 'error',
        message,
        where: `${file}:${n + 1}`,
        fix: 'restore the file from its source',
      })
      continue
    }
    rows.push({ line: n + 1, reference: reference.toLowerCase(), kind, severity, circle })
  }
  return rows
}

function pathologyOf(severity: string): Pathology {
  return severity === 'M' ? 'malignant' : severity === 'B' ? 'benign' : 'unknown'
}

async function findInfo(root: string): Promise<string | undefined> {
  for (const name of ['Info.txt', 'info.txt']) if (await isFile(join(root, name))) return name
  return undefined
}
