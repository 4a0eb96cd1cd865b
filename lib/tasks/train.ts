// `train` as a function: opens data and engine, makes or continues a run folder, runs the trainer and records how it ended. It puts
// rooms together; the course of training is lib/train/trainer.ts. Nothing is printed except through the given display.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { stringify } from 'yaml'
import { writeFileAtomic } from '../atomic-write.js'
import { native, openSession, type Session } from '../binding/session.js'
import type { BuildInfo } from '../binding/types.js'
import { detectorConfig, sessionConfig } from '../config/detector.js'
import { loadConfig } from '../config/load.js'
import { type Phase, phasesOf } from '../config/phases.js'
import type { Config } from '../config/schema.js'
import { partIds } from '../data/prepared.js'
import { type SamplerImage, scaleOf } from '../data/sampler.js'
import { asMammoError, TrainingError } from '../errors.js'
import {
  type Candidate,
  CHECKPOINT_FORMAT,
  checkpointPath,
  type DatasetIdentity,
  type Provenance,
  promoteCheckpoint,
  resumeCandidates,
  writeCheckpoint,
} from '../train/checkpoints.js'
import { type Dataset, openDataset, trainingIds, trainingPhases, trainingSpacing } from '../train/data.js'
import { engineThreads, hostRecord, recordedEnv, toolRecord } from '../train/environment.js'
import { EventChannel, parseEvents, type RunEvent } from '../train/events.js'
import { type InitialWeights, loadInitialWeights } from '../train/initial-weights.js'
import { describeGain, measurePrecision, type PrecisionGain } from '../train/precision-check.js'
import { writePredictions } from '../train/predictions.js'
import { profileOf, profileTable, type StepTimes } from '../train/profile.js'
import { createDisplay, type DisplayOptions } from '../train/progress.js'
import { refuseOtherConfig, refuseOtherData } from '../train/resume.js'
import {
  createRunFolder,
  findRunFolder,
  lockRun,
  RUN_SCHEMA,
  type RunRecord,
  readRunRecord,
  writeRunRecord,
} from '../train/run-folder.js'
import { openRunLog, type RunLog } from '../train/run-log.js'
import { listenToSignals } from '../train/signals.js'
import { type Best, freshState, type TrainingState } from '../train/state.js'
import { type Control, courseOf, type PhaseData, runTraining } from '../train/trainer.js'
import { evaluationPost, openValidator, type Predictions } from '../train/validate.js'
import { achievedFraction, achievedText, memoryPlan } from './cost.js'
import { runPictures } from './run-pictures.js'

export type { RunEvent } from '../train/events.js'
export type { DisplayOptions } from '../train/progress.js'
export { listenToSignals, SIGNAL_EXIT } from '../train/signals.js'

export interface TrainOptions {
  /** Name of the run folder; default `run.name`, then `run`. */
  name?: string
  /** Folder below `run.root`; default `train`. */
  command?: string
  /** Goes on with this run: its folder or a file in it. `config` must be that of the run except for what may change. */
  resume?: string
  /** Checkpoint or weight file whose parameters a new run starts from; wins over `model.weights`. */
  init?: string
  /** Empties and uses the newest folder of that name again. */
  existOk?: boolean
  /** Acts like the first SIGINT. */
  signal?: AbortSignal
  /** Obey SIGINT, SIGTERM, SIGHUP and SIGUSR2 of this process while the run goes on. */
  handleSignals?: boolean
  /** Where progress is shown; default nowhere. */
  display?: DisplayOptions
  /** Print where the time of the steps went, and keep it as profile.json in the run folder. */
  profile?: boolean
  /** Command line to record. */
  argv?: string[]
}

export interface TrainResult {
  directory: string
  status: 'finished' | 'interrupted'
  /** null when finished; a signal's name, `stop` (asked by program) or `time` (run.timeHours). */
  stopped: string | null
  best: Best | null
  /** Last row of results.csv by column; null when no epoch ended. */
  final: Record<string, number> | null
  /** Updates left out because of non-finite numbers. */
  skipped: number
  step: number
}

