import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { StepOptions, StepResult } from '../../lib/binding/types.js'
import { defaultConfig } from '../../lib/config/load.js'
import { phasesOf } from '../../lib/config/phases.js'
import type { Config, PhaseConfig } from '../../lib/config/schema.js'
import { EventChannel, parseEvents } from '../../lib/train/events.js'
import { parseResults } from '../../lib/train/results.js'
import { openRunLog } from '../../lib/train/run-log.js'
import { freshState, type TrainingState } from '../../lib/train/state.js'
import {
  averageDecay,
  type Control,
  type PhaseData,
  runTraining,
  type TrainerParts,
  type TrainingBatch,
  type TrainingEnd,
} from '../../lib/train/trainer.js'

interface Setting {
  config?: (config: Config) => void
  batchesPerPass?: number
  /** Loss of the micro-batch with this name, such as `0.1.2` (phase, pass, number). */
  lossOf?: (id: string) => number
  /** AP50 after this many finished epochs. */
  ap?: (epoch: number) => number
  state?: TrainingState
  /** Updates whose gradients overflow in fp16, counted from 1. */
  overflows?: number[]
  /** Called after every update and evaluation with what happened. */
  after?: (what: string, control: Control) => void
  stopIn?: 'evaluation'
  /** Time that the fake clock gives a micro-batch. */
  secondsPerStep?: number
}

interface Outcome {
  calls: string[]
  steps: StepOptions[]
  saved: { state: TrainingState; kinds: string[] }[]
  folder: string
  end: TrainingEnd | undefined
  error: unknown
}

function batchOf(id: string): TrainingBatch {
  const windows = {
    pixels: Uint16Array.of(1, 2, 3, 4, 5, 6),
    shapes: Int32Array.of(2, 3),
    affines: Float64Array.of(1, 0, 0, 0, 1, 0),
    reduce: Int32Array.of(0),
    normalise: Float32Array.of(0, 1),
    intensity: Float32Array.of(1, 0, 1, 0),
    noiseSeed: Uint32Array.of(0),
  }
  const targets = {
    boxes: new Float32Array(0),
    labels: new Int32Array(0),
    boxOffsets: new Int32Array(2),
    ignore: new Float32Array(0),
    ignoreOffsets: new Int32Array(2),
  }
  return { ids: [id], plan: [{ id }], images: { canvas: [128, 128], sizes: Int32Array.of(2, 3), windows }, targets }
}

