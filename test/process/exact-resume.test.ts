// Exact resume at 20 random moments: runs that are interrupted five times each, by SIGINT, SIGTERM or SIGKILL at any time within a step
// (in the middle of an accumulation, while a checkpoint is written, while an epoch is evaluated) end with the same bits as one that
// was left alone: weights, their average, moments, normaliser, random stream, plateau and early-stop counters, order of the data.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { addonExists } from '../../lib/binding/load.js'
import { randomStream } from '../../lib/random.js'
import { checkpointPath, readCheckpointMetadata } from '../../lib/train/checkpoints.js'
import { parseEvents } from '../../lib/train/events.js'
import { preparedFixture } from '../train/prepared-fixture.js'
import { differing, lastTensors, runTrainingProcess, tinyRun } from './training.js'

t.setTimeout(3_600_000)

const RUNS = 4
const MOMENTS = 5
/** Longest delay after a step's record, about the time of a few micro-batches. */
const DELAY_MS = 60

if (!addonExists()) t.plan(0, 'the addon is not built')
else {
  const home = t.testdir()
  const data = await preparedFixture(join(home, 'prepared'), { train: 6, val: 2 })
  const config = tinyRun(data, join(home, 'runs'))
  config.train.emaDecay = 0.9
  config.train.checkpointMinutes = 0
  config.run.pictures = 0
  config.train.phases = config.train.phases!.map((phase) => ({ ...phase, epochs: 4 }))

  const whole = await runTrainingProcess(home, config, { name: 'whole' })
  const folder = (name: string) => join(home, 'runs', 'train', `${name}-1`)
  const wanted = await lastTensors(folder('whole'))
  const { state } = await readCheckpointMetadata(checkpointPath(folder('whole'), 'last'))
  const history = (name: string) =>
    parseEvents(readFileSync(join(folder(name), 'events.jsonl'), 'utf8')).flatMap((e) =>
      e.type === 'iteration'
        ? [[e.step, e.loss, e.lossBox, e.lr, e.gradNorm]]
        : e.type === 'evaluation'
          ? [[e.epoch, e.loss, e.AP50]]
          : [],
    )

  t.test('the run that is left alone', async (t) => {
    t.equal(whole.code, 0, JSON.stringify([whole.output, whole.noise]))
    t.ok(state.step >= 16, `${state.step} updates`)
    t.equal(state.phase, 1)
    t.ok(state.plateau.factor < 1, 'the plateau has acted')
    t.ok(
      Object.keys(wanted).some((name) => name.startsWith('optimizer.trained.')),
      'there is an average of weights',
    )
  })

  const random = randomStream(20, 'moments')
  const signals = ['SIGINT', 'SIGTERM', 'SIGKILL'] as const
  let interrupted = 0
  for (let run = 0; run < RUNS; run++) {
    const name = `run${run}`
    const steps = new Set<number>()
    while (steps.size < MOMENTS) steps.add(1 + random.integer(state.step - 2))
    const moments = [...steps]
      .sort((a, b) => a - b)
      .map((step) => ({ step, signal: signals[random.integer(3)]!, delay: random.uniform(0, DELAY_MS) }))
    t.test(
      moments.map(({ step, signal, delay }) => `${signal} ${delay.toFixed(0)} ms after ${step}`).join(', '),
      async (t) => {
        for (const [i, { step, signal, delay }] of [...moments, { step: -1, signal: null, delay: 0 }].entries()) {
          let sent = false
          const options = i === 0 ? { name } : { resume: folder(name) }
          const ended = await runTrainingProcess(home, config, options, (event, child) => {
            // A moment may be past already when the stop before it came late.
            if (signal === null || sent || event.type !== 'iteration' || event.step < step) return
            sent = true
            setTimeout(() => child.kill(signal), delay)
          })
          t.strictSame(ended.noise, [])
          if (ended.code === 0) t.equal(ended.output.step, state.step)
          else {
            interrupted++
            if (signal === 'SIGKILL') t.equal(ended.signal, 'SIGKILL')
            // On a machine so busy that a step takes 10 s, SIGTERM ends the process with the last checkpoint standing.
            else if (signal === 'SIGTERM' && ended.signal === 'SIGTERM') t.comment('SIGTERM after 10 s')
            else t.equal(ended.code, signal === 'SIGINT' ? 130 : 143, JSON.stringify(ended.output))
          }
        }
        t.strictSame(differing(await lastTensors(folder(name)), wanted), [])
        t.strictSame(history(name), history('whole'), 'every step once, with the same numbers')
        const end = (await readCheckpointMetadata(checkpointPath(folder(name), 'last'))).state
        const time = { wallSeconds: 0, sums: null }
        t.strictSame({ ...end, ...time }, { ...state, ...time })
      },
    )
  }
  t.test('the moments were met', async (t) => {
    t.ok(interrupted >= RUNS * MOMENTS - 2, `${interrupted} of ${RUNS * MOMENTS} interruptions`)
    t.comment(`${interrupted} interruptions`)
  })
}
