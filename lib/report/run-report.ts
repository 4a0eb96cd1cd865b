// The report of one run: warnings, configuration, data, history, the evaluation with intervals, pictures, anchors, time and memory, environment, commands.
// Is handed numbers, texts and pictures; reads no files.
import { evaluationSections, type ShownEvaluation } from './evaluation-sections.js'
import {
  commands,
  figure,
  gallery,
  type Html,
  html,
  type Picture,
  page,
  paragraph,
  type Section,
  table,
} from './page.js'
import { type LinePlot, linePlotSvg } from './plots.js'

/** A table as texts. */
export interface TextTable {
  caption: string
  head: string[]
  rows: (string | number)[][]
}

export interface RunReport {
  title: string
  /** What a reader must know first, such as "over-fitted on purpose". */
  notice: string
  warnings: string[]
  facts: [string, string][]
  /** Rows of results.csv. */
  history: Record<string, number>[]
  /** Epochs after which a phase ends, with the name of the next. */
  phaseBorders: { epoch: number; label: string }[]
  /** Name, value, interval or remark. */
  metrics: [string, string, string][]
  /** Null: there are no stored detections that could be scored. */
  evaluation: ShownEvaluation | null
  /** What the configuration changes, and against what. */
  differences: TextTable
  /** Images, patients and lesions of the parts; a sentence about patients in two parts. */
  data: { table: TextTable | null; remark: string }
  pictures: Picture[]
  /** Which predictions the pictures show. */
  shown: string
  /** Pictures left out to keep the page small. */
  omitted: string | null
  anchors: { about: string; sizes: TextTable; levels: TextTable } | null
  time: [string, string][]
  environment: [string, string][]
  commands: string[]
}

/** One self-contained HTML text. */
export async function runReportHtml(report: RunReport): Promise<string> {
  const draw = ({ caption, head, rows }: TextTable): Html => table(caption, head, rows)
  const { warnings, metrics, evaluation, differences, data, pictures, omitted, anchors } = report
  const sections: Section[] = [
    {
      title: 'Summary',
      body: [
        ...(warnings.length === 0 ? [] : [html`<ul>${warnings.map((text) => html`<li>Warning: ${text}</li>`)}</ul>`]),
        table('The run', ['what', 'value'], report.facts),
        ...(metrics.length === 0 ? [] : [table('Results', ['metric', 'value', 'remark'], metrics)]),
      ],
    },
    {
      title: 'Configuration',
      body: differences.rows.length === 0 ? [paragraph(`${differences.caption}: none.`)] : [draw(differences)],
    },
    { title: 'Data', body: [...(data.table === null ? [] : [draw(data.table)]), paragraph(data.remark)] },
    { title: 'History', body: await historyPlots(report) },
  ]
  if (evaluation !== null) sections.push(...(await evaluationSections(evaluation)))
  if (pictures.length > 0) {
    const text =
      'Red, solid: ground truth. Blue, dashed: predictions with their scores. MISS: a lesion that no shown prediction hits. FP: a prediction that hits no lesion. A picture that is followed shows at its own size.'
    const rest = omitted === null ? [] : [paragraph(omitted)]
    sections.push({ title: 'Pictures', body: [paragraph(text), paragraph(report.shown), gallery(pictures), ...rest] })
  }
  if (anchors !== null) {
    sections.push({ title: 'Anchors', body: [paragraph(anchors.about), draw(anchors.sizes), draw(anchors.levels)] })
  }
  sections.push(
    { title: 'Time and memory', body: [table('Time and memory', ['what', 'value'], report.time)] },
    { title: 'Environment', body: [table('Machine and software', ['what', 'value'], report.environment)] },
    { title: 'Repeat it', body: [commands(report.commands)] },
  )
  return page(report.title, report.notice, sections)
}

async function historyPlots(report: RunReport): Promise<Html[]> {
  if (report.history.length === 0) return [paragraph('No epoch has ended yet.')]
  const drawn = historyLinePlots(report)
  return Promise.all(drawn.map(async ([plot, caption]) => figure(await linePlotSvg(plot), caption)))
}

/** The history as plots with captions, those without numbers left out: loss, average precision, sensitivity, learning rate. */
export function historyLinePlots({
  history,
  phaseBorders,
}: Pick<RunReport, 'history' | 'phaseBorders'>): [LinePlot, string][] {
  const epochs = history.map((row) => row['epoch']!)
  const series = (name: string, column: string) => ({
    name,
    x: epochs,
    y: history.map((row) => row[column] ?? Number.NaN),
  })
  const known = (list: ReturnType<typeof series>[]) => list.filter((s) => s.y.some(Number.isFinite))
  const borders = phaseBorders.map(({ epoch, label }) => ({ x: epoch + 0.5, label }))
  const ap = history.map((row) => row['val/AP50'] ?? Number.NaN)
  const best = ap.reduce((b, value, i) => (Number.isFinite(value) && !(value <= (ap[b] ?? -1)) ? i : b), -1)
  const marks = best < 0 ? borders : [...borders, { x: epochs[best]!, label: `best ${ap[best]!.toFixed(3)}` }]
  const sensitivities = Object.keys(history[0]!).filter((name) => name.startsWith('val/sens@'))
  const spread = sensitivities.filter((_, i) => i % 2 === 1)
  const plots: [LinePlot, string][] = [
    [
      {
        title: 'Loss',
        xTitle: 'epoch',
        xStep: 1,
        yTitle: 'loss',
        marks,
        series: known([
          series('total', 'train/loss'),
          series('classification', 'train/loss_cls'),
          series('box', 'train/loss_box'),
          series('validation', 'val/loss'),
        ]),
      },
      'Mean training loss of each epoch and its parts. Dotted lines: the epoch of the best AP50, and where a phase begins.',
    ],
    [
      {
        title: 'Average precision',
        xTitle: 'epoch',
        xStep: 1,
        yTitle: 'AP',
        yDomain: [0, 1],
        marks,
        series: known([series('AP at IoU 0.5', 'val/AP50'), series('COCO AP', 'val/AP')]),
      },
      'AP after each evaluated epoch. The best epoch alone is optimistic: it was chosen on the images that it is scored on.',
    ],
    [
      {
        title: 'Sensitivity',
        xTitle: 'epoch',
        xStep: 1,
        yTitle: 'share of lesions found',
        yDomain: [0, 1],
        marks,
        series: known(spread.map((column) => series(`at ${column.slice(9)} FP per image`, column))),
      },
      'Sensitivity after each evaluated epoch.',
    ],
    [
      {
        title: 'Learning rate',
        xTitle: 'epoch',
        xStep: 1,
        yTitle: 'rate',
        marks: borders,
        height: 140,
        series: known([series('learning rate', 'lr')]),
      },
      'Learning rate at the end of each epoch.',
    ],
  ]
  return plots.filter(([plot]) => plot.series.length > 0)
}
