// Histories of many runs on one plot: thin lines for the runs of a group, one thick line for their mean. Groups differ in colour and in
// dash pattern, so that colour never stands alone.
import type { TopLevelSpec } from 'vega-lite'
import { dashes, draw, palette } from './plots.js'

export interface OverlayGroup {
  name: string
  runs: readonly { name: string; x: number[]; y: number[] }[]
  mean: { x: number[]; y: number[] }
}

export interface OverlayPlot {
  title: string
  xTitle: string
  yTitle: string
  groups: readonly OverlayGroup[]
  yDomain?: [number, number]
}

/** The Vega-Lite description: the first layer holds the runs, the second the means. A group of one run is drawn once, thick. */
export function overlayPlotSpec({ title, xTitle, yTitle, groups, yDomain }: OverlayPlot): TopLevelSpec {
  const names = groups.map((group) => group.name)
  const points = (group: string, run: string, { x, y }: { x: number[]; y: number[] }) =>
    x.map((at, i) => ({ group, run, x: at, y: y[i] })).filter((point) => Number.isFinite(point.y))
  const thin = groups.flatMap(({ name, runs }) => (runs.length > 1 ? runs.flatMap((r) => points(name, r.name, r)) : []))
  const thick = groups.flatMap(({ name, mean }) => points(name, 'mean', mean))
  // Beyond the palette a colour comes back with another dash pattern.
  const cycle = <T>(list: readonly T[], turn: number) =>
    names.map((_, i) => list[(i + turn * Math.floor(i / palette.length)) % list.length]!)
  const scale = (range: readonly unknown[]) => ({ domain: names, range })
  const legend = {
    orient: 'bottom',
    columns: 2,
    labelLimit: 420,
    symbolType: 'stroke',
    symbolStrokeWidth: 3,
    symbolSize: 900,
  }
  const encoding = {
    x: { field: 'x', type: 'quantitative', title: xTitle, scale: { zero: false, nice: false } },
    y: { field: 'y', type: 'quantitative', title: yTitle, scale: yDomain ? { domain: yDomain } : { zero: false } },
    color: { field: 'group', type: 'nominal', title: null, scale: scale(cycle(palette, 0)), legend },
    strokeDash: { field: 'group', type: 'nominal', title: null, scale: scale(cycle(dashes, 1)), legend },
  }
  const layer = [
    {
      data: { values: thin },
      mark: { type: 'line', strokeWidth: 1, opacity: 0.55 },
      encoding: { ...encoding, detail: { field: 'run' } },
    },
    { data: { values: thick }, mark: { type: 'line', strokeWidth: 3, point: { size: 24 } }, encoding },
  ]
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title: { text: title, anchor: 'start', fontSize: 14 },
    ...{ width: 640, height: 300, background: 'white' },
    config: { font: 'system-ui, sans-serif', axis: { gridColor: '#e5e5e5' } },
    layer,
  } as unknown as TopLevelSpec
}

export async function overlayPlotSvg(plot: OverlayPlot): Promise<string> {
  const names = plot.groups.map((group) => `${group.name} (${group.runs.length})`)
  return draw(overlayPlotSpec(plot), `${plot.title}: ${names.join(', ')} over ${plot.xTitle}`)
}
