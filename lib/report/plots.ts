// Line plots for histories and curves, and histograms, drawn as SVG by Vega-Lite on Vega (no canvas, no browser). Colours are from Okabe and
// Ito's palette, safe for colour-blind readers; series differ in dash pattern too, so that colour never stands alone.
import { parse, View } from 'vega'
import { compile, type TopLevelSpec } from 'vega-lite'

export interface Series {
  name: string
  x: number[]
  /** NaN leaves a gap. */
  y: number[]
}

/** An interval along a curve, drawn in the colour of the series of the same name. */
export interface Band {
  name: string
  x: number[]
  low: number[]
  high: number[]
}

export interface LinePlot {
  title: string
  xTitle: string
  yTitle: string
  series: Series[]
  bands?: Band[]
  /** Between points: straight, or a step to the value of the left (after) or of the right point (before). */
  interpolate?: 'linear' | 'step-after' | 'step-before'
  /** Marks of single points; default true. */
  points?: boolean
  /** What lies outside is cut off. */
  xDomain?: [number, number]
  /** Vertical rules with a label, such as phase borders or the best epoch. */
  marks?: { x: number; label: string }[]
  yDomain?: [number, number]
  xLog?: boolean
  /** Least distance of the ticks, such as 1 for epochs. */
  xStep?: number
  width?: number
  height?: number
}

export const palette = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#000000']
export const dashes = [
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
      ...(plot.xStep === undefined ? {} : { axis: { tickMinStep: plot.xStep, format: 'd' } }),
      scale: {
        ...(plot.xLog ? { type: 'log' } : { zero: false, nice: false }),
        ...(plot.xDomain ? { domain: plot.xDomain, nice: false } : {}),
      },
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
  const clip = plot.xDomain === undefined ? {} : { clip: true }
  const interpolate = plot.interpolate ?? 'linear'
  const point = plot.points === false ? {} : { point: { size: 18 } }
  const layer: unknown[] = []
  if (plot.bands !== undefined && plot.bands.length > 0) {
    const values = plot.bands.flatMap(({ name, x, low, high }) =>
      x.map((at, i) => ({ series: name, x: at, low: low[i], high: high[i] })),
    )
    const { x, y } = encoding
    layer.push({
      data: { values },
      mark: { type: 'area', opacity: 0.2, ...clip },
      encoding: { x, y: { ...y, field: 'low' }, y2: { field: 'high' }, color },
    })
  }
  layer.push({ data: { values }, mark: { type: 'line', strokeWidth: 2, interpolate, ...point, ...clip }, encoding })
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
  return draw(linePlotSpec(plot), `${plot.title}: ${plot.series.map((s) => s.name).join(', ')} over ${plot.xTitle}`)
}

export interface HistogramPlot {
  title: string
  xTitle: string
  yTitle: string
  /** Bin i covers [i * binWidth, (i + 1) * binWidth). */
  binWidth: number
  counts: number[]
  width?: number
  height?: number
}

/** The Vega-Lite description of a histogram with ready bins. */
export function histogramSpec({ title, xTitle, yTitle, binWidth, counts, width, height }: HistogramPlot): TopLevelSpec {
  const values = counts.map((count, i) => ({ from: i * binWidth, to: (i + 1) * binWidth, count }))
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title: { text: title, anchor: 'start', fontSize: 14 },
    width: width ?? 560,
    height: height ?? 200,
    background: 'white',
    config: { font: 'system-ui, sans-serif', axis: { gridColor: '#e5e5e5' } },
    data: { values },
    mark: { type: 'bar', color: palette[0], stroke: 'white' },
    encoding: {
      x: { field: 'from', type: 'quantitative', title: xTitle, bin: { binned: true, step: binWidth } },
      x2: { field: 'to' },
      y: { field: 'count', type: 'quantitative', title: yTitle, axis: { tickMinStep: 1, format: 'd' } },
    },
  } as unknown as TopLevelSpec
}

/** Draws a histogram as a standalone SVG text; its label for screen readers says what it holds. */
export async function histogramSvg(plot: HistogramPlot): Promise<string> {
  const total = plot.counts.reduce((sum, n) => sum + n, 0)
  const most = plot.counts.indexOf(Math.max(...plot.counts))
  const range = `${most * plot.binWidth} to ${(most + 1) * plot.binWidth}`
  return draw(histogramSpec(plot), `${plot.title}: ${total} in all, most from ${range} (${plot.xTitle})`)
}

/** Draws a description as SVG with a name for screen readers. */
export async function draw(spec: TopLevelSpec, label: string): Promise<string> {
  const view = new View(parse(compile(spec).spec), { renderer: 'none' })
  const svg = await view.toSVG()
  view.finalize()
  return svg.replace('<svg ', `<svg role="img" aria-label="${label.replace(/[<>&"]/g, '')}" `)
}