export interface TrainRun {
  /** Records from now on; each call gives a reader of its own, ending after `end`. */
  events(): AsyncIterableIterator<RunEvent>
  done: Promise<TrainResult>
  /** Finish the step, save, end. */
  requestStop(): void
  /** Save after the step and go on. */
  requestCheckpoint(): void
}

/** Starts or resumes a run. Errors reject `done`. */
export function train(config: Config, options: TrainOptions = {}): TrainRun {
  const control: Control = { stop: null, save: false }
  const channel = new EventChannel()
  const stop = (reason: string) => {
    control.stop ??= reason
  }
  const onAbort = () => stop('stop')
  if (options.signal?.aborted) onAbort()
  options.signal?.addEventListener('abort', onAbort)
  const save = () => {
    control.save = true
  }
  const unlisten = options.handleSignals
    ? listenToSignals({ requestStop: stop, requestCheckpoint: save })
    : () => undefined
  const hours = config.run.timeHours
  const timer = hours === null ? undefined : setTimeout(() => stop('time'), Math.min(hours * 3_600_000, 2 ** 31 - 1))
  const done = execute(config, options, control, channel).finally(() => {
    channel.close()
    clearTimeout(timer)
    unlisten()
    options.signal?.removeEventListener('abort', onAbort)
  })
  return { events: () => channel.read(), done, requestStop: () => stop('stop'), requestCheckpoint: save }
}

/** The configuration of an existing run with overrides: what `train --resume` and evaluation start from. */
export async function runConfig(run: string, set: Record<string, unknown> = {}): Promise<Config> {
  const folder = await findRunFolder(run)
  return (await loadConfig({ file: join(folder, 'config.resolved.yaml'), set, hasWeights: true })).config
}

