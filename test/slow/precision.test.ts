// bf16 trains like fp32: over 200 updates of a tiny detector the means of 20 losses differ by at most 5 %.
import t from 'tap'
import { addonExists } from '../../lib/binding/load.js'
import { precisionDifference } from '../process/precision-runs.js'

const skip = addonExists() ? false : 'the addon is not built'

t.setTimeout(3_600_000)

t.test('200 updates in bf16 and in fp32', { skip }, async (t) => {
  const setting = { steps: 200, window: 20, lr: 5e-4, batchSize: 8, control: true }
  const { worst, control, first, last } = await precisionDifference(t.testdir(), setting)
  t.comment(
    `smoothed losses differ by ${(100 * worst).toFixed(2)} % at most (fp32 from fp32 at a rate larger by a millionth: ${(100 * control).toFixed(2)} %); fp32 ${first.toFixed(4)} to ${last.toFixed(4)}`,
  )
  t.ok(worst <= 0.05, `${(100 * worst).toFixed(2)} %`)
  t.ok(last < 0.8 * first, 'it learns')
})
