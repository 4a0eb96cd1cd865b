// The report of one run: history plots, metrics, pictures, environment, commands. Is handed numbers and pictures; reads no files.
import { commands, figure, gallery, type Html, type Picture, page, paragraph, type Section, table } from './page.js'
import { type LinePlot, linePlotSvg } from './plots.js'

export interface RunReport {
  title: string
  /** What a reader must know first, such as "over-fitted on purpose". */
  notice: string
  facts: [string, string][]
  /** Rows of results.csv. */
  history: Record<string, number>[]
  /** Epochs after which a phase ends, with the name of the next. */
  phaseBorders: { epoch: number; label: string }[]
  /** Name, value, interval or remark. */
  metrics: [string, string, string][]
  /** Sensitivity against false positives per image. */
  froc: { fppi: number[]; sensitivity: number[] } | null
  pictures: Picture[]
  environment: [string, string][]
  commands: string[]
}

/** One self-contained HTML text. */
export async function runReportHtml(report: RunReport): Promise<string> {
  const sections: Section[] = [
    {
      title: 'Summary',
      body: [table('The run', ['', ''], report.facts), table('Results', ['metric', 'value', 'remark'], report.metrics)],
    },
    { title: 'History', body: await historyPlots(report) },
  ]
  if (report.froc !== null) {
    const plot: LinePlot = {
      title: 'FROC',
      xTitle: 'false positives per image',
      yTitle: 'sensitivity',
      yDomain: [0, 1],
      series: [{ name: 'sensitivity', x: report.froc.fppi, y: report.froc.sensitivity }],
    }
    sections.push({
      title: 'FROC',
      body: [figure(await linePlotSvg(plot), 'Share of lesions found against false positives per image.')],
    })
  }
  if (report.pictures.length > 0) {
    const text = 'Red, solid: ground truth. Blue, dashed: predictions with their scores.'
    sections.push({ title: 'Pictures', body: [paragraph(text), gallery(report.pictures)] })
  }
  sections.push({ title: 'Environment', body: [table('Machine and software', ['', ''], report.environment)] })
  sections.push({ title: 'Repeat it', body: [commands(report.commands)] })
  return page(report.title, report.notice, sections)
}

async function historyPlots({ history, phaseBorders }: RunReport): Promise<Html[]> {
  if (history.length === 0) return [paragraph('No epoch has ended yet.')]
  const epochs = history.map((row) => row['epoch']!)
  const series = (name: string, column: string) => ({
    name,
    x: epochs,
    y: history.map((row) => row[column] ?? Number.NaN),
  })
  const known = (list: ReturnType<typeof series>[]) => list.filter((s) => s.y.some(Number.isFinite))
  const marks = phaseBorders.map(({ epoch, label }) => ({ x: epoch + 0.5, label }))
  const ap = history.map((row) => row['val/AP50'] ?? Number.NaN)
  const best = ap.reduce((b, value, i) => (Number.isFinite(value) && !(value <= (ap[b] ?? -1)) ? i : b), -1)
  const plots: [LinePlot, string][] = [
    [
      {
        title: 'Loss',
        xTitle: 'epoch',
        yTitle: 'loss',
        marks,
        series: known([
          series('total', 'train/loss'),
          series('classification', 'train/loss_cls'),
          series('box', 'train/loss_box'),
          series('validation', 'val/loss'),
        ]),
      },
      'Mean training loss of each epoch and its parts.',
    ],
    [
      {
        title: 'Average precision',
        xTitle: 'epoch',
        yTitle: 'AP',
        yDomain: [0, 1],
        marks: best < 0 ? marks : [...marks, { x: epochs[best]!, label: `best ${ap[best]!.toFixed(3)}` }],
        series: known([series('AP at IoU 0.5', 'val/AP50'), series('COCO AP', 'val/AP')]),
      },
      'AP after each evaluated epoch.',
    ],
    [
      {
        title: 'Learning rate',
        xTitle: 'epoch',
        yTitle: 'rate',
        marks,
        height: 140,
        series: known([series('learning rate', 'lr')]),
      },
      'Learning rate at the end of each epoch.',
    ],
  ]
  const drawn = plots.filter(([plot]) => plot.series.length > 0)
  return Promise.all(drawn.map(async ([plot, caption]) => figure(await linePlotSvg(plot), caption)))
}
