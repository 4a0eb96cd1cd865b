import t from 'tap'
import { chooseThreads, readMachine } from '../../lib/machine.js'
import { fitThreads, keepsMemory } from '../../lib/predict/threads.js'

t.test('workers and threads together use the cores', async (t) => {
  t.strictSame(fitThreads(undefined, undefined, 8), { workers: 1, threadsPerWorker: 8 })
  t.strictSame(fitThreads(3, undefined, 8), { workers: 3, threadsPerWorker: 2 })
  t.strictSame(fitThreads(4, undefined, 2), { workers: 4, threadsPerWorker: 1 })
  t.strictSame(fitThreads(2, 5, 2), { workers: 2, threadsPerWorker: 5 })
})

t.test("the machine's own choice is the default", async (t) => {
  t.equal(fitThreads(undefined, undefined).threadsPerWorker, chooseThreads(readMachine()).intraOp)
})

t.test('memory is kept where inputs are known to be small', async (t) => {
  const input = (rule: 'none' | 'sides') => ({ resize: { rule, minSide: 800, maxSide: 1333 } }) as never
  t.equal(keepsMemory({ shape: [1024, 1024], input: input('none') }), true)
  t.equal(keepsMemory({ shape: [4096, 3328], input: input('none') }), false)
  t.equal(keepsMemory({ shape: 'dynamic', input: input('sides') }), true)
  t.equal(keepsMemory({ shape: 'dynamic', input: input('none') }), false)
})