/** Runs the trainer against an engine that only writes down what it is asked. */
async function runFake(folder: string, setting: Setting): Promise<Outcome> {
  const config = structuredClone(defaultConfig())
  config.train.epochs = 2
  config.train.schedule.warmupSteps = 0
  setting.config?.(config)
  const phases = phasesOf(config)
  const control: Control = { stop: null, save: false }
  const calls: string[] = []
  const steps: StepOptions[] = []
  const saved: Outcome['saved'] = []
  const lossOf = setting.lossOf ?? (() => 1)
  const log = await openRunLog({
    folder,
    fppi: config.evaluate.fppi,
    channel: new EventChannel(),
    resumed: setting.state ? { step: setting.state.step, epochs: setting.state.epochsDone } : null,
    show: { event: () => undefined, say: () => undefined },
  })
  let now = 0
  let updates = 0
  const data = phases.map(
    (_, phase): PhaseData => ({
      batchesPerPass: setting.batchesPerPass ?? 4,
      async *read(pass, from) {
        for (let n = from; n < (setting.batchesPerPass ?? 4); n++) yield batchOf(`${phase}.${pass}.${n}`)
      },
    }),
  )
  let epochs = setting.state?.epochsDone ?? 0
  const parts: TrainerParts = {
    ...{ config, phases, data, folder, log, control },
    session: {
      async update(update) {
        calls.push(`update frozen=${update.frozenStages}`)
      },
      async zeroGradients() {
        calls.push('zero')
      },
      async trainStep(images, _targets, options): Promise<StepResult> {
        now += 1000 * (setting.secondsPerStep ?? 1)
        const id = (images as unknown as { id: string }).id
        const loss = lossOf(id)
        calls.push(`step ${id}${options.update ? ' update' : ''}`)
        steps.push(options)
        const finite = Number.isFinite(loss)
        const overflowed = options.update && (setting.overflows ?? []).includes(++updates)
        const updated = options.update && finite && !overflowed
        const result = { loss, classification: loss / 2, box: loss / 2, gradNorm: updated ? 1 : Number.NaN }
        setting.after?.(`step ${id}`, control)
        const scale = 4
        return {
          ...{ ...result, positives: 1, perImage: Float64Array.of(loss), finite, updated, seconds: {} },
          ...{ scale, overflowed },
        }
      },
    },
    async validate(_phase, stopped) {
      if (setting.stopIn === 'evaluation') control.stop = 'stop'
      if (stopped()) return 'stopped'
      epochs++
      calls.push('validate')
      const AP50 = (setting.ap ?? ((n) => n / 10))(epochs)
      return {
        split: 'val',
        hit: 'centre',
        credit: 'all',
        loss: 0.5,
        AP50,
        AP: AP50 / 2,
        sens: config.evaluate.fppi.map(() => 0.5),
      }
    },
    async save(state, kinds) {
      calls.push(`save ${kinds.join('+')}`)
      saved.push({ state: structuredClone(state), kinds: [...kinds] })
    },
    memory: async () => ({ deviceBytes: 0, hostBytes: 1 }),
    show: () => undefined,
    clock: () => now,
  }
  // The fake engine must know which batch it got.
  for (const phaseData of data) {
    const read = phaseData.read
    phaseData.read = async function* (pass, from) {
      for await (const batch of read(pass, from))
        yield { ...batch, images: { ...batch.images, id: batch.ids[0] } as never }
    }
  }
  let end: TrainingEnd | undefined
  let error: unknown
  try {
    end = await runTraining(parts, setting.state ?? freshState())
  } catch (caught) {
    error = caught
  } finally {
    await log.end()
  }
  return { calls, steps, saved, folder, end, error }
}

t.test('the order of a run: steps, evaluation, checkpoint, epoch after epoch', async (t) => {
  const { calls, end } = await runFake(t.testdir(), { batchesPerPass: 2 })
  t.strictSame(calls, [
    'update frozen=0',
    'step 0.0.0 update',
    'step 0.0.1 update',
    'validate',
    'save last+best',
    'step 0.1.0 update',
    'step 0.1.1 update',
    'validate',
    'save last+best',
  ])
  t.equal(end?.stopped, null)
  t.equal(end?.state.step, 4)
  t.equal(end?.state.epochsDone, 2)
  t.match(end?.state.best, { metric: 'val/AP50', value: 0.2, epoch: 2, step: 4 })
})

t.test(
  'accumulation: the loss is scaled, the last micro-batch updates, a short last group has its own scale',
  async (t) => {
    const { calls, steps } = await runFake(t.testdir(), {
      batchesPerPass: 5,
      config: (c) => {
        c.train.accumulate = 2
        c.train.epochs = 1
      },
    })
    t.strictSame(
      calls.filter((c) => c.startsWith('step')),
      ['step 0.0.0', 'step 0.0.1 update', 'step 0.0.2', 'step 0.0.3 update', 'step 0.0.4 update'],
    )
    t.strictSame(
      steps.map((s) => s.lossScale),
      [0.5, 0.5, 0.5, 0.5, 1],
    )
    t.equal(new Set(steps.slice(0, 2).map((s) => s.lr)).size, 1, 'one rate per update')
  },
)

t.test(
  'the average of weights starts fast and slows down to its decay; without it the engine is told nothing',
  async (t) => {
    const { steps } = await runFake(t.testdir(), {
      config: (c) => {
        c.train.emaDecay = 0.3
      },
    })
    t.strictSame(
      steps.map((s) => s.emaDecay),
      [1 / 10, 2 / 11, 3 / 12, 0.3, 0.3, 0.3, 0.3, 0.3].map((d) => Math.min(d, 0.3)),
    )
    t.equal(averageDecay(0.999, 100_000), 0.999)
    t.notOk('emaDecay' in (await runFake(t.testdir(), {})).steps[0]!)
  },
)

