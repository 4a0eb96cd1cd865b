// The page of a prediction run: how many images, what was found, what was rejected and why, with small pictures of the highest scores.
// Is handed numbers, names and pictures; names are those of the result files.
import { figure, gallery, html, type Picture, page, paragraph, type Section, table } from './page.js'
import { histogramSvg } from './plots.js'

export interface PredictedImage {
  name: string
  rows: number
  columns: number
  /** Descending. */
  scores: number[]
  milliseconds: number
  warnings: string[]
}

export interface PredictionsPage {
  model: { name: string; version: string; sha256: string }
  threshold: number
  /** Settings that differ from the model's own, in words. */
  settings: [string, string][]
  images: PredictedImage[]
  rejected: { name: string; code: string; message: string }[]
  /** Of the images with the highest scores. */
  pictures: Picture[]
  /** Names of other result files, relative to the page. */
  files: string[]
}

/** Rows of the table of images; the rest is in the other result files. */
const MOST = 500
const BINS = 20

export async function predictionsPageHtml(data: PredictionsPage): Promise<string> {
  const { images, rejected, model } = data
  const scores = images.flatMap((image) => image.scores)
  const seconds = images.map(({ milliseconds }) => milliseconds / 1000).sort((a, b) => a - b)
  const found = images.filter((image) => image.scores.length > 0).length
  const sections: Section[] = [
    {
      title: 'Summary',
      body: [
        table(
          'This run',
          ['measure', 'value'],
          [
            ['images', images.length],
            ['with detections', found],
            ['detections', scores.length],
            ['rejected', rejected.length],
            ['threshold', data.threshold],
            ['median seconds per image', seconds.length === 0 ? '' : seconds[seconds.length >> 1]!.toFixed(2)],
            ['model', `${model.name} ${model.version}`],
            ['model sha256', model.sha256],
            ...data.settings,
          ],
        ),
        ...(scores.length === 0 ? [] : [figure(await scoreHistogram(scores), 'Detections by score')]),
      ],
    },
  ]
  if (data.pictures.length > 0) sections.push({ title: 'Highest scores', body: [gallery(data.pictures)] })
  if (rejected.length > 0) {
    const rows = rejected.slice(0, MOST).map(({ name, code, message }) => [name, code, message])
    sections.push({ title: 'Rejected', body: [table('Images without a result', ['image', 'code', 'reason'], rows)] })
  }
  const byScore = [...images].sort((a, b) => (b.scores[0] ?? 0) - (a.scores[0] ?? 0) || (a.name < b.name ? -1 : 1))
  const rows = byScore
    .slice(0, MOST)
    .map((image) => [
      image.name,
      `${image.columns} x ${image.rows}`,
      image.scores.length,
      image.scores[0]?.toFixed(3) ?? '',
      Math.round(image.milliseconds),
      image.warnings.join(', '),
    ])
  const head = ['image', 'pixels', 'detections', 'top score', 'ms', 'warnings']
  const body = [table('By highest score', head, rows)]
  if (images.length > MOST) body.push(paragraph(`${images.length - MOST} more images are in the other result files.`))
  sections.push({ title: 'Images', body })
  if (data.files.length > 0) {
    const items = data.files.map((file) => html`<li><a href="${encodeURI(file)}">${file}</a></li>`)
    sections.push({ title: 'Files', body: [html`<ul>${items}</ul>`] })
  }
  const notice =
    'Research use only, not for diagnosis. A detection resembles the training masses; where none is shown, nothing is excluded.'
  return page('Predictions', notice, sections)
}

function scoreHistogram(scores: readonly number[]): Promise<string> {
  const counts = new Array<number>(BINS).fill(0)
  for (const score of scores) counts[Math.min(BINS - 1, Math.floor(score * BINS))]!++
  const titles = { title: 'Detections by score', xTitle: 'score', yTitle: 'detections' }
  return histogramSvg({ ...titles, binWidth: 1 / BINS, counts })
}
