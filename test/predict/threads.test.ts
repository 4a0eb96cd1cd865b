import t from 'tap'
import { fitThreads, usableCores } from '../../lib/predict/threads.js'

t.test('workers and threads together use the cores', async (t) => {
  t.strictSame(fitThreads(undefined, undefined, 8), { workers: 1, threadsPerWorker: 8 })
  t.strictSame(fitThreads(3, undefined, 8), { workers: 3, threadsPerWorker: 2 })
  t.strictSame(fitThreads(4, undefined, 2), { workers: 4, threadsPerWorker: 1 })
  t.strictSame(fitThreads(2, 5, 2), { workers: 2, threadsPerWorker: 5 })
})

t.test("the container's quota limits the cores", async (t) => {
  const all = usableCores(() => 'max 100000\n')
  t.ok(all >= 1)
  t.equal(
    usableCores(() => '100000 100000\n'),
    1,
  )
  t.equal(
    usableCores(() => '50000 100000\n'),
    1,
    'never less than one',
  )
  t.equal(
    usableCores(() => {
      throw new Error('no such file')
    }),
    all,
  )
})
