import t from 'tap'
import { meanInterval } from '../../lib/experiments/mean.js'

t.test('mean with Student interval', async (t) => {
  // R: t.test(c(1, 2, 3, 4))$conf.int
  const { mean, interval, n } = meanInterval([1, 2, 3, 4])
  t.equal(mean, 2.5)
  t.equal(n, 4)
  t.ok(Math.abs(interval![0] - 0.4457397) < 1e-4 && Math.abs(interval![1] - 4.5542603) < 1e-4, String(interval))
  t.same(meanInterval([null, Number.NaN]), { mean: null, deviation: null, interval: null, n: 0 })
  t.same(meanInterval([null, 3]), { mean: 3, deviation: null, interval: null, n: 1 })
  const many = meanInterval(Array.from({ length: 61 }, (_, i) => i))
  // t(60) = 2.000298
  t.ok(Math.abs(many.interval![1] - (30 + (2.000298 * many.deviation!) / Math.sqrt(61))) < 0.01)
})
