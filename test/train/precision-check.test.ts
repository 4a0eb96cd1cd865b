import t from 'tap'
import { sessionConfig } from '../../lib/config/detector.js'
import { defaultConfig } from '../../lib/config/load.js'
import { describeGain, measurePrecision } from '../../lib/train/precision-check.js'

/** A machine on which a step takes these milliseconds by precision; the first one of a session takes ten times as long. */
function machine(cost: Record<string, number>) {
  let now = 0
  const opened: string[] = []
  let closed = 0
  const open = async ({ precision }: { precision: string }) => {
    opened.push(precision)
    let steps = 0
    return {
      async trainStep() {
        now += cost[precision]! * (steps++ === 0 ? 10 : 1)
        return {} as never
      },
      async dispose() {
        closed++
      },
    }
  }
  return { open, clock: () => now, opened, closed: () => closed }
}

const config = { ...sessionConfig(defaultConfig()), precision: 'bf16' as const }

t.test('both ways are timed after their first step, and closed', async (t) => {
  const fake = machine({ bf16: 40, fp32: 100 })
  const gain = await measurePrecision(config, fake.open, fake.clock)
  t.match(gain, { precision: 'bf16', seconds: 0.04, fp32Seconds: 0.1 })
  t.ok(Math.abs(gain.gain - 2.5) < 1e-9)
  t.strictSame(fake.opened, ['bf16', 'fp32'])
  t.equal(fake.closed(), 2)
  t.match(describeGain(gain), /40 ms in bf16, 100 ms in fp32: 2\.50 times as fast/)
})

t.test('a machine that loses is told so', async (t) => {
  const fake = machine({ bf16: 300, fp32: 100 })
  t.match(describeGain(await measurePrecision(config, fake.open, fake.clock)), /bf16 is slower.*run\.precision=fp32/)
})

t.test('a session is closed when a step fails', async (t) => {
  let closed = 0
  const open = async () => ({
    trainStep: () => Promise.reject(new Error('no memory')),
    async dispose() {
      closed++
    },
  })
  await t.rejects(
    measurePrecision(config, open, () => 0),
    /no memory/,
  )
  t.equal(closed, 1)
})