async function execute(
  given: Config,
  options: TrainOptions,
  control: Control,
  channel: EventChannel,
): Promise<TrainResult> {
  const config = withAbsolutePaths(given, options)
  const phases = phasesOf(config)
  let dataset: Dataset | undefined
  let session: Session | undefined
  let unlock: () => Promise<void> = async () => undefined
  try {
    // Before the checkpoints are looked at: another process could still replace them.
    if (options.resume !== undefined) unlock = await lockRun(await findRunFolder(options.resume))
    const resumed = options.resume === undefined ? undefined : await openResume(options.resume, config)
    dataset = await openDataset(config)
    const identity = identityOf(dataset, config)
    if (resumed) refuseOtherData(resumed.provenance.dataset, identity, dataset.set.folder)
    const { data, samplers } = trainingPhases(dataset, config, phases)
    const engine = native()
    const threads = engineThreads(config.run.threads)
    const machine = await engine.configure(threads.count)
    const gain =
      config.run.precision === 'fp32'
        ? null
        : await measurePrecision(sessionConfig(config), openSession, () => performance.now())
    session = await openSession(sessionConfig(config))
    await session.update({ post: evaluationPost(config) })
    // A file that does not fit is told before there is a run folder.
    const initial =
      resumed || config.model.weights === null
        ? null
        : await loadInitialWeights(session, config.model.weights, {
            config: detectorConfig(config).model,
            classes: config.data.classes,
          })
    const folder =
      resumed?.folder ??
      (await createRunFolder(config.run.root, options.command ?? 'train', runName(config, options), options.existOk))
    if (!resumed) unlock = await lockRun(folder)
    const start = resumed ? await restore(session, resumed) : { state: freshState(), broken: [], from: null }
    const display = createDisplay(
      options.display ?? { write: () => undefined, isTty: false, columns: 80, mode: 'quiet', logEvery: 1 },
    )
    const log = await openRunLog({
      folder,
      fppi: config.evaluate.fppi,
      channel,
      resumed: resumed ? { step: start.state.step, epochs: start.state.epochsDone } : null,
      show: { event: display.event, say: display.say },
    })
    let record: RunRecord | undefined
    try {
      record = resumed ? await readRunRecord(folder) : newRecord(folder, config, options, dataset, identity)
      record = {
        ...record,
        ...{
          status: 'running',
          endedAt: null,
          addon: addonRecord(engine.buildInfo()),
          host: hostRecord(),
          tool: toolRecord(),
        },
        env: recordedEnv(process.env),
        devices: [
          { name: config.run.device, capability: machine.capability, threads: machine.threads, bf16: machine.bf16 },
        ],
        parents: resumed ? [...record.parents, folder] : record.parents,
      }
      await writeRunRecord(folder, record)
      log.say(
        `${folder}   ${config.run.device}   ${config.run.precision}   ${trainingIds(dataset, config).length} images`,
      )
      log.say(`engine: ${machine.threads} threads (${threads.reason}), ${machine.capability}; ${repeatability(config)}`)
      const init = resumed ? record.init : await recordInit(initial, folder, log)
      const provenance = resumed?.provenance ?? provenanceOf(config, dataset, identity, init)
      record = { ...record, init }
      if (!resumed) await writeDescription(folder, config, dataset)
      announce(log, phases, data, dataset, gain)
      const { residentBytes } = await engine.memory()
      for (const [i, phase] of phases.entries()) {
        const size = largestSize(config, phase, samplers[i]!.images)
        const plan = await memoryPlan(config, phase, size, residentBytes)
        if (plan === undefined) continue
        if (!plan.fits) log.event({ type: 'warning', code: 'MEMORY', message: plan.message })
        log.say(`${plan.fits ? 'memory' : 'warning: memory'}: ${plan.message}`)
      }
      for (const message of start.broken) {
        log.event({ type: 'warning', code: 'CHECKPOINT', message })
        log.say(`warning: ${message}; going on from ${start.from}`)
      }
      log.event({
        type: resumed ? 'resume' : 'start',
        run: record.id,
        step: start.state.step,
        configHash: configHash(config),
      })

      const validation = openValidator(session, dataset, config, phases, (done, total) =>
        display.note(`evaluating ${done}/${total}`),
      )
      if (validation.empty) log.say('warning: the split has no validation images; no best checkpoint is chosen')
      const pictures = runPictures(folder, config, phases, samplers, dataset, log, () => performance.now())
      if (!resumed) await pictures.training()
      const memory = async () => {
        const { deviceBytes, residentBytes } = await engine.memory()
        return { deviceBytes, hostBytes: residentBytes }
      }
      const stepTimes: StepTimes[] = []
      const end = await runTraining(
        {
          ...{ config, phases, session, data, folder, log, control, memory },
          clock: () => performance.now(),
          show: display.standing,
          ...(options.profile ? { profile: (times: StepTimes) => stepTimes.push(times) } : {}),
          epochEnded: (_, evaluated) => pictures.epoch(evaluated ? validation.predictions() : undefined),
          validate: (...given) =>
            validation.run(...given).catch((error: unknown) => {
              throw inEvaluation(error, folder)
            }),
          async save(state, kinds, metric) {
            const metadata = { format: CHECKPOINT_FORMAT, run: record!.id, config, state, provenance } as const
            const sha256 = await writeCheckpoint(session!, folder, metadata)
            log.event({
              type: 'checkpoint',
              path: join('checkpoints', 'last.safetensors'),
              sha256,
              step: state.step,
              metric,
              kinds,
            })
            await promoteCheckpoint(folder, kinds, state.epochsDone)
            if (kinds.includes('best')) await storePredictions(folder, validation.predictions(), config)
            await log.flush()
          },
        },
        start.state,
      )
      await pictures.close()
      display.close()
      if (options.profile) {
        const measured = stepTimes.slice(1)
        const profile = profileOf(measured)
        const achieved = await achievedFraction(config, measured)
        await writeFileAtomic(join(folder, 'profile.json'), `${JSON.stringify({ ...profile, achieved }, null, 1)}\n`)
        for (const line of profileTable(profile)) log.say(line)
        if (achieved !== undefined) log.say(achievedText(achieved))
      }
      const status = end.stopped === null ? 'finished' : 'interrupted'
      const { best, skipped, step, wallSeconds } = end.state
      const final = end.final ?? (record.final as Record<string, number> | null)
      const peakMemory = await engine.memory()
      record = { ...record, status, endedAt: new Date().toISOString(), best, final, wallSeconds, peakMemory }
      await writeRunRecord(folder, record)
      log.event({ type: 'end', status, step })
      log.say(ending(end.stopped, best, skipped))
      log.say(folder)
      return { directory: folder, status, stopped: end.stopped, best, final, skipped, step }
    } catch (error) {
      display.close()
      await recordFailure(folder, record, log, error)
      throw error
    } finally {
      await log.end()
    }
  } finally {
    await session?.dispose()
    await dataset?.close()
    await unlock()
  }
}

