import t from 'tap'
import { EventChannel, eventLine, linesUpTo, parseEvents, type RunEvent } from '../../lib/train/events.js'

const stamp = { v: 1, t: '2026-01-01T00:00:00.000Z' }
const iteration = (step: number, epoch = 1): RunEvent => ({
  ...stamp,
  ...{ type: 'iteration', phase: 'p', epoch, iter: step, step, loss: 1, lossCls: 0.5, lossBox: 0.5, lr: 1e-4 },
  ...{
    gradNorm: Number.NaN,
    positives: 3,
    imagesPerSecond: 1,
    dataFraction: 0,
    stepMs: 5,
    deviceBytes: 0,
    hostBytes: 9,
  },
})
const epoch = (n: number): RunEvent => ({
  ...stamp,
  ...{ type: 'epoch', phase: 'p', epoch: n, step: n * 2, loss: 1, lossCls: 1, lossBox: 0, seconds: 1 },
})

t.test('a line is one JSON object; NaN becomes null', async (t) => {
  const line = eventLine(iteration(1))
  t.ok(line.endsWith('\n'))
  t.equal(line.indexOf('\n'), line.length - 1)
  const value = JSON.parse(line)
  t.equal(value.gradNorm, null)
  t.strictSame(Object.keys(value).slice(0, 3), ['v', 't', 'type'])
})

t.test('a resumed run drops what it repeats and a torn line, and keeps the rest in order', async (t) => {
  const records = [iteration(1), iteration(2), epoch(1), iteration(3, 2), iteration(4, 2), epoch(2)]
  const text = `${records.map(eventLine).join('')}{"v":1,"t":"20`
  const kept = parseEvents(linesUpTo(text, 3, 1))
  t.strictSame(
    kept.map((e) => [e.type, 'step' in e ? e.step : 0]),
    [
      ['iteration', 1],
      ['iteration', 2],
      ['epoch', 2],
      ['iteration', 3],
    ],
  )
  t.equal(linesUpTo('', 5, 5), '')
})

t.test('readers get what comes after they asked, and end when the channel closes', async (t) => {
  const channel = new EventChannel()
  channel.publish(iteration(1))
  const first = channel.read()
  channel.publish(iteration(2))
  const second = channel.read()
  const waiting = second.next()
  channel.publish(epoch(1))
  channel.close()
  t.strictSame(
    (await collect(first)).map((e) => e.type),
    ['iteration', 'epoch'],
  )
  t.equal((await waiting).value.type, 'epoch')
  t.equal((await second.next()).done, true)
  t.strictSame(await collect(channel.read()), [], 'a reader of a closed channel ends at once')
})

t.test('unread iterations beyond 1000 are dropped, oldest first, and counted; other records stay', async (t) => {
  const channel = new EventChannel()
  const reader = channel.read()
  channel.publish(epoch(1))
  for (let step = 1; step <= 1005; step++) channel.publish(iteration(step))
  channel.close()
  const events = await collect(reader)
  t.equal(channel.dropped, 5)
  t.equal(events.length, 1001)
  t.equal(events[0]?.type, 'epoch')
  t.equal((events[1] as { step: number }).step, 6)
})

t.test('leaving the loop frees the reader', async (t) => {
  const channel = new EventChannel()
  const reader = channel.read()
  channel.publish(iteration(1))
  for await (const _ of reader) break
  for (let step = 0; step < 2000; step++) channel.publish(iteration(step))
  t.equal(channel.dropped, 0)
})

async function collect(reader: AsyncIterable<RunEvent>): Promise<RunEvent[]> {
  const events: RunEvent[] = []
  for await (const event of reader) events.push(event)
  return events
}
