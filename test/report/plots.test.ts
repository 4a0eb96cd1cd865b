// Plots: the data handed to the library, and the drawn SVG.
import t from 'tap'
import { linePlotSpec, linePlotSvg } from '../../lib/report/plots.js'

const plot = {
  title: 'Loss "per" epoch',
  xTitle: 'epoch',
  yTitle: 'loss',
  series: [
    { name: 'training', x: [1, 2, 3], y: [3, Number.NaN, 1] },
    { name: 'validation', x: [1, 2], y: [4, 2] },
  ],
  marks: [{ x: 2, label: 'full size' }],
}

t.test('gaps are left out, series keep their order', async (t) => {
  const { layer } = linePlotSpec(plot) as unknown as { layer: { data: { values: { series: string; y: number }[] } }[] }
  t.strictSame(
    layer[0]!.data.values.map((v) => [v.series, v.y]),
    [
      ['training', 3],
      ['training', 1],
      ['validation', 4],
      ['validation', 2],
    ],
  )
  t.equal(layer.length, 3)
})

t.test('the SVG has series, axes, labels and a name for screen readers', async (t) => {
  const svg = await linePlotSvg(plot)
  t.match(svg, /^<svg role="img" aria-label="Loss per epoch: training, validation over epoch"/)
  for (const text of ['>epoch<', '>loss<', '>training<', '>validation<', '>full size<']) t.ok(svg.includes(text), text)
  for (const colour of ['#0072B2', '#D55E00']) t.ok(svg.includes(`stroke="${colour}"`), colour)
})
