import t from 'tap'
import { defaultConfig } from '../../lib/config/load.js'
import type { ScheduleConfig } from '../../lib/config/schema.js'
import { freshPlateau, improves, plateauAfter, rateFactor } from '../../lib/train/schedule.js'

const base = defaultConfig().train.schedule
const schedule = (change: Partial<ScheduleConfig>): ScheduleConfig => ({ ...base, ...change })
const course = { total: 1000, perEpoch: 100 }
const close = (found: number, wanted: number) => Math.abs(found - wanted) < 1e-12

t.test('warm-up is linear from its factor to 1 and then ends', async (t) => {
  const s = schedule({ kind: 'constant', warmupSteps: 100, warmupFactor: 0.001 })
  t.ok(close(rateFactor(0, course, s), 0.001))
  t.ok(close(rateFactor(50, course, s), 0.001 + 0.999 * 0.5))
  t.ok(close(rateFactor(99, course, s), 0.001 + 0.999 * 0.99))
  t.equal(rateFactor(100, course, s), 1)
  t.equal(rateFactor(999, course, s), 1)
})

t.test('step multiplies at each milestone, in epochs', async (t) => {
  const s = schedule({ kind: 'step', warmupSteps: 0, milestones: [3, 7], factor: 0.1 })
  t.equal(rateFactor(299, course, s), 1)
  t.ok(close(rateFactor(300, course, s), 0.1))
  t.ok(close(rateFactor(699, course, s), 0.1))
  t.ok(close(rateFactor(700, course, s), 0.01))
})

t.test('cosine falls from 1 after the warm-up to the final factor', async (t) => {
  const s = schedule({ kind: 'cosine', warmupSteps: 100, finalFactor: 0.01 })
  t.equal(rateFactor(100, course, s), 1)
  t.ok(close(rateFactor(550, course, s), 0.01 + 0.99 * 0.5))
  t.ok(close(rateFactor(1000, course, s), 0.01))
  t.ok(close(rateFactor(325, course, s), 0.01 + (0.99 * (1 + Math.cos(Math.PI / 4))) / 2))
})

t.test('one cycle rises over 30 % of the steps and falls to the final factor', async (t) => {
  const s = schedule({ kind: 'onecycle', warmupFactor: 0.04, finalFactor: 0.001, warmupSteps: 500 })
  t.ok(close(rateFactor(0, course, s), 0.04))
  t.ok(close(rateFactor(150, course, s), (0.04 + 1) / 2))
  t.ok(close(rateFactor(300, course, s), 1))
  t.ok(close(rateFactor(650, course, s), (1 + 0.001) / 2))
  t.ok(close(rateFactor(1000, course, s), 0.001))
})

t.test('a phase shorter than its warm-up stays finite', async (t) => {
  const s = schedule({ kind: 'cosine', warmupSteps: 500 })
  const short = { total: 2, perEpoch: 1 }
  for (const step of [0, 1, 2, 500]) t.ok(Number.isFinite(rateFactor(step, short, s)))
})

t.test('plateau reduces after `patience` evaluations without improvement, as Keras does', async (t) => {
  const s = schedule({ kind: 'plateau', warmupSteps: 0, patience: 2, factor: 0.1, monitor: 'val/AP50' })
  let state = freshPlateau
  const factors = [0.5, 0.5, 0.50005, 0.4, 0.4, 0.6, 0.1].map((value) => {
    state = plateauAfter(state, value, s)
    return rateFactor(10, course, s, state)
  })
  t.strictSame(
    factors.map((f) => Number(f.toFixed(9))),
    [1, 1, 0.1, 0.1, 0.01, 0.01, 0.01],
    'an improvement below 1e-4 does not count',
  )
})

t.test('losses improve downwards, scores upwards, NaN never', async (t) => {
  t.ok(improves('val/AP50', 0.2, null))
  t.ok(improves('val/AP50', 0.2, 0.1))
  t.notOk(improves('val/AP50', 0.105, 0.1, 0.01))
  t.ok(improves('val/loss', 0.1, 0.2))
  t.notOk(improves('val/loss', 0.2, 0.2))
  t.notOk(improves('val/AP50', Number.NaN, null))
})
