import t from 'tap'
import { contourBox, placeLesion } from '../../lib/data/lesions.js'
import type { Box } from '../../lib/data/types.js'

const place = (box: Box) =>
  placeLesion({ id: 'a', class: 'mass', box, source: { file: 'a.xml', index: 0, name: 'Mass' } }, 100, 200, 'a.xml:3')

t.test('a box inside stays as it is', async (t) => {
  t.match(place([1.5, 2, 30, 40]), { lesion: { box: [1.5, 2, 30, 40], clipped: false, ignore: false }, problems: [] })
  t.match(place([0, 0, 100, 200]), { lesion: { clipped: false }, problems: [] }, 'the whole image')
})

t.test('40 px over the edge is clipped, with a warning that says so', async (t) => {
  const { lesion, problems } = place([60, 20, 140, 80])
  t.match(lesion, { box: [60, 20, 100, 80], clipped: true, ignore: false })
  t.match(problems, [{ rule: 'box/clipped', level: 'warning', message: /left the image by 40 px/, where: 'a.xml:3' }])
})

t.test('a clipped side of 15 px is an ignore region, of 16 px not', async (t) => {
  t.match(place([85, 20, 140, 80]).lesion, { box: [85, 20, 100, 80], ignore: true })
  t.match(place([84, 20, 140, 80]).lesion, { box: [84, 20, 100, 80], ignore: false })
})

t.test('wholly outside, empty and NaN are refused', async (t) => {
  const cases: [Box, string, RegExp][] = [
    [[100, 0, 120, 20], 'box/outside', /wholly outside/],
    [[5, 5, 5, 9], 'box/empty', /width 0/],
    [[5, 9, 8, 9], 'box/empty', /height 0/],
    [[8, 5, 5, 9], 'box/empty', /width -3/],
    [[Number.NaN, 5, 5, 9], 'box/empty', /four numbers/],
  ]
  for (const [box, rule, message] of cases) {
    const { lesion, problems } = place(box)
    t.equal(lesion, undefined)
    t.match(problems, [{ rule, level: 'error', message, fix: /--exclude/ }])
  }
})

t.test('rounding of sums at the border is no clipping', async (t) => {
  t.match(place([60, 20, 100 + 1e-12, 80]), { lesion: { box: [60, 20, 100, 80], clipped: false }, problems: [] })
})

t.test('contours round outwards', async (t) => {
  const points: [number, number][] = [
    [1.2, 5.9],
    [3.7, 2.1],
  ]
  t.same(contourBox(points), [1, 2, 4, 6])
  t.same(contourBox(points, 'none'), [1.2, 2.1, 3.7, 5.9])
})
