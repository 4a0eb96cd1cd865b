// `report`: the HTML page of a run from its folder. Gathers numbers and pictures; lib/report draws them.
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { parse } from 'yaml'
import { writeFileAtomic } from '../atomic-write.js'
import { phasesOf } from '../config/phases.js'
import type { Config } from '../config/schema.js'
import { openRecords } from '../data/prepared.js'
import { pngToJpeg } from '../data/raster.js'
import { frocEvents } from '../evaluate/froc.js'
import type { Picture } from '../report/page.js'
import { runReportHtml } from '../report/run-report.js'
import { readPredictions } from '../train/predictions.js'
import { parseResults } from '../train/results.js'
import { findRunFolder, readRunRecord } from '../train/run-folder.js'
import { evaluationRules, imageTruth } from '../train/validate.js'
import { viewDataset } from './view.js'

export interface ReportOptions {
  /** Default: report.html in the run folder. */
  out?: string
  title?: string
  notice?: string
  /** Folder of PNG pictures to show, such as the output of `predict`. */
  pictures?: string
  /** Pictures shown at most. Without `pictures`, that many of the run's own images are drawn: misses and highest false alarms first. */
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
    pictures: await picturesOf(folder, config, options),
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

async function picturesOf(folder: string, config: Config, options: ReportOptions): Promise<Picture[]> {
  if (options.pictures !== undefined) return readPictures(options.pictures, options.gallery ?? 16)
  const predictions = join(folder, 'eval', 'predictions.coco.json')
  if (options.gallery === undefined || options.gallery === 0 || config.data.root === null) return []
  if (!existsSync(predictions) || !existsSync(config.data.root)) return []
  const ids = await worstImages(predictions, config, options.gallery)
  const out = await mkdtemp(join(tmpdir(), 'mammo-gallery-'))
  try {
    await viewDataset(config.data.root, { out, config, ids, predictions, maxSide: 1200 })
    return await readPictures(out, ids.length)
  } finally {
    await rm(out, { recursive: true })
  }
}

/** Images with missed lesions, alternating with those of the highest false alarms, then the rest. */
async function worstImages(predictions: string, config: Config, count: number): Promise<string[]> {
  const { detections } = await readPredictions(predictions, config.data.classes)
  const { records } = await openRecords(config.data.root!)
  const truth = records.filter(({ id }) => detections.has(id)).map((record) => imageTruth(record, config.data.classes))
  const { criteria, credit } = evaluationRules(config)
  const scoreThreshold = config.predict.scoreThreshold
  const events = frocEvents(truth, detections, { criterion: criteria[0]!, credit, scoreThreshold })
  const missed = [...events.lesionImage].filter((_, i) => events.lesionScore[i] === Number.NEGATIVE_INFINITY)
  const alternating = Array.from({ length: truth.length + events.falseImage.length }, (_, i) => [
    missed[i],
    events.falseImage[i],
  ])
  const order = new Set([...alternating.flat(), ...truth.keys()].filter((image) => image !== undefined))
  return [...order].slice(0, count).map((image) => truth[image]!.id)
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