t.test('stepsPerEpoch goes on through the passes, so that every image gets its turn', async (t) => {
  const { calls } = await runFake(t.testdir(), {
    batchesPerPass: 3,
    config: (c) => {
      c.train.stepsPerEpoch = 2
      c.train.epochs = 3
    },
  })
  t.strictSame(
    calls.filter((c) => c.startsWith('step')).map((c) => c.slice(5, 10)),
    ['0.0.0', '0.0.1', '0.0.2', '0.1.0', '0.1.1', '0.1.2'],
  )
})

const accumulate2 = (c: Config) => {
  c.train.accumulate = 2
}

const twoPhases = (c: Config) => {
  const phase = (change: Partial<PhaseConfig>): PhaseConfig => ({
    ...{ name: 'a', strategy: 'resized', epochs: 2, stepsPerEpoch: null, lr: null, batchSize: null, accumulate: null },
    ...{ frozenStages: null, checkpointActivations: null, augment: null, schedule: null, earlyStop: null },
    ...change,
  })
  const step = { ...c.train.schedule, kind: 'step' as const, milestones: [1], factor: 0.1 }
  c.train.phases = [
    phase({ name: 'patches', lr: 1, schedule: step }),
    phase({ name: 'full', lr: 2, frozenStages: 5, accumulate: 2, schedule: { ...step, milestones: [9] } }),
  ]
}

t.test('phases: each freezes, batches and schedules for itself; epochs and steps count on', async (t) => {
  const { calls, steps, saved, folder } = await runFake(t.testdir(), { batchesPerPass: 2, config: twoPhases })
  t.strictSame(
    calls.filter((c) => c.startsWith('update')),
    ['update frozen=0', 'update frozen=5'],
  )
  t.strictSame(
    steps.map((s) => Number(s.lr.toFixed(6))),
    [1, 1, 0.1, 0.1, 2, 2, 2, 2],
  )
  t.strictSame(
    saved.map(({ state }) => [state.phase, state.epoch, state.epochsDone, state.step]),
    [
      [0, 1, 1, 2],
      [0, 2, 2, 4],
      [1, 1, 3, 5],
      [1, 2, 4, 6],
    ],
  )
  const rows = parseResults(readFileSync(join(folder, 'results.csv'), 'utf8'))
  t.strictSame(
    rows.map((r) => [r['epoch'], r['step'], r['lr']]),
    [
      [1, 2, 1],
      [2, 4, 0.1],
      [3, 5, 2],
      [4, 6, 2],
    ],
  )
})

t.test('early stopping ends the phase, not the run; its counter starts anew', async (t) => {
  const { saved, end } = await runFake(t.testdir(), {
    batchesPerPass: 1,
    config: (c) => {
      twoPhases(c)
      for (const phase of c.train.phases!) phase.epochs = 5
      c.train.earlyStop = { patience: 2, minDelta: 0.01 }
    },
    ap: () => 0.5,
    secondsPerStep: 60,
  })
  t.strictSame(
    saved.map(({ state }) => [state.phase, state.epoch, state.ended]),
    [
      [0, 1, false],
      [0, 2, false],
      [0, 3, true],
      [1, 1, false],
      [1, 2, false],
      [1, 3, true],
    ],
  )
  t.equal(end?.stopped, null)
  t.equal(saved.filter((s) => s.kinds.includes('best')).length, 1, 'an equal score is not better')
})

t.test('periodic and kept checkpoints', async (t) => {
  const { calls } = await runFake(t.testdir(), {
    batchesPerPass: 3,
    config: (c) => {
      c.train.checkpointMinutes = 2 / 60
      c.train.keepEvery = 2
    },
  })
  t.strictSame(
    calls.filter((c) => c.startsWith('save')),
    ['save last', 'save last+best', 'save last', 'save last+best+periodic'],
  )
})