/** Paths must survive another working directory on resume. */
function withAbsolutePaths(config: Config, options: TrainOptions): Config {
  const weights = options.init ?? config.model.weights
  return {
    ...config,
    data: { ...config.data, root: config.data.root === null ? null : resolve(config.data.root) },
    model: { ...config.model, weights: weights === null ? null : resolve(weights) },
  }
}

function runName(config: Config, options: TrainOptions): string {
  return options.name ?? config.run.name ?? 'run'
}

interface Resume {
  folder: string
  candidates: Candidate[]
  broken: string[]
  provenance: Provenance
}

async function openResume(target: string, config: Config): Promise<Resume> {
  const folder = await findRunFolder(target)
  const events = parseEvents(await readFile(join(folder, 'events.jsonl'), 'utf8').catch(() => ''))
  const { candidates, broken } = await resumeCandidates(folder, events)
  const newest = candidates[0]
  if (newest === undefined) throw nothingToResume(folder, broken)
  refuseOtherConfig(newest.metadata.config, config)
  return { folder, candidates, broken, provenance: newest.metadata.provenance }
}

function nothingToResume(folder: string, broken: readonly string[]): TrainingError {
  return new TrainingError(
    'CHECKPOINT',
    broken.length === 0
      ? 'expected a checkpoint to go on from, the run has none'
      : `no usable checkpoint: ${broken.join('; ')}`,
    {
      where: join(folder, 'checkpoints'),
      fix: 'start a new run; --init with best.safetensors or an epoch file keeps its weights',
    },
  )
}

/** Loads the newest checkpoint that loads. */
async function restore(
  session: Session,
  resume: Resume,
): Promise<{ state: TrainingState; broken: string[]; from: string | null }> {
  const broken = [...resume.broken]
  for (const { path, metadata } of resume.candidates) {
    try {
      await session.loadCheckpoint(path, 'all')
      return { state: metadata.state, broken, from: path }
    } catch (error) {
      if (!(error instanceof TrainingError)) throw error
      broken.push(`${path}: ${error.message}`)
    }
  }
  throw nothingToResume(resume.folder, broken)
}

/** Prints and stores where the weights came from. */
async function recordInit(initial: InitialWeights | null, folder: string, log: RunLog): Promise<RunRecord['init']> {
  if (initial === null) return null
  const { report, lines } = initial
  await writeFileAtomic(join(folder, 'init.json'), `${JSON.stringify(report, null, 2)}\n`)
  for (const line of lines) log.say(line)
  for (const hint of report.hints) {
    log.event({ type: 'warning', code: 'WEIGHTS', message: hint })
    log.say(`warning: ${hint}`)
  }
  return { source: basename(report.source), sha256: report.sha256 }
}

