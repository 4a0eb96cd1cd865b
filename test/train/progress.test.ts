import t from 'tap'
import { createDisplay, duration, progressLine, remainingSeconds, type Standing } from '../../lib/train/progress.js'

const standing: Standing = {
  ...{ epoch: 12, epochs: 40, iter: 63, iters: 100, loss: 0.412, lossCls: 0.231, lossBox: 0.181, lr: 1e-4 },
  ...{
    imagesPerSecond: 2.8,
    dataFraction: 0.04,
    deviceBytes: 41.2 * 2 ** 30,
    hostBytes: 6.1 * 2 ** 30,
    etaSeconds: 6720,
  },
}

t.test('the line', async (t) => {
  t.equal(
    progressLine(standing),
    'epoch 12/40 [##########------]  63%  loss 0.412 (cls 0.231 box 0.181)  lr 1.0e-4  2.8 img/s  data 4%  gpu 41.2G  cpu 6.1G  eta 1h52',
  )
  t.notMatch(progressLine({ ...standing, deviceBytes: 0 }), /gpu/)
})

t.test('durations', async (t) => {
  t.strictSame([0, 59.4, 60, 3599, 3600, 86400 * 3 + 4 * 3600, Number.NaN].map(duration), [
    '0s',
    '59s',
    '1m00',
    '59m59',
    '1h00',
    '3d04h',
    '?',
  ])
})

t.test('the remaining time adds steps and evaluations', async (t) => {
  t.equal(remainingSeconds([1, 2, 9], 10, [5, 7], 2), 32)
  t.equal(remainingSeconds([1], 10, [], 2), 10)
  t.ok(Number.isNaN(remainingSeconds([], 10, [], 2)))
})

function shown(isTty: boolean, mode: 'text' | 'json' | 'quiet') {
  const written: string[] = []
  let now = 0
  const options = { write: (text: string) => void written.push(text), isTty, columns: 80, mode, logEvery: 10 }
  const wait = (ms: number) => {
    now += ms
  }
  return { display: createDisplay(options, () => now), written, wait }
}

t.test('without a terminal: a plain line every logEvery steps and at the end of an epoch', async (t) => {
  const { display, written } = shown(false, 'text')
  for (let iter = 1; iter <= 25; iter++) display.standing({ ...standing, iter, iters: 25 })
  t.equal(written.length, 3)
  t.notMatch(written.join(''), /\r/)
  t.ok(written.every((line) => line.endsWith('\n')))
})

t.test('on a terminal: one redrawn line, not too often, ended before text', async (t) => {
  const { display, written, wait } = shown(true, 'text')
  display.standing(standing)
  display.standing(standing)
  t.equal(written.length, 1)
  wait(200)
  display.standing(standing)
  t.equal(written.length, 2)
  t.ok(written.every((line) => line.startsWith('\r') && line.length < 80 + 5))
  display.say('epoch done')
  t.strictSame(written.slice(2), ['\n', 'epoch done\n'])
})

t.test('json shows records only, quiet shows nothing', async (t) => {
  const event = { v: 1, t: 'now', type: 'end', status: 'finished', step: 3 } as const
  for (const mode of ['json', 'quiet'] as const) {
    const { display, written } = shown(true, mode)
    display.standing(standing)
    display.say('text')
    display.event(event)
    display.close()
    t.strictSame(written, mode === 'json' ? [`${JSON.stringify(event)}\n`] : [])
  }
})
