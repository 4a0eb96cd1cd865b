// VinDr-Mammo: images/<study>/<image>.dicom with breast-level and finding annotations in CSV. Restricted health data: nothing of it,
// tables included, may leave the user's machine. Format and counts: datasets spec 2.4.
import { join } from 'node:path'
import { lateralityFromText, viewFromText } from '../dicom/view.js'
import type { Adapter, AdapterOptions, BiRads, Box, Dataset, Density, Problem } from '../types.js'
import { BI_RADS, DENSITIES } from '../types.js'
import { collect, type Draft, isFile, safeId } from './collect.js'
import { columnsOf, readTable } from './table.js'

const VERSION = 1
const BREASTS = 'breast-level_annotations.csv'
const FINDINGS = 'finding_annotations.csv'
const COMPLETE = { [BREASTS]: 20000, [FINDINGS]: 20486 }

/** Finding categories to classes; others are named after themselves. */
const classes: Record<string, string> = {
  mass: 'mass',
  'suspicious calcification': 'calcification',
  'architectural distortion': 'distortion',
  asymmetry: 'asymmetry',
  'focal asymmetry': 'asymmetry',
  'global asymmetry': 'asymmetry',
}

export const vindr: Adapter = {
  name: 'vindr-mammo',
  version: VERSION,
  detect: async (root) => (await isFile(join(root, BREASTS))) && (await isFile(join(root, FINDINGS))),
  read,
}

/** Reads the folder with both tables and images. Throws ERR_MAMMO_ANNOTATION when a table cannot be read. */
async function read(root: string, options: AdapterOptions = {}): Promise<Dataset> {
  const problems: Problem[] = []
  const breasts = await readTable(join(root, BREASTS), ['study id', 'image id', 'laterality', 'view position'])
  const findings = await readTable(join(root, FINDINGS), [
    'image id',
    'finding categories',
    'xmin',
    'ymin',
    'xmax',
    'ymax',
  ])
  for (const [file, table] of [
    [BREASTS, breasts],
    [FINDINGS, findings],
  ] as const) {
    const expected = COMPLETE[file]
    if (table.rows.length === expected) continue
    const message = `complete set has ${expected} rows, this one ${table.rows.length}`
    problems.push({
      rule: 'dataset/incomplete',
      level: 'warning',
      message,
      where: file,
      fix: 'nothing to do if that is intended',
    })
  }
  const drafts = new Map<string, Draft>()
  const cell = columnsOf(breasts.header)
  for (const row of breasts.rows) {
    const image = cell(row, 'image id')
    const study = cell(row, 'study id')
    const split = cell(row, 'split')
    const where = `${BREASTS}:${row.line}`
    if (image === '' || study === '' || /[/\\]|\.\./.test(image + study)) {
      problems.push({
        rule: 'vindr/row',
        level: 'error',
        message: 'row must have a study id and an image id',
        where,
        fix: 'restore the table',
      })
      continue
    }
    drafts.set(image, {
      id: image,
      path: `images/${study}/${image}.dicom`,
      patient: study,
      laterality: lateralityFromText(cell(row, 'laterality')),
      view: viewFromText(cell(row, 'view position')),
      split: split === 'training' ? 'train' : split === 'test' ? 'test' : null,
      density: densityOf(cell(row, 'breast density')),
      biRads: biRadsOf(cell(row, 'breast birads')),
      annotated: true,
      lesions: [],
      annotationFile: FINDINGS,
      where,
    })
  }
  const read = columnsOf(findings.header)
  for (const row of findings.rows) {
    const where = `${FINDINGS}:${row.line}`
    const fail = (rule: string, message: string) =>
      problems.push({ rule, level: 'error', message, where, fix: 'restore the table' })
    const image = read(row, 'image id')
    const draft = drafts.get(image)
    const categories = parseList(read(row, 'finding categories'))
    const corners = ['xmin', 'ymin', 'xmax', 'ymax'].map((name) => read(row, name))
    if (draft === undefined) fail('vindr/image', `image id ${safeId(image)} is not in ${BREASTS}`)
    else if (categories === undefined) fail('vindr/categories', "finding_categories must be a list such as ['Mass']")
    else if (!categories.includes('No Finding')) {
      const box = corners.map((text) => (text === '' ? Number.NaN : Number(text))) as Box
      if (!box.every(Number.isFinite)) {
        fail('vindr/box', 'a finding must have numbers xmin, ymin, xmax, ymax')
        continue
      }
      for (const [n, category] of categories.entries()) {
        const index = draft.lesions.length
        draft.lesions.push({
          id: `row${row.line}${categories.length > 1 ? `.${n + 1}` : ''}`,
          class: classes[category.toLowerCase()] ?? category.toLowerCase(),
          box,
          biRads: biRadsOf(read(row, 'finding birads')),
          source: { file: FINDINGS, index, name: category },
          where,
        })
      }
    }
  }
  return collect(root, [...drafts.values()], problems, options, {
    adapter: 'vindr-mammo',
    version: VERSION,
    assumeMammogram: true,
  })
}

/** Parses a quoted list literal: `['Mass', 'Skin Retraction']`. Undefined for other text. Nothing is evaluated. */
export function parseList(text: string): string[] | undefined {
  const inner = /^\[(.*)\]$/s.exec(text.trim())?.[1]
  if (inner === undefined) return undefined
  const items: string[] = []
  const item = /\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*(,|$)/gy
  while (item.lastIndex < inner.length) {
    const match = item.exec(inner)
    if (match === null) return undefined
    items.push((match[1] ?? match[2] ?? '').replace(/\\(.)/g, '$1'))
  }
  return items
}

function biRadsOf(text: string): BiRads | null {
  const value = text
    .replace(/^BI-?RADS\s+/i, '')
    .trim()
    .toLowerCase()
  return (BI_RADS as readonly string[]).includes(value) ? (value as BiRads) : null
}

function densityOf(text: string): Density | null {
  const value = text
    .replace(/^DENSITY\s+/i, '')
    .trim()
    .toUpperCase()
  return (DENSITIES as readonly string[]).includes(value) ? (value as Density) : null
}
