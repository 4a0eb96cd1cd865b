import { existsSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { EventChannel, type RunEvent } from '../../lib/train/events.js'
import { openRunLog, type RunLogOptions } from '../../lib/train/run-log.js'
import { readEvents } from '../../lib/train/tensorboard.js'

const fppi = [0.1, 1]
const row = {
  ...{ epoch: 1, step: 4, seconds: 1, loss: 1, lossCls: 0.5, lossBox: 0.5, lr: 1e-4, dataFraction: 0, deviceBytes: 0 },
  val: { loss: 1, AP50: 0.5, AP: 0.25, sens: [0.1, 0.9] },
}
const open = (folder: string, change: Partial<RunLogOptions> = {}) =>
  openRunLog({
    ...{ folder, fppi, channel: new EventChannel(), resumed: null, clock: () => 1_700_000_000_000 },
    show: { event: () => undefined, say: () => undefined },
    ...change,
  })

t.test('one event goes everywhere at once', async (t) => {
  const folder = t.testdir()
  const channel = new EventChannel()
  const shown: string[] = []
  const reader = channel.read()
  const show = { event: (e: RunEvent) => void shown.push(e.type), say: (text: string) => void shown.push(text) }
  const log = await open(folder, { channel, show })
  const body = {
    epoch: 1,
    step: 4,
    split: 'val',
    loss: 0.5,
    AP50: 0.75,
    AP: 0.25,
    hit: 'centre',
    credit: 'all',
    seconds: 2,
  }
  log.event({ type: 'evaluation', ...body, sens: { '0.1': 0.5, '1': 1 } })
  log.row(row)
  log.say('hello')
  t.strictSame(JSON.parse(readFileSync(join(folder, 'events.jsonl'), 'utf8')), {
    ...{ v: 1, t: '2023-11-14T22:13:20.000Z', type: 'evaluation', ...body },
    sens: { '0.1': 0.5, '1': 1 },
  })
  t.match(
    readFileSync(join(folder, 'results.csv'), 'utf8'),
    /^epoch,step,.*val\/sens@0\.1,val\/sens@1,data_fraction,device_bytes\n1,4,/,
  )
  t.equal(readFileSync(join(folder, 'train.log'), 'utf8'), '2023-11-14T22:13:20.000Z hello\n')
  t.strictSame(shown, ['evaluation', 'hello'])
  await log.end()
  const read: string[] = []
  for await (const event of reader) read.push(event.type)
  t.strictSame(read, ['evaluation'])
  const [file] = readdirSync(join(folder, 'tb'))
  const events = readEvents(readFileSync(join(folder, 'tb', file!))) as {
    step: number
    summary: { value: { tag: string }[] }
  }[]
  t.equal(events[1]!.step, 4)
  t.strictSame(events[1]!.summary.value.map((v) => v.tag).sort(), [
    'time/evaluation_seconds',
    'val/AP',
    'val/AP50',
    'val/loss',
    'val/sens@0.1',
    'val/sens@1',
  ])
})

t.test('a resumed log is cut back to the checkpoint and goes on', async (t) => {
  const folder = t.testdir()
  const first = await open(folder)
  for (const epoch of [1, 2]) {
    first.event({ type: 'epoch', phase: 'p', epoch, step: epoch * 4, loss: 1, lossCls: 1, lossBox: 0, seconds: 1 })
    first.row({ ...row, epoch, step: epoch * 4 })
  }
  await first.end()
  writeFileSync(join(folder, 'results.csv'), '3,', { flag: 'a' })
  const second = await open(folder, { resumed: { step: 6, epochs: 1 } })
  second.row({ ...row, epoch: 2, step: 8, loss: 7 })
  await second.end()
  const rows = readFileSync(join(folder, 'results.csv'), 'utf8').trim().split('\n')
  t.equal(rows.length, 3)
  t.match(rows[2], /^2,8,1,7,/)
  t.equal(readFileSync(join(folder, 'events.jsonl'), 'utf8').trim().split('\n').length, 1)
  t.equal(readdirSync(join(folder, 'tb')).length, 2)
})

t.test(
  'a full disk is an error that says so',
  { skip: !existsSync('/dev/full') && 'there is no /dev/full' },
  async (t) => {
    const folder = t.testdir()
    symlinkSync('/dev/full', join(folder, 'events.jsonl'))
    const log = await open(folder)
    t.throws(() => log.event({ type: 'end', status: 'finished', step: 1 }), {
      code: 'ERR_MAMMO_DISK_FULL',
      exitCode: 4,
    })
    await log.end()
  },
)
