// The training loop, to be read from top to bottom: for each phase, for each epoch, for each update: step, record, save; after each
// epoch: evaluate, record, save. It decides nothing about data, metrics or files; those are handed in. Every number that matters
// for the course stands in TrainingState, so that stopping anywhere and resuming gives the same parameters bit for bit.
import type { Session } from '../binding/session.js'
import type { ImageBatch, StepResult, TargetBatch } from '../binding/types.js'
import type { Phase } from '../config/phases.js'
import type { Config } from '../config/schema.js'
import { TrainingError } from '../errors.js'
import type { CheckpointKind, Memory } from './events.js'
import { writeNonFinite } from './non-finite.js'
import type { StepTimes } from './profile.js'
import { remainingSeconds, type Standing } from './progress.js'
import { type ResultRow, resultValues, type ValidationNumbers } from './results.js'
import type { RunLog } from './run-log.js'
import { type Course, improves, plateauAfter, rateFactor } from './schedule.js'
import { nextEpoch, nextPhase, type TrainingState } from './state.js'

/** One micro-batch and what is needed to name it. */
export interface TrainingBatch {
  ids: string[]
  /** How each image was cut and changed, as the sampler planned it. */
  plan: unknown
  images: ImageBatch
  targets: TargetBatch
}

/** The data of one phase. */
export interface PhaseData {
  /** Micro-batches of one pass. */
  batchesPerPass: number
  /** Micro-batches of a pass, read ahead, from number `from` on. Passes count from 0 within the phase. Pure in its arguments. */
  read(pass: number, from: number): AsyncIterableIterator<TrainingBatch>
}

/** Result of an evaluation after an epoch. */
export interface Validation extends ValidationNumbers {
  split: string
  hit: string
  credit: string
}

/** Set from outside at any time; read between updates and between evaluated images. */
export interface Control {
  stop: string | null
  save: boolean
}

export interface TrainerParts {
  config: Config
  phases: readonly Phase[]
  session: Pick<Session, 'trainStep' | 'zeroGradients' | 'update'>
  data: readonly PhaseData[]
  folder: string
  log: RunLog
  control: Control
  /** Scores the validation part; undefined when it has no images, `stopped` when the function became true on the way. */
  validate(phase: number, stopped: () => boolean): Promise<Validation | undefined | 'stopped'>
  /** Writes the state as a checkpoint; announces and names it. */
  save(state: TrainingState, kinds: CheckpointKind[], metric: number | null): Promise<void>
  memory(): Promise<Memory>
  /** Told the times of every update, when somebody wants them. */
  profile?(times: StepTimes): void
  show(standing: Standing): void
  /** After an epoch's row: plots and pictures. `evaluated`: the epoch has new scores. */
  epochEnded?(epoch: number, evaluated: boolean): Promise<void>
  /** Milliseconds. */
  clock(): number
}

export interface TrainingEnd {
  state: TrainingState
  /** null: all phases are complete; otherwise why the run stopped before. */
  stopped: string | null
  /** Last row of results.csv by column, if an epoch ended. */
  final: Record<string, number> | null
}

