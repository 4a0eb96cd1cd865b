// bf16 trains like fp32: over 40 updates of a tiny detector the means of 20 losses differ by at most 5 %.
import t from 'tap'
import { addonExists } from '../../lib/binding/load.js'
import { precisionDifference } from './precision-runs.js'

const skip = addonExists() ? false : 'the addon is not built'

t.setTimeout(1_200_000)

t.test('40 updates in bf16 and in fp32', { skip }, async (t) => {
  const { worst, first, last } = await precisionDifference(t.testdir(), { steps: 40, window: 20 })
  t.comment(
    `smoothed losses differ by ${(100 * worst).toFixed(2)} % at most; fp32 ${first.toFixed(4)} to ${last.toFixed(4)}`,
  )
  t.ok(worst <= 0.05, `${(100 * worst).toFixed(2)} %`)
})
