// The plot of intervals: every mark is drawn, and it is named for those who do not see it.
import t from 'tap'
import { intervalPlotSpec, intervalPlotSvg } from '../../lib/report/interval-plot.js'

const marks = [
  { group: 'b', repeat: 'seed 0', value: 0.3, low: 0.2, high: 0.4 },
  { group: 'a', repeat: 'seed 0', value: 0.5, low: 0.4, high: 0.6 },
]

t.test('groups keep their order; value and interval share a row', async (t) => {
  const { layer } = intervalPlotSpec({ title: 'x', xTitle: 'AP50', marks }) as unknown as { layer: unknown[] }
  t.equal(layer.length, 2)
  t.match(layer[0], { encoding: { x: { field: 'low' }, x2: { field: 'high' }, y: { sort: ['b', 'a'] } } })
  const svg = await intervalPlotSvg({ title: 'x', xTitle: 'AP50', marks, rule: { x: 0.1, label: 'start' } })
  t.match(svg, 'aria-label="x. b, seed 0: 0.300; a, seed 0: 0.500"')
  t.match(svg, '>start<')
  t.ok(svg.indexOf('>b<') < svg.indexOf('>a<'))
})

t.test('zero is in sight, and differences below it too', (t) => {
  const lowest = (low: number) =>
    intervalPlotSpec({
      title: 'x',
      xTitle: 'y',
      marks: [{ group: 'a', repeat: 'r', value: 0.1, low, high: 0.2 }],
    }) as unknown
  t.match(lowest(0.05), { layer: [{ encoding: { x: { scale: { domainMin: 0 } } } }] })
  t.match(lowest(-0.07), { layer: [{ encoding: { x: { scale: { domainMin: -0.07 } } } }] })
  t.end()
})