/** Runs what is left of a run. Rejects with TrainingError NON_FINITE_LOSS, or whatever a part throws; `last` then stays as it is. */
export async function runTraining(parts: TrainerParts, start: TrainingState): Promise<TrainingEnd> {
  const { config, phases, log, control } = parts
  const timing = { steps: [] as number[], evaluations: [] as number[], hinted: false }
  const since = parts.clock()
  const before = start.wallSeconds
  const withTime = (s: TrainingState) => ({ ...s, wallSeconds: before + (parts.clock() - since) / 1000 })
  let state = start
  let final: Record<string, number> | null = null
  let savedAt = parts.clock()
  const save = async (kinds: CheckpointKind[], metric: number | null) => {
    await parts.save(withTime(state), kinds, metric)
    savedAt = parts.clock()
    control.save = false
  }

  const stopHere = async (): Promise<TrainingEnd> => {
    await save(['last'], null)
    return { state: withTime(state), stopped: control.stop, final }
  }

  for (;;) {
    const phase = phases[state.phase]!
    const data = parts.data[state.phase]!
    const epochBatches = batchesPerEpoch(phase, data)
    const course = courseOf(phase, data)
    const { frozenStages, checkpointActivations } = phase
    await parts.session.update({ frozenStages, checkpointActivations })

    const batches = oneAhead(streamOf(data, state.epoch * epochBatches + state.batch))
    try {
      while (!state.ended && state.epoch < phase.epochs) {
        while (state.batch < epochBatches) {
          if (control.stop !== null) return await stopHere()
          const due = parts.clock() - savedAt >= config.train.checkpointMinutes * 60_000
          if (control.save || due) await save(['last'], null)
          state = await update(parts, phase, course, epochBatches, state, batches, timing)
        }

        const epoch = state.epochsDone + 1
        const due = epoch % config.train.evaluateEvery === 0 || state.epoch + 1 === phase.epochs
        const evaluatedFrom = parts.clock()
        const val = due ? await parts.validate(state.phase, () => control.stop !== null) : undefined
        // Stopped while evaluating: the state still says "trained, not evaluated", and a resumed run evaluates first.
        if (val === 'stopped') return await stopHere()
        const evaluationSeconds = (parts.clock() - evaluatedFrom) / 1000
        if (val) timing.evaluations.push(evaluationSeconds)
        const row = await epochRow(parts, phase, course, state, val)
        recordEpoch(parts, phase, row, val, evaluationSeconds)
        final = resultValues(row, config.evaluate.fppi)
        await parts.epochEnded?.(epoch, val !== undefined)

        const judged = judge(phase, state, final, val !== undefined)
        state = { ...nextEpoch(judged.state), epochsDone: epoch, ended: judged.stop }
        if (judged.stop) {
          log.say(
            `${phase.name} ends early: no better ${phase.schedule.monitor} for ${state.earlyStop.bad} evaluations`,
          )
        }
        const kinds: CheckpointKind[] = ['last']
        if (judged.best) kinds.push('best')
        if (config.train.keepEvery > 0 && epoch % config.train.keepEvery === 0) kinds.push('periodic')
        const phaseOver = state.ended || state.epoch >= phase.epochs
        const old = parts.clock() - savedAt >= SHORT_EPOCH_MS
        if (kinds.length > 1 || phaseOver || old || control.save) await save(kinds, judged.value)
      }
    } finally {
      await batches.close()
    }
    if (state.phase + 1 >= phases.length) return { state: withTime(state), stopped: null, final }
    state = nextPhase(state)
  }
}

/** Micro-batches of an epoch: one pass, or as many as the configured updates take. */
export function batchesPerEpoch(phase: Phase, data: Pick<PhaseData, 'batchesPerPass'>): number {
  return phase.stepsPerEpoch === null ? data.batchesPerPass : phase.stepsPerEpoch * phase.accumulate
}

export function courseOf(phase: Phase, data: Pick<PhaseData, 'batchesPerPass'>): Course {
  const perEpoch = Math.ceil(batchesPerEpoch(phase, data) / phase.accumulate)
  return { perEpoch, total: perEpoch * phase.epochs }
}

/** One endless stream of micro-batches over the passes of a phase, from micro-batch `position` of the phase on. */
async function* streamOf(data: PhaseData, position: number): AsyncIterableIterator<TrainingBatch> {
  let pass = Math.floor(position / data.batchesPerPass)
  for (let from = position % data.batchesPerPass; ; pass++, from = 0) yield* data.read(pass, from)
}

/** Epochs that end sooner after a checkpoint than this are repeated faster than they are worth saving. */
const SHORT_EPOCH_MS = 30_000

interface Batches {
  next(): Promise<TrainingBatch>
  close(): Promise<void>
}

