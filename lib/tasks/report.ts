// `report`: the HTML page of a run from its folder. Gathers numbers and pictures; lib/report draws them.
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { parse } from 'yaml'
import { writeFileAtomic } from '../atomic-write.js'
import { phasesOf } from '../config/phases.js'
import type { Config } from '../config/schema.js'
import { pngToJpeg } from '../data/raster.js'
import type { Picture } from '../report/page.js'
import { runReportHtml } from '../report/run-report.js'
import { parseResults } from '../train/results.js'
import { findRunFolder, readRunRecord } from '../train/run-folder.js'

export interface ReportOptions {
  /** Default: report.html in the run folder. */
  out?: string
  title?: string
  notice?: string
  /** Folder of PNG pictures to show, such as the output of `predict`. */
  pictures?: string
  /** Pictures shown at most. */
  gallery?: number
  /** Extra rows of the summary. */
  facts?: [string, string][]
  commands?: string[]
}

interface StoredMetrics {
  rows: { name: string; value: number | null; interval: [number, number] | null }[]
}

/** Writes the page and resolves to its path. */
export async function writeReport(run: string, options: ReportOptions = {}): Promise<string> {
  const folder = await findRunFolder(run)
  const record = await readRunRecord(folder)
  const config = parse(await readFile(join(folder, 'config.resolved.yaml'), 'utf8')) as Config
  const history = parseResults(await readFile(join(folder, 'results.csv'), 'utf8').catch(() => ''))
  const rows = await metricRows(folder)
  const phases = phasesOf(config)
  const borders = phases.map((phase, i) => ({
    epoch: phases.slice(0, i).reduce((sum, { epochs }) => sum + epochs, 0),
    label: phase.name,
  }))
  const html = await runReportHtml({
    title: options.title ?? `Run ${record.name}`,
    notice:
      options.notice ??
      'Research software, not a medical device. Numbers are of this run on its own data; see the remarks beside them.',
    facts: [
      ['status', record.status],
      [
        'model',
        `RetinaNet, ${config.model.backbone}, P${config.model.levels.join(', P')}, semantics ${config.model.semantics}`,
      ],
      ['epochs', String(history.length)],
      ['wall time', `${Math.round(record.wallSeconds ?? 0)} s`],
      ...(options.facts ?? []),
    ],
    history,
    phaseBorders: borders.slice(1),
    metrics: rows.map(({ name, value, interval }) => [
      name,
      value === null ? 'undefined' : value.toFixed(4),
      interval ? `95 % interval ${interval[0].toFixed(3)} to ${interval[1].toFixed(3)} (patients resampled)` : '',
    ]),
    froc: frocOf(rows),
    pictures: options.pictures === undefined ? [] : await readPictures(options.pictures, options.gallery ?? 16),
    environment: flatten(record.host as Record<string, unknown>),
    commands: options.commands ?? [`mammo-retinanet train --config ${basename(folder)}/config.resolved.yaml`],
  })
  const out = options.out ?? join(folder, 'report.html')
  await writeFileAtomic(out, html)
  return out
}

/** Rows of the run's last evaluation; none before one. */
async function metricRows(folder: string): Promise<StoredMetrics['rows']> {
  const path = join(folder, 'eval', 'metrics.json')
  return existsSync(path) ? (JSON.parse(await readFile(path, 'utf8')) as StoredMetrics).rows : []
}

/** The sensitivities among the rows as a curve; null when there are none. */
function frocOf(rows: StoredMetrics['rows']): { fppi: number[]; sensitivity: number[] } | null {
  const points = rows.flatMap(({ name, value }) =>
    name.startsWith('sens@') && value !== null ? [[Number(name.slice(5)), value] as const] : [],
  )
  return points.length === 0 ? null : { fppi: points.map(([f]) => f), sensitivity: points.map(([, s]) => s) }
}

/** PNG files of a folder as JPEG: a page with many pictures stays small. */
async function readPictures(folder: string, limit: number): Promise<Picture[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.png')).sort()
  return Promise.all(
    files.slice(0, limit).map(async (file) => ({
      bytes: await pngToJpeg(await readFile(join(folder, file))),
      type: 'image/jpeg' as const,
      caption: basename(file, '.png'),
      alt: `Mammogram ${basename(file, '.png')} with ground truth and predictions`,
    })),
  )
}

function flatten(host: Record<string, unknown>): [string, string][] {
  return Object.entries(host).map(([key, value]) => [
    key,
    typeof value === 'object' ? JSON.stringify(value) : String(value),
  ])
}
