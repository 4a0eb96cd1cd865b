// Line plots for histories and curves, drawn as SVG by Vega-Lite on Vega (no canvas, no browser). Colours are from Okabe and
// Ito's palette, safe for colour-blind readers; series differ in dash pattern too, so that colour never stands alone.
import { parse, View } from 'vega'
import { compile, type TopLevelSpec } from 'vega-lite'

export interface Series {
  name: string
  x: number[]
  /** NaN leaves a gap. */
  y: number[]
}

export interface LinePlot {
  title: string
  xTitle: string
  yTitle: string
  series: Series[]
  /** Vertical rules with a label, such as phase borders or the best epoch. */
  marks?: { x: number; label: string }[]
  yDomain?: [number, number]
  xLog?: boolean
  width?: number
  height?: number
}

const palette = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#000000']
const dashes = [
  [1, 0],
  [6, 3],
  [2, 2],
  [8, 2, 2, 2],
  [4, 1],
  [1, 3],
  [10, 4],
]

/** The Vega-Lite description of a plot: data and encodings, without drawing. */
export function linePlotSpec(plot: LinePlot): TopLevelSpec {
  const names = plot.series.map((s) => s.name)
  const values = plot.series.flatMap((s) =>
    s.x.map((x, i) => ({ series: s.name, x, y: s.y[i] })).filter((p) => Number.isFinite(p.y)),
  )
  const color = {
    field: 'series',
    type: 'nominal',
    scale: { domain: names, range: palette.slice(0, names.length) },
    title: null,
  }
  const encoding = {
    x: {
      field: 'x',
      type: 'quantitative',
      title: plot.xTitle,
      scale: plot.xLog ? { type: 'log' } : { zero: false, nice: false },
    },
    y: {
      field: 'y',
      type: 'quantitative',
      title: plot.yTitle,
      scale: plot.yDomain ? { domain: plot.yDomain } : { zero: false },
    },
    color,
    strokeDash: {
      field: 'series',
      type: 'nominal',
      scale: { domain: names, range: dashes.slice(0, names.length) },
      title: null,
    },
  }
  const marks = plot.marks ?? []
  const layer: unknown[] = [{ data: { values }, mark: { type: 'line', point: { size: 18 }, strokeWidth: 2 }, encoding }]
  if (marks.length > 0) {
    const x = { field: 'x', type: 'quantitative' }
    layer.push(
      { data: { values: marks }, mark: { type: 'rule', strokeDash: [3, 3], color: '#666' }, encoding: { x } },
      {
        data: { values: marks },
        mark: { type: 'text', align: 'left', dx: 4, y: 8, fontSize: 11, color: '#444' },
        encoding: { x, text: { field: 'label' } },
      },
    )
  }
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title: { text: plot.title, anchor: 'start', fontSize: 14 },
    width: plot.width ?? 560,
    height: plot.height ?? 260,
    background: 'white',
    config: { font: 'system-ui, sans-serif', legend: { orient: 'bottom' }, axis: { gridColor: '#e5e5e5' } },
    layer,
  } as unknown as TopLevelSpec
}

/** Draws a plot as a standalone SVG text with a title for screen readers. */
export async function linePlotSvg(plot: LinePlot): Promise<string> {
  const view = new View(parse(compile(linePlotSpec(plot)).spec), { renderer: 'none' })
  const svg = await view.toSVG()
  view.finalize()
  const label = `${plot.title}: ${plot.series.map((s) => s.name).join(', ')} over ${plot.xTitle}`
  return svg.replace('<svg ', `<svg role="img" aria-label="${label.replace(/[<>&"]/g, '')}" `)
}