/** Asks for the following batch before the one it hands out is used, so that the border of a pass or epoch costs no wait. */
function oneAhead(stream: AsyncIterableIterator<TrainingBatch>): Batches {
  let following: Promise<TrainingBatch> | undefined
  const ask = async () => (await stream.next()).value as TrainingBatch
  return {
    async next() {
      const batch = await (following ?? ask())
      following = ask()
      // An unreadable image is reported when its turn comes.
      following.catch(() => undefined)
      return batch
    },
    async close() {
      await following?.catch(() => undefined)
      await stream.return?.()
    },
  }
}

interface Timing {
  steps: number[]
  evaluations: number[]
  hinted: boolean
}

/** Steps whose median predicts the rest. */
const RECENT_STEPS = 50
/** Share of a step spent waiting for input above which the user is told what to change. */
const SLOW_DATA = 0.2

/** One update: its micro-batches, one after another, then the record. */
async function update(
  parts: TrainerParts,
  phase: Phase,
  course: Course,
  epochBatches: number,
  state: TrainingState,
  batches: Batches,
  timing: Timing,
): Promise<TrainingState> {
  const { config, session } = parts
  const { train } = config
  const started = parts.clock()
  const micros = Math.min(phase.accumulate, epochBatches - state.batch)
  const lr = phase.lr * rateFactor(state.phaseStep, course, phase.schedule, state.plateau)
  const results: StepResult[] = []
  const inputs: { images: number; height: number; width: number }[] = []
  let waited = 0
  let images = 0
  let finite = true
  let overflowed = false
  for (let micro = 0; micro < micros; micro++) {
    const asked = parts.clock()
    const batch = await batches.next()
    waited += (parts.clock() - asked) / 1000
    images += batch.ids.length
    const [height, width] = batch.images.canvas
    inputs.push({ images: batch.ids.length, height, width })
    const result = await session.trainStep(batch.images, batch.targets, {
      lr,
      weightDecay: train.weightDecay,
      clipNorm: train.clipNorm,
      clipNormPerTensor: train.clipNormPerTensor,
      clipValue: train.clipValue,
      lossScale: 1 / micros,
      // Gradients of a broken micro-batch are never applied, those of its companions neither.
      update: micro === micros - 1 && finite,
      skipNonFinite: true,
      ...(train.emaDecay > 0 ? { emaDecay: averageDecay(train.emaDecay, state.step - state.skipped) } : {}),
    })
    results.push(result)
    const last = micro === micros - 1
    overflowed = result.overflowed
    if (!result.finite || (last && finite && !result.updated && !overflowed)) {
      await nonFinite(parts, state.step + 1, batch, result)
      finite = false
    }
    if (last && !finite) await session.zeroGradients()
  }
  if (overflowed) tellOverflow(parts, state.step + 1, results.at(-1)!.scale)

  const seconds = (parts.clock() - started) / 1000
  const mean = (of: (r: StepResult) => number) => results.reduce((sum, r) => sum + of(r), 0) / micros
  const [loss, lossCls, lossBox] = [mean((r) => r.loss), mean((r) => r.classification), mean((r) => r.box)]
  parts.profile?.({ seconds, waited, parts: results.map((r) => r.seconds), phase, inputs })
  timing.steps.push(seconds)
  if (timing.steps.length > RECENT_STEPS) timing.steps.shift()
  const { sums } = state
  const after: TrainingState = {
    ...state,
    batch: state.batch + micros,
    phaseStep: state.phaseStep + 1,
    step: state.step + 1,
    skipped: state.skipped + (finite && !overflowed ? 0 : 1),
    sums: finite
      ? {
          updates: sums.updates + 1,
          loss: sums.loss + loss,
          lossCls: sums.lossCls + lossCls,
          lossBox: sums.lossBox + lossBox,
          seconds: sums.seconds + seconds,
          waitedSeconds: sums.waitedSeconds + waited,
        }
      : { ...sums, seconds: sums.seconds + seconds, waitedSeconds: sums.waitedSeconds + waited },
  }
  const memory = await parts.memory()
  const dataFraction = seconds > 0 ? waited / seconds : 0
  const iter = Math.ceil(after.batch / phase.accumulate)
  parts.log.event({
    type: 'iteration',
    phase: phase.name,
    epoch: state.epochsDone + 1,
    iter,
    step: after.step,
    loss,
    lossCls,
    lossBox,
    lr,
    gradNorm: results.at(-1)!.gradNorm,
    ...(config.run.precision === 'fp16' ? { lossScale: results.at(-1)!.scale } : {}),
    positives: results.reduce((sum, r) => sum + r.positives, 0),
    imagesPerSecond: seconds > 0 ? images / seconds : 0,
    dataFraction,
    stepMs: seconds * 1000,
    ...memory,
  })
  const totalFraction = after.sums.waitedSeconds / Math.max(after.sums.seconds, 1e-9)
  if (!timing.hinted && timing.steps.length >= 20 && totalFraction > SLOW_DATA) {
    timing.hinted = true
    const message = `steps wait ${Math.round(100 * totalFraction)}% of their time for input; raise data.readAhead, or put the prepared folder on a faster disk`
    parts.log.event({ type: 'warning', code: 'SLOW_DATA', message })
    parts.log.say(`warning: ${message}`)
  }
  parts.show({
    ...{ epoch: after.epochsDone + 1, epochs: totalEpochs(parts), iter, iters: course.perEpoch },
    ...{ loss, lossCls, lossBox, lr, dataFraction: totalFraction, ...memory },
    imagesPerSecond: seconds > 0 ? images / seconds : 0,
    etaSeconds: eta(parts, after, timing),
  })
  return after
}