function identityOf(dataset: Dataset, config: Config): DatasetIdentity {
  const { adapter, sourceHash, cacheHash, splitHash } = dataset.set.header
  return { adapter, hash: sourceHash, cacheHash, splitHash, fold: config.data.fold }
}

function provenanceOf(
  config: Config,
  dataset: Dataset,
  identity: DatasetIdentity,
  init: RunRecord['init'],
): Provenance {
  return {
    tool: toolRecord().version,
    commit: toolRecord().commit,
    dataset: identity,
    normalise: { kind: config.input.normalise, ...dataset.statistics },
    classes: config.data.classes,
    spacingMm: trainingSpacing(dataset, config),
    crop: dataset.set.header.options.crop,
    init,
    leak: dataset.leak,
  }
}

function newRecord(
  folder: string,
  config: Config,
  options: TrainOptions,
  dataset: Dataset,
  identity: DatasetIdentity,
): RunRecord {
  const { deterministic, precision, seed } = config.run
  const count = (part: 'train' | 'val' | 'test') => partIds(dataset.set, part, config.data.fold).length
  const startedAt = new Date().toISOString()
  return {
    schema: RUN_SCHEMA,
    id: createHash('sha256').update(`${folder} ${startedAt} ${process.pid}`).digest('hex').slice(0, 16),
    name: basename(folder),
    command: options.command ?? 'train',
    argv: options.argv ?? [],
    status: 'running',
    startedAt,
    endedAt: null,
    parents: options.init === undefined ? [] : [options.init],
    ...{ tool: null, addon: null, host: null, devices: [], env: {} },
    seeds: { run: seed },
    // LibTorch's own default on CUDA is not asked for here.
    numerics: { deterministic, tf32: config.run.device === 'cpu' ? false : null, precision },
    dataset: {
      ...identity,
      labelRules: dataset.set.header.labelRules,
      split: { train: count('train'), val: count('val'), test: count('test') },
      leak: dataset.leak,
    },
    ...{ init: null, best: null, final: null, wallSeconds: 0, peakMemory: null, energyJoules: null },
  }
}

/** Parameters that overflow show in the evaluation when the step that made them was the last of its epoch. */
function inEvaluation(error: unknown, folder: string): unknown {
  if (!(error instanceof TrainingError) || error.code !== 'ERR_MAMMO_NON_FINITE_LOSS') return error
  return new TrainingError(
    'NON_FINITE_LOSS',
    `evaluation: expected finite outputs of the network, got others (${error.message})`,
    {
      where: folder,
      fix: 'lower train.lr, or run.precision=fp32; checkpoints/last.safetensors is the last good state, if there is one',
      cause: error,
    },
  )
}

function addonRecord({ functions: _, ...record }: BuildInfo): Omit<BuildInfo, 'functions'> {
  return record
}

/** Files that say what the run is made of. */
async function writeDescription(folder: string, config: Config, dataset: Dataset): Promise<void> {
  const { records, split } = dataset.set
  const fold = split.folds[config.data.fold ?? 0]!
  const byId = new Map(records.map((record) => [record.id, record]))
  const part = (ids: readonly string[]) =>
    ids.map((id) => ({ id, patient: byId.get(id)!.patient, sha256: byId.get(id)!.cache.sha256 }))
  const json = (value: unknown) => `${JSON.stringify(value, null, 1)}\n`
  await writeFileAtomic(join(folder, 'config.resolved.yaml'), stringify(config, { lineWidth: 0 }))
  await writeFileAtomic(
    join(folder, 'data', 'split.json'),
    json({
      method: split.method,
      fold: config.data.fold,
      train: part(fold.train),
      val: part(fold.val),
      test: part(fold.test),
    }),
  )
  await writeFileAtomic(
    join(folder, 'data', 'summary.json'),
    json({ statistics: dataset.statistics, trained: trainingIds(dataset, config).length, warnings: dataset.warnings }),
  )
}

