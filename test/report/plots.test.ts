// Plots: the data handed to the library, and the drawn SVG.
import t from 'tap'
import { histogramSpec, histogramSvg, linePlotSpec, linePlotSvg } from '../../lib/report/plots.js'

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

t.test('a histogram has one bar per bin, axes and a name for screen readers', async (t) => {
  const histogram = { title: 'Lesion sizes', xTitle: 'size in mm', yTitle: 'lesions', binWidth: 5, counts: [2, 0, 7] }
  const { data } = histogramSpec(histogram) as unknown as { data: { values: unknown } }
  t.strictSame(data.values, [
    { from: 0, to: 5, count: 2 },
    { from: 5, to: 10, count: 0 },
    { from: 10, to: 15, count: 7 },
  ])
  const svg = await histogramSvg(histogram)
  t.match(svg, /^<svg role="img" aria-label="Lesion sizes: 9 in all, most from 10 to 15 \(size in mm\)"/)
  for (const text of ['>size in mm<', '>lesions<', '>15<']) t.ok(svg.includes(text), text)
  t.equal(svg.match(/aria-roledescription="bar"/g)?.length, 3)
})
