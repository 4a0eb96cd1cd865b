// Numbers with their intervals, one row per group and one mark per repeat: what a study found at a glance. Repeats differ in colour and in shape. Not
// for histories (overlay-plot.ts) or curves (plots.ts).
import type { TopLevelSpec } from 'vega-lite'
import { draw, palette } from './plots.js'

export interface IntervalPlot {
  title: string
  xTitle: string
  /** In the order of the rows. */
  marks: readonly { group: string; repeat: string; value: number; low: number; high: number }[]
  /** A vertical rule, such as where everything started. */
  rule?: { x: number; label: string }
}

const ROW = 46

/** The Vega-Lite description: rules for the intervals, points for the values. */
export function intervalPlotSpec({ title, xTitle, marks, rule }: IntervalPlot): TopLevelSpec {
  const groups = [...new Set(marks.map(({ group }) => group))]
  const repeats = [...new Set(marks.map(({ repeat }) => repeat))]
  const y = { field: 'group', type: 'nominal', title: null, sort: groups, axis: { labelLimit: 260 } }
  const yOffset = { field: 'repeat', type: 'nominal', sort: repeats }
  const range = repeats.map((_, i) => palette[i % palette.length]!)
  const color = { field: 'repeat', type: 'nominal', title: null, scale: { domain: repeats, range } }
  // Zero is always in sight, also for differences.
  const domainMin = Math.min(0, ...marks.map(({ low }) => low))
  const x = (field: string) => ({ field, type: 'quantitative', title: xTitle, scale: { domainMin, nice: true } })
  const layer: unknown[] = [
    {
      data: { values: marks },
      mark: { type: 'rule', strokeWidth: 2 },
      encoding: { x: x('low'), x2: { field: 'high' }, y, yOffset, color },
    },
    {
      data: { values: marks },
      mark: { type: 'point', filled: true, size: 70, opacity: 1 },
      encoding: { x: x('value'), y, yOffset, color, shape: { ...color, scale: { domain: repeats } } },
    },
  ]
  if (rule !== undefined)
    layer.push(
      { data: { values: [rule] }, mark: { type: 'rule', strokeDash: [4, 3], color: '#666' }, encoding: { x: x('x') } },
      {
        data: { values: [rule] },
        mark: { type: 'text', align: 'left', dx: 4, dy: -6, fontSize: 11, color: '#444' },
        encoding: { x: x('x'), y: { value: 0 }, text: { field: 'label' } },
      },
    )
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title: { text: title, anchor: 'start', fontSize: 14, offset: 18 },
    ...{ width: 480, height: ROW * groups.length, background: 'white' },
    config: { font: 'system-ui, sans-serif', legend: { orient: 'bottom' }, axis: { gridColor: '#e5e5e5' } },
    layer,
  } as unknown as TopLevelSpec
}

export async function intervalPlotSvg(plot: IntervalPlot): Promise<string> {
  const values = plot.marks.map(({ group, repeat, value }) => `${group}, ${repeat}: ${value.toFixed(3)}`)
  return draw(intervalPlotSpec(plot), `${plot.title}. ${values.join('; ')}`)
}
