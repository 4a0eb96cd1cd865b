// What the report of a sweep concludes, and that it says so.
import t from 'tap'
import { conclusion, type SweepPageTrial, sweepMarkdown } from '../../lib/report/sweep-page.js'

const estimate = (value: number, low: number, high: number) => ({ value, interval: { low, high } })
const trial = (setting: string, seed: number, difference: [number, number] | null): SweepPageTrial => ({
  ...{ setting, seed, images: 10, lesions: 12 },
  ...{ AP50: estimate(0.4, 0.3, 0.5), found: estimate(0.5, 0.4, 0.6) },
  difference: difference === null ? null : estimate((difference[0] + difference[1]) / 2, ...difference),
})
const ranking = (a: number | null, b: number | null) => [
  { setting: 'a', mean: a, seeds: 2 },
  { setting: 'b', mean: b, seeds: 2 },
]
const first = [trial('a', 0, null), trial('a', 1, null)]

t.test('nothing is concluded from settings that have learned nothing', async (t) => {
  const trials = [...first, trial('b', 0, [0.1, 0.2]), trial('b', 1, [0.1, 0.2])]
  t.match(conclusion({ ranking: ranking(0.19, 0.1), trials, missing: 0 }), /^Inconclusive: .* below AP50 0.2 \(0.190\)/)
  t.match(conclusion({ ranking: ranking(null, null), trials, missing: 2 }), /^Inconclusive: no setting.*2 trials/)
})

t.test('better and worse only when every seed says so', async (t) => {
  const of = (one: [number, number], two: [number, number]) =>
    conclusion({ ranking: ranking(0.3, 0.4), trials: [...first, trial('b', 0, one), trial('b', 1, two)], missing: 0 })
  t.match(of([0.01, 0.2], [0.02, 0.1]), /b is better than a with every seed/)
  t.match(of([-0.2, -0.01], [-0.2, -0.01]), /b is worse than a with every seed/)
  t.match(of([0.01, 0.2], [-0.02, 0.1]), /b cannot be told from a/)
  const apart = { ranking: ranking(0.3, 0.4), trials: [...first, trial('b', 0, null)], missing: 0 }
  t.notMatch(conclusion(apart), /paired/, 'other images: no comparison')
})

t.test('the page: tables that Markdown reads, columns only where they hold something', async (t) => {
  const page = {
    ...{ name: 'Study: x', about: 'why?', commands: [], facts: ['one fact'], ranking: ranking(0.4, 0.3) },
    ...{ trials: first, differences: { settings: ['a'], rows: [] }, missing: 0, draws: 9, figure: 'x.svg' },
  }
  const text = sweepMarkdown(page)
  t.match(text, '| a | 0 | 10 | 12 | 0.400 [0.300, 0.500] | 0.500 [0.400, 0.600] |\n')
  t.notMatch(text, 'against the first')
  t.notMatch(text, 'What differs')
  const bars = { ...page, differences: { settings: ['a|b'], rows: [{ key: 'k', values: ['v'] }] } }
  t.match(sweepMarkdown(bars), 'a\\|b')
})
