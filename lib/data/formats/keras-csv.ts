// The CSV of keras-retinanet, read and written: `path,x1,y1,x2,y2,class` without header, `path,,,,,` for a negative, and a class file
// `name,id`. Paths are relative to the CSV's folder. The checks are those of the original in its order, but all lines are reported;
// decimals, byte order mark and boxes at 0 are accepted, and boxes beyond the image are clipped (datasets spec 2.5).
import { dirname, extname, join, relative, resolve } from 'node:path'
import { stringify } from 'csv-stringify/sync'
import type { Adapter, AdapterOptions, Box, Dataset, ImageRecord, Problem } from '../types.js'
import { collect, type Draft, isFile, noDataset, stem } from './collect.js'
import { readRows, type TableRow } from './table.js'

const VERSION = 1

export const kerasCsv: Adapter = {
  name: 'keras-csv',
  version: VERSION,
  detect: async (root) =>
    extname(root) === '.csv' ||
    ((await isFile(join(root, 'annotations.csv'))) && (await isFile(join(root, 'classes.csv')))),
  read,
}

/** Reads a folder with annotations.csv and classes.csv, or the CSV itself. Throws ERR_MAMMO_ANNOTATION. */
async function read(path: string, options: AdapterOptions = {}): Promise<Dataset> {
  const root = extname(path) === '.csv' ? dirname(path) : path
  const file = await choose(root, options.annotations ?? (extname(path) === '.csv' ? path : 'annotations.csv'))
  if (file === undefined) throw noDataset('a CSV file such as annotations.csv', path, 'name it with --annotations')
  const classFile = await choose(root, options.classesFile ?? join(dirname(file), 'classes.csv'))
  if (classFile === undefined && options.classesFile !== undefined) {
    throw noDataset('the class file', options.classesFile, 'check its path')
  }
  const problems: Problem[] = []
  const classes =
    classFile === undefined ? undefined : readClasses(await readRows(classFile), relative(root, classFile), problems)
  const name = relative(root, file)
  const drafts = new Map<string, Draft>()
  for (const row of await readRows(file)) {
    const where = `${name}:${row.line}`
    const parsed = parseRow(row, classes, where)
    if ('problem' in parsed) {
      problems.push(parsed.problem)
      continue
    }
    const image = relative(root, resolve(dirname(file), parsed.path))
    let draft = drafts.get(image)
    if (draft === undefined) {
      draft = { id: stem(image), path: image, annotated: true, lesions: [], annotationFile: name, where }
      drafts.set(image, draft)
    }
    if (parsed.box === undefined) continue
    const index = draft.lesions.length
    draft.lesions.push({
      id: `line${row.line}`,
      class: parsed.class.toLowerCase(),
      box: parsed.box,
      source: { file: name, index, name: parsed.class },
      where,
    })
  }
  const names =
    classes === undefined ? undefined : [...classes].sort(([, a], [, b]) => a - b).map(([each]) => each.toLowerCase())
  return collect(root, [...drafts.values()], problems, options, {
    adapter: 'keras-csv',
    version: VERSION,
    labelRules: names === undefined ? {} : { classes: names },
  })
}

type ParsedRow = { path: string; box: Box | undefined; class: string } | { problem: Problem }