/** The moving average forgets its start: the decay grows with the updates made (TensorFlow's num_updates rule). */
export function averageDecay(decay: number, updates: number): number {
  return Math.min(decay, (1 + updates) / (10 + updates))
}

function totalEpochs(parts: TrainerParts): number {
  return parts.phases.reduce((sum, phase) => sum + phase.epochs, 0)
}

function eta(parts: TrainerParts, state: TrainingState, timing: Timing): number {
  const left = parts.phases.map((phase, i) => {
    const { perEpoch, total } = courseOf(phase, parts.data[i]!)
    if (i < state.phase) return { steps: 0, epochs: 0 }
    if (i > state.phase) return { steps: total, epochs: phase.epochs }
    return {
      steps: total - state.epoch * perEpoch - Math.ceil(state.batch / phase.accumulate),
      epochs: phase.epochs - state.epoch,
    }
  })
  const steps = left.reduce((sum, l) => sum + l.steps, 0)
  const epochs = left.reduce((sum, l) => sum + l.epochs, 0)
  return remainingSeconds(timing.steps, steps, timing.evaluations, epochs / parts.config.train.evaluateEvery)
}

/** fp16 lost an update to a scale that was too large: part of finding the right one, but none is left out without a word. */
function tellOverflow({ log }: TrainerParts, step: number, scale: number): void {
  const message = `step ${step}: gradients overflow in fp16 with the loss times ${scale}; the update is left out, the next has ${scale / 2}`
  log.event({ type: 'warning', code: 'LOSS_SCALE', message, details: { step, scale } })
  log.say(message)
}

