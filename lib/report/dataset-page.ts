// The page of a dataset: what is in it, how large its lesions are, which anchors reach them, what is wrong, what it needs. Is handed
// numbers and texts; reads no files and judges nothing.
import { columns, figure, type Html, page, paragraph, type Section, table } from './page.js'
import { histogramSvg } from './plots.js'

/** Texts of one finding. */
export interface Finding {
  rule: string
  message: string
  where: string
  fix: string
}

export interface DatasetPage {
  title: string
  /** What a reader must know first: how many rules fired, or that none did. */
  notice: string
  facts: [string, string][]
  /** Title and counts by name: view, side, density, BI-RADS, ... */
  counts: { title: string; entries: [string, number][] }[]
  /** Rows of measure, minimum, 5 %, median, 95 %, maximum. */
  sizes: (string | number)[][]
  histogram: { unit: string; width: number; counts: number[] } | null
  /** Remark on the configuration, and rows of size class, lesions, with a positive anchor, recall, mean and least best IoU. */
  coverage: { about: string; sizes: (string | number)[][]; levels: (string | number)[][]; missed: string[] } | null
  rules: (Finding & { level: string; count: number })[]
  boxes: Finding[]
  /** Null: pixels are not known yet. */
  duplicates: string[][] | null
  /** What was odd in the headers of DICOM files, one entry per file; null where there is none to look at (prepared folder, raster files). */
  dicom: Finding[] | null
  leaks: { rule: string; level: string; key: string; parts: string[]; ids: string[] }[]
  /** False: nothing to compare, as there is no split. */
  leaksChecked: boolean
  plan: [string, string][]
}

/** Rows shown of a list without end. */
const MOST = 50

/** One self-contained HTML text. */
export async function datasetPageHtml(data: DatasetPage): Promise<string> {
  const sections: Section[] = [
    { title: 'Summary', body: [table('The dataset', ['what', 'images or patients'], data.facts)] },
    {
      title: 'Counts',
      body: [
        columns(
          data.counts
            .filter(({ entries }) => entries.length > 0)
            .map(({ title, entries }) => table(`by ${title}`, [title, 'count'], entries)),
        ),
      ],
    },
    { title: 'Lesion sizes', body: await sizes(data) },
  ]
  if (data.coverage !== null) sections.push({ title: 'Anchors', body: coverage(data.coverage) })
  sections.push(
    { title: 'Rules', body: rules(data.rules) },
    { title: 'Suspicious boxes', body: findings(data.boxes, 'No box is empty, outside, clipped or tiny.') },
    { title: 'DICOM', body: dicom(data.dicom) },
    { title: 'Duplicates', body: duplicates(data.duplicates) },
    { title: 'Leaks', body: leaks(data) },
    { title: 'Memory and disk', body: [table('Plan', ['what', 'need'], data.plan)] },
  )
  return page(data.title, data.notice, sections)
}

async function sizes({ sizes, histogram }: DatasetPage): Promise<Html[]> {
  if (sizes.length === 0) return [paragraph('There is no lesion of the trained classes.')]
  const body = [table('Lesions', ['measure', 'minimum', '5 %', 'median', '95 %', 'maximum'], sizes)]
  if (histogram !== null) {
    const { unit, width, counts } = histogram
    const svg = await histogramSvg({
      title: 'Lesion sizes',
      xTitle: `square root of the box area in ${unit === 'px' ? 'source pixels' : unit}`,
      yTitle: 'lesions',
      binWidth: width,
      counts,
    })
    body.push(figure(svg, `Bins of ${width} ${unit}.`))
  }
  return body
}

function coverage({ about, sizes, levels, missed }: NonNullable<DatasetPage['coverage']>): Html[] {
  const head = ['side in network pixels', 'lesions', 'with an anchor', 'recall', 'mean best IoU', 'least best IoU']
  const body = [
    paragraph(about),
    table('Coverage by size', head, sizes),
    table('Levels', ['level', 'anchors per image', 'share', 'positive anchors', 'lesions only here'], levels),
  ]
  if (missed.length > 0)
    body.push(
      table(
        'Lesions that no anchor reaches',
        ['lesion'],
        few(missed, (text) => [text]),
      ),
    )
  return body
}

function rules(all: DatasetPage['rules']): Html[] {
  if (all.length === 0) return [paragraph('No rule fired.')]
  const head = ['level', 'rule', 'count', 'first example', 'where', 'what to do']
  return [
    table(
      'Rules that fired',
      head,
      all.map((r) => [r.level, r.rule, r.count, r.message, r.where, r.fix]),
    ),
  ]
}

function dicom(all: DatasetPage['dicom']): Html[] {
  if (all === null)
    return [paragraph('No DICOM file was read: headers are looked at in the dataset as it was downloaded.')]
  return findings(all, 'No header contradicts itself, its image or its annotation.', 'Headers')
}

function findings(all: readonly Finding[], none: string, title = 'Boxes'): Html[] {
  if (all.length === 0) return [paragraph(none)]
  const head = ['rule', 'finding', 'where', 'what to do']
  return [
    table(
      title,
      head,
      few(all, ({ rule, message, where, fix }) => [rule, message, where, fix]),
    ),
  ]
}

function duplicates(groups: readonly string[][] | null): Html[] {
  if (groups === null)
    return [paragraph('Pixels are compared once the dataset is prepared: check the prepared folder.')]
  if (groups.length === 0) return [paragraph('No two prepared images have equal pixels.')]
  return [
    table(
      'Images with equal pixels',
      ['images'],
      few(groups, (ids) => [ids.join(', ')]),
    ),
  ]
}

function leaks({ leaks, leaksChecked }: DatasetPage): Html[] {
  if (!leaksChecked) return [paragraph('There is no split yet, so nothing can leak from one part into another.')]
  if (leaks.length === 0)
    return [paragraph('No patient, DICOM object, pixel content or similar picture is in two parts.')]
  const head = ['level', 'rule', 'shared', 'parts', 'images']
  return [
    table(
      'Shared between parts',
      head,
      few(leaks, (leak) => [leak.level, leak.rule, leak.key, leak.parts.join(', '), leak.ids.join(', ')]),
    ),
  ]
}

/** The first rows, and how many were left out. */
function few<T>(items: readonly T[], row: (item: T) => string[]): string[][] {
  const rows = items.slice(0, MOST).map(row)
  if (items.length > MOST) rows.push([`and ${items.length - MOST} more`])
  return rows
}