t.test(
  'a stop request finishes the update, saves and ends; the resumed run does the rest, no more and no less',
  async (t) => {
    const root = t.testdir({ whole: {} })
    const whole = await runFake(join(root, 'whole'), {
      batchesPerPass: 4,
      config: accumulate2,
    })
    const trained = (o: Outcome) => o.calls.filter((c) => c.startsWith('step') || c === 'validate')
    const all = trained(whole)
    t.equal(all.length, 10)
    for (const at of ['step 0.0.0', 'step 0.0.1', 'step 0.0.2', 'step 0.1.0', 'step 0.1.3']) {
      const folder = join(root, at)
      mkdirSync(folder)
      const setting = { batchesPerPass: 4, config: accumulate2 }
      const first = await runFake(folder, {
        ...setting,
        after: (what, control) => {
          if (what === at) control.stop = 'SIGINT'
        },
      })
      t.equal(first.end?.stopped, 'SIGINT')
      t.equal(first.saved.at(-1)!.state.batch % 2, 0, 'saved between updates')
      const second = await runFake(folder, { ...setting, state: first.saved.at(-1)!.state })
      t.strictSame([...trained(first), ...trained(second)], all, `stopped at ${at}`)
      t.strictSame(
        [...first.steps, ...second.steps].map((s) => s.lr),
        whole.steps.map((s) => s.lr),
      )
      const { wallSeconds: _, ...state } = second.end!.state
      t.match(whole.end!.state, { ...state, sums: {} })
      const numbers = (o: Outcome) =>
        readFileSync(join(o.folder, 'results.csv'), 'utf8').replace(/^(\d+,\d+),[^,]*/gm, '$1')
      t.equal(numbers(second), numbers(whole), 'results.csv has every epoch once')
      const iterations = parseEvents(readFileSync(join(folder, 'events.jsonl'), 'utf8')).filter(
        (e) => e.type === 'iteration',
      )
      t.strictSame(
        iterations.map((e) => e.step),
        [1, 2, 3, 4],
      )
    }
  },
)

t.test('a stop during the evaluation saves "trained, not evaluated"; the resumed run evaluates first', async (t) => {
  const folder = t.testdir()
  const first = await runFake(folder, { batchesPerPass: 2, stopIn: 'evaluation' })
  t.strictSame(first.calls.slice(-2), ['step 0.0.1 update', 'save last'])
  const second = await runFake(folder, { batchesPerPass: 2, state: first.saved.at(-1)!.state })
  t.strictSame(second.calls.slice(0, 3), ['update frozen=0', 'validate', 'save last+best'])
  t.equal(second.end?.state.step, 4)
})

t.test('a checkpoint on request does not end the run', async (t) => {
  const { calls, end } = await runFake(t.testdir(), {
    batchesPerPass: 3,
    config: (c) => {
      c.train.epochs = 1
    },
    after: (what, control) => {
      if (what === 'step 0.0.0') control.save = true
    },
  })
  t.strictSame(calls.slice(1), [
    'step 0.0.0 update',
    'save last',
    'step 0.0.1 update',
    'step 0.0.2 update',
    'validate',
    'save last+best',
  ])
  t.equal(end?.stopped, null)
})

t.test('a non-finite loss stops with exit 5, names the images, keeps the evidence, saves nothing', async (t) => {
  const folder = t.testdir()
  const { error, calls } = await runFake(folder, { lossOf: (id) => (id === '0.0.2' ? Number.NaN : 1) })
  t.match(error, { code: 'ERR_MAMMO_NON_FINITE_LOSS', exitCode: 5, message: /0\.0\.2/ })
  t.notOk(calls.some((c) => c.startsWith('save')))
  const place = join(folder, 'nonfinite', 'step-000003')
  t.strictSame(readdirSync(place).sort(), ['0.pgm', 'record.json'])
  t.match(JSON.parse(readFileSync(join(place, 'record.json'), 'utf8')), {
    step: 3,
    ids: ['0.0.2'],
    losses: { loss: 'NaN' },
    plan: [{ id: '0.0.2' }],
  })
  const pgm = readFileSync(join(place, '0.pgm'))
  t.equal(pgm.subarray(0, 13).toString('ascii'), 'P5\n3 2\n65535\n')
  t.strictSame([...pgm.subarray(13)], [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6])
})