/** Records the batch; throws unless the configuration says to skip. */
async function nonFinite(parts: TrainerParts, step: number, batch: TrainingBatch, result: StepResult): Promise<void> {
  const record = await writeNonFinite(parts.folder, step, batch, result)
  const message = `step ${step}: expected a finite loss and gradient, got loss ${result.loss}, gradient norm ${result.gradNorm} for images ${batch.ids.join(', ')}`
  if (parts.config.train.onNonFinite === 'skip') {
    parts.log.event({ type: 'warning', code: 'NON_FINITE_LOSS', message, details: { step, ids: batch.ids, record } })
    parts.log.say(`warning: ${message}; the update is left out`)
    return
  }
  throw new TrainingError('NON_FINITE_LOSS', message, {
    where: record,
    fix: 'look at the images; lower train.lr or run.precision=fp32; train.onNonFinite=skip goes on without such updates. checkpoints/last.safetensors is the last good state',
    details: { step, ids: batch.ids },
  })
}

async function epochRow(
  parts: TrainerParts,
  phase: Phase,
  course: Course,
  state: TrainingState,
  val: Validation | undefined,
): Promise<ResultRow> {
  const { sums } = state
  const mean = (sum: number) => (sums.updates === 0 ? Number.NaN : sum / sums.updates)
  return {
    epoch: state.epochsDone + 1,
    step: state.step,
    seconds: sums.seconds,
    loss: mean(sums.loss),
    lossCls: mean(sums.lossCls),
    lossBox: mean(sums.lossBox),
    lr: phase.lr * rateFactor(state.phaseStep - 1, course, phase.schedule, state.plateau),
    dataFraction: sums.seconds > 0 ? sums.waitedSeconds / sums.seconds : 0,
    deviceBytes: (await parts.memory()).deviceBytes,
    ...(val ? { val } : {}),
  }
}

function recordEpoch(
  parts: TrainerParts,
  phase: Phase,
  row: ResultRow,
  val: Validation | undefined,
  seconds: number,
): void {
  const { epoch, step, loss, lossCls, lossBox } = row
  const { log, config } = parts
  log.event({ type: 'epoch', phase: phase.name, epoch, step, loss, lossCls, lossBox, seconds: row.seconds })
  if (val) {
    const sens = Object.fromEntries(config.evaluate.fppi.map((f, i) => [String(f), val.sens[i]!]))
    const { split, hit, credit, AP50, AP } = val
    log.event({ type: 'evaluation', epoch, step, split, loss: val.loss, AP50, AP, hit, credit, sens, seconds })
  }
  log.row(row)
  const scores = val ? `  val loss ${val.loss.toFixed(3)}  AP50 ${show(val.AP50)}  AP ${show(val.AP)}` : ''
  log.say(
    `epoch ${epoch}/${totalEpochs(parts)}  step ${step}  loss ${loss.toFixed(3)} (cls ${lossCls.toFixed(3)} box ${lossBox.toFixed(3)})${scores}`,
  )
}

function show(value: number): string {
  return Number.isFinite(value) ? value.toFixed(3) : 'undefined'
}

/** What an epoch's numbers mean for the best checkpoint, early stopping and the plateau. Epochs without evaluation change nothing. */
function judge(
  phase: Phase,
  state: TrainingState,
  row: Record<string, number>,
  evaluated: boolean,
): { state: TrainingState; best: boolean; stop: boolean; value: number | null } {
  const metric = phase.schedule.monitor
  const value = row[metric] ?? Number.NaN
  if (!evaluated) return { state, best: false, stop: false, value: null }
  const comparable = state.best?.metric === metric ? state.best.value : null
  const best = improves(metric, value, comparable)
  const { patience, minDelta } = phase.earlyStop
  const better = improves(metric, value, state.earlyStop.best, minDelta)
  const earlyStop = better ? { best: value, bad: 0 } : { ...state.earlyStop, bad: state.earlyStop.bad + 1 }
  return {
    state: {
      ...state,
      best: best ? { metric, value, epoch: row['epoch']!, step: row['step']! } : state.best,
      earlyStop,
      plateau: phase.schedule.kind === 'plateau' ? plateauAfter(state.plateau, value, phase.schedule) : state.plateau,
    },
    best,
    stop: patience !== null && earlyStop.bad >= patience,
    value: Number.isFinite(value) ? value : null,
  }
}