/** One line; the first check that fails counts. */
export function parseRow(row: TableRow, classes: ReadonlyMap<string, number> | undefined, where: string): ParsedRow {
  const { cells } = row
  const fail = (rule: string, message: string, fix = 'correct the line'): ParsedRow => ({
    problem: { rule, level: 'error', message, where, fix, details: { line: row.line } },
  })
  if (cells.length < 6)
    return fail(
      'csv/columns',
      `line must have 6 columns, has ${cells.length}`,
      'write path,x1,y1,x2,y2,class or path,,,,,',
    )
  const [path = '', ...rest] = cells.slice(0, 6)
  const empty = rest.filter((cell) => cell === '').length
  if (empty === 5 && path !== '') return { path, box: undefined, class: '' }
  const names = ['x1', 'y1', 'x2', 'y2', 'class']
  if (isHeader(cells)) return fail('csv/header', 'line is a header, which this format does not have', 'remove the line')
  if (empty > 0 || path === '') {
    const at = path === '' ? 'path' : names[rest.indexOf('')]
    return fail('csv/empty', `cell ${at} is empty: cells 2 to 6 must all be empty or none`)
  }
  const numbers = rest
    .slice(0, 4)
    .map((cell) => (/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(cell) ? Number(cell) : Number.NaN))
  const bad = numbers.findIndex((value) => !Number.isFinite(value))
  if (bad >= 0) return fail('csv/number', `cell ${names[bad]} must be a number, is "${rest[bad]}"`)
  const [x1, y1, x2, y2] = numbers as Box
  if (!(x2 > x1)) return fail('csv/width', `x2 (${x2}) must be greater than x1 (${x1})`)
  if (!(y2 > y1)) return fail('csv/height', `y2 (${y2}) must be greater than y1 (${y1})`)
  const name = rest[4]!
  if (classes !== undefined && !classes.has(name)) {
    return fail(
      'csv/class',
      `class "${name}" is unknown; known: ${[...classes.keys()].join(', ')}`,
      'correct it, or add it to the class file',
    )
  }
  return { path, box: [x1, y1, x2, y2], class: name }
}

function isHeader(cells: readonly string[]): boolean {
  return ['x1', 'xmin'].includes(cells[1]!.toLowerCase()) && ['x2', 'xmax'].includes(cells[3]!.toLowerCase())
}

/** Names and ids of a class file: integers 0..n-1 without gaps, no name twice. Faults become problems. */
export function readClasses(rows: readonly TableRow[], file: string, problems: Problem[]): Map<string, number> {
  const classes = new Map<string, number>()
  const ids = new Map<number, number>()
  for (const { cells, line } of rows) {
    const fail = (message: string) =>
      problems.push({
        rule: 'csv/classes',
        level: 'error',
        message,
        where: `${file}:${line}`,
        fix: 'write name,id with ids 0, 1, 2, ...',
      })
    const [name = '', id = ''] = cells
    if (cells.length !== 2 || name === '') fail(`line must have 2 columns, has ${cells.length}`)
    else if (!/^\d+$/.test(id)) fail(`id of class "${name}" must be an integer from 0, is "${id}"`)
    else if (classes.has(name)) fail(`class "${name}" occurs twice`)
    else if (ids.has(Number(id))) fail(`id ${id} also in line ${ids.get(Number(id))}`)
    else {
      classes.set(name, Number(id))
      ids.set(Number(id), line)
    }
  }
  for (let id = 0; id < ids.size; id++) {
    if (ids.has(id)) continue
    problems.push({
      rule: 'csv/classes',
      level: 'error',
      message: `id ${id} is missing: ids must be 0..${ids.size - 1}`,
      where: file,
      fix: 'close the gap',
    })
    break
  }
  return classes
}

/** Texts of both files for records; paths are the records' own. */
export function kerasCsvTexts(records: readonly ImageRecord[]): { annotations: string; classes: string } {
  const names = [...new Set(records.flatMap((record) => record.lesions.map((lesion) => lesion.class)))].sort()
  const rows = records.flatMap<(string | number)[]>(({ path, lesions }) =>
    lesions.length === 0 ? [[path, '', '', '', '', '']] : lesions.map((lesion) => [path, ...lesion.box, lesion.class]),
  )
  // Some readers trim cells and end a row at a carriage return.
  const options = { quoted_match: /\r|^\s|\s$/ }
  return {
    annotations: stringify(rows, options),
    classes: stringify(
      [...names.entries()].map(([id, name]) => [name, id]),
      options,
    ),
  }
}

async function choose(root: string, name: string): Promise<string | undefined> {
  for (const candidate of [name, join(root, name)]) if (await isFile(candidate)) return candidate
  return undefined
}