async function storePredictions(folder: string, detections: Predictions, config: Config): Promise<void> {
  const { scoreThreshold, split } = config.evaluate
  const part = split === 'train' ? 'train' : 'val'
  const { nmsIou } = config.predict
  const info = { split: part, source: 'checkpoints/best.safetensors', scoreThreshold, nmsIou }
  await writePredictions(join(folder, 'eval', 'predictions.coco.json'), { info, detections }, config.data.classes)
}

function announce(
  log: RunLog,
  phases: readonly Phase[],
  data: readonly PhaseData[],
  dataset: Dataset,
  gain: PrecisionGain | null,
): void {
  const warn = (code: string, message: string) => {
    log.event({ type: 'warning', code, message })
    log.say(`warning: ${message}`)
  }
  for (const message of dataset.warnings) warn('SPLIT', message)
  if (gain !== null && gain.gain < 1) warn('PRECISION', describeGain(gain))
  else if (gain !== null) log.say(describeGain(gain))
  for (const [i, phase] of phases.entries()) {
    const { total, perEpoch } = courseOf(phase, data[i]!)
    const batch = phase.accumulate === 1 ? `${phase.batchSize}` : `${phase.batchSize} x ${phase.accumulate}`
    log.say(
      `plan: ${phase.name}, ${phase.strategy}, ${phase.epochs} epochs x ${perEpoch} updates of ${batch} images, peak lr ${phase.lr}`,
    )
    const { kind, warmupSteps } = phase.schedule
    if (kind !== 'onecycle' && warmupSteps >= total) {
      warn(
        'SCHEDULE',
        `phase ${phase.name} has ${total} updates and never leaves the warm-up of ${warmupSteps}; lower train.schedule.warmupSteps`,
      )
    }
  }
}

/** Rows and columns that hold every image of a phase, before padding. */
function largestSize(config: Config, phase: Phase, images: readonly SamplerImage[]): [number, number] {
  const { patch, resize } = config.data
  if (phase.strategy === 'crops') return [patch.size, patch.size]
  const most = (side: 'height' | 'width') =>
    Math.max(
      ...images.map((image) => Math.round(image[side] * (phase.strategy === 'resized' ? scaleOf(image, resize) : 1))),
    )
  return [most('height'), most('width')]
}

function repeatability(config: Config): string {
  if (config.run.deterministic) return 'bit-repeatable on this machine with these threads'
  return 'not bit-repeatable (run.deterministic is false)'
}

function ending(stopped: string | null, best: Best | null, skipped: number): string {
  const how = stopped === null ? 'finished' : `stopped (${stopped}); go on with --resume`
  const top = best === null ? 'no best epoch' : `best epoch ${best.epoch}: ${best.metric} ${best.value.toPrecision(4)}`
  return `${how}; ${top}${skipped > 0 ? `; ${skipped} updates skipped` : ''}`
}

/** Keeps what went wrong beside the results; a disk that is full must not hide the first error. */
async function recordFailure(
  folder: string,
  record: RunRecord | undefined,
  log: RunLog,
  error: unknown,
): Promise<void> {
  const known = asMammoError(error)
  try {
    log.event({ type: 'error', code: known.code, message: known.message, details: known.details })
    log.event({ type: 'end', status: 'failed', step: log.step })
    // The caller shows it.
    log.note(`error ${known.code}: ${known.message}`)
    const failed = {
      status: 'failed',
      endedAt: new Date().toISOString(),
      error: { code: known.code, message: known.message },
    } as const
    if (record !== undefined) await writeRunRecord(folder, { ...record, ...failed })
  } catch {
    return
  }
}

function configHash(config: Config): string {
  return createHash('sha256').update(JSON.stringify(config)).digest('hex')
}

/** Where a run keeps the checkpoint that `name` means: `last`, `best`, `epoch_0010`. */
export function runCheckpoint(folder: string, name: string): string {
  return checkpointPath(folder, name)
}
