// The page of a comparison: warnings, what differs, the numbers of each run, paired tests, histories on one plot. Is handed texts and
// numbers; reads no files.
import { type OverlayPlot, overlayPlotSvg } from './overlay-plot.js'
import { commands, figure, type Html, page, paragraph, type Section, table } from './page.js'

export interface ReportTable {
  caption: string
  head: string[]
  rows: (string | number)[][]
}

export interface ComparePage {
  title: string
  warnings: string[]
  differences: ReportTable
  environment: ReportTable
  metrics: ReportTable[]
  /** Paired tests; a sentence where none could be made. */
  paired: { tables: ReportTable[]; remark: string }
  plots: { plot: OverlayPlot; caption: string }[]
  commands: string[]
}

/** One self-contained HTML text. */
export async function comparePageHtml(input: ComparePage): Promise<string> {
  const draw = ({ caption, head, rows }: ReportTable): Html => table(caption, head, rows)
  const warn = input.warnings.map((warning) => paragraph(`Warning: ${warning}`))
  const plots = await Promise.all(
    input.plots.map(async ({ plot, caption }) => figure(await overlayPlotSvg(plot), caption)),
  )
  const sections: Section[] = [
    ...(warn.length > 0 ? [{ title: 'Warnings', body: warn }] : []),
    {
      title: 'Numbers',
      body: [
        paragraph(
          'The best epoch alone is optimistic: it was chosen on the images that it is scored on. Read the other columns too.',
        ),
        ...input.metrics.map(draw),
      ],
    },
    { title: 'Histories', body: plots.length > 0 ? plots : [paragraph('No run has finished an epoch.')] },
    { title: 'Paired differences', body: [paragraph(input.paired.remark), ...input.paired.tables.map(draw)] },
    {
      title: 'Configuration',
      body:
        input.differences.rows.length > 0 ? [draw(input.differences)] : [paragraph('The configurations are equal.')],
    },
    {
      title: 'Environment',
      body:
        input.environment.rows.length > 0
          ? [draw(input.environment)]
          : [paragraph('The runs were made with the same software on equal machines.')],
    },
    { title: 'Repeat it', body: [commands(input.commands)] },
  ]
  const notice =
    input.warnings[0] ??
    'Research software, not a medical device. Numbers of the validation part, for choosing, not for stating results.'
  return page(input.title, notice, sections)
}