t.test(
  'with skip the update is left out, counted and recorded; companions of the update are dropped too',
  async (t) => {
    const folder = t.testdir()
    const { end, calls } = await runFake(folder, {
      lossOf: (id) => (id === '0.0.0' ? Number.POSITIVE_INFINITY : 1),
      config: (c) => {
        c.train.onNonFinite = 'skip'
        c.train.accumulate = 2
        c.train.epochs = 1
      },
    })
    t.strictSame(calls.slice(1, 6), ['step 0.0.0', 'step 0.0.1', 'zero', 'step 0.0.2', 'step 0.0.3 update'])
    t.equal(end?.state.skipped, 1)
    t.equal(end?.state.step, 2, 'a skipped step counts')
    const warnings = parseEvents(readFileSync(join(folder, 'events.jsonl'), 'utf8')).filter((e) => e.type === 'warning')
    t.match(warnings, [{ code: 'NON_FINITE_LOSS', details: { step: 1, ids: ['0.0.0'] } }])
    const [row] = parseResults(readFileSync(join(folder, 'results.csv'), 'utf8'))
    t.equal(row?.['train/loss'], 1, 'the mean is over finite updates')
    t.ok(existsSync(join(folder, 'nonfinite', 'step-000001', 'record.json')))
  },
)

t.test('an overflow of fp16 is told and counted, and stops nothing', async (t) => {
  const folder = t.testdir()
  const { end, error } = await runFake(folder, {
    overflows: [1],
    config: (c) => {
      c.run.precision = 'fp16'
      c.train.accumulate = 2
      c.train.epochs = 1
      c.train.emaDecay = 0.9
    },
  })
  t.equal(error, undefined)
  t.match(end?.state, { skipped: 1, step: 2, phaseStep: 2, epochsDone: 1 })
  const events = parseEvents(readFileSync(join(folder, 'events.jsonl'), 'utf8'))
  t.match(
    events.filter((e) => e.type === 'warning'),
    [{ code: 'LOSS_SCALE', message: /loss times 4.*next has 2/, details: { step: 1, scale: 4 } }],
  )
  t.match(
    events.filter((e) => e.type === 'iteration'),
    [{ lossScale: 4 }, { lossScale: 4 }],
  )
  t.notOk(existsSync(join(folder, 'nonfinite')))
})

t.test('the plateau lowers the rate and survives a resume', async (t) => {
  const plateau = (c: Config) => {
    c.train.epochs = 4
    c.train.lr = 1
    c.train.lrBatch = null
    Object.assign(c.train.schedule, { kind: 'plateau', patience: 1, factor: 0.5 })
  }
  const setting = { batchesPerPass: 1, config: plateau, ap: () => 0.3 }
  const whole = await runFake(t.testdir(), setting)
  t.strictSame(
    whole.steps.map((s) => s.lr),
    [1, 1, 0.5, 0.25],
  )
  const folder = t.testdir()
  const first = await runFake(folder, {
    ...setting,
    after: (what, control) => {
      if (what === 'step 0.2.0') control.stop = 'stop'
    },
  })
  const second = await runFake(folder, { ...setting, state: first.saved.at(-1)!.state })
  t.strictSame(
    [...first.steps, ...second.steps].map((s) => s.lr),
    [1, 1, 0.5, 0.25],
  )
})

t.test('epochs without evaluation leave the cells empty and choose no best', async (t) => {
  const { saved, folder } = await runFake(t.testdir(), {
    batchesPerPass: 1,
    secondsPerStep: 60,
    config: (c) => {
      c.train.epochs = 3
      c.train.evaluateEvery = 2
    },
  })
  t.strictSame(
    saved.map((s) => s.kinds.join('+')),
    ['last', 'last+best', 'last+best'],
  )
  const rows = parseResults(readFileSync(join(folder, 'results.csv'), 'utf8'))
  t.strictSame(
    rows.map((r) => Number.isNaN(r['val/AP50'])),
    [true, false, false],
  )
})

t.test('short epochs that bring nothing new are not saved, the last one always is', async (t) => {
  const { calls } = await runFake(t.testdir(), {
    batchesPerPass: 1,
    ap: () => 0.5,
    config: (c) => {
      c.train.epochs = 6
    },
  })
  t.strictSame(
    calls.filter((c) => c.startsWith('save')),
    ['save last+best', 'save last'],
  )
})
