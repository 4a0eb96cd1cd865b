// A detector on the engine thread as seen from TypeScript: checks every argument, awaits the native call, gives errors their
// class and the caller's stack, and frees the native side. No decision about training is made here.
import { UsageError } from '../errors.js'
import { loadBinding } from './load.js'
import { translate } from './translate.js'
import type {
  BackboneGraph,
  BuildInfo,
  Detections,
  ImageBatch,
  LoadReport,
  ModelConfig,
  NativeBinding,
  ParameterInfo,
  RawOutputs,
  SessionConfig,
  SessionHandle,
  SessionUpdate,
  StepOptions,
  StepResult,
  TargetBatch,
} from './types.js'
import { checkBatch, checkStepOptions, checkTargets, checkText, describe, refuse } from './validate.js'

/** A named tensor's values, row-major. */
export interface TensorValue {
  shape: number[]
  data: Float32Array
}

/**
 * One detector with its optimiser. Calls are queued and run one after another in the order made. Wrong arguments reject with
 * UsageError ARGUMENT before anything crosses; calls after `dispose` with UsageError DISPOSED.
 */
export interface Session {
  /** The configuration it was opened with. */
  readonly config: SessionConfig
  parameters(): Promise<ParameterInfo[]>
  getTensor(name: string): Promise<TensorValue>
  /** `data` has as many elements as the parameter. */
  setTensor(name: string, data: Float32Array): Promise<void>
  /** Accumulated gradient of a trained parameter; zeros before any backward. */
  getGradient(name: string): Promise<TensorValue>
  zeroGradients(): Promise<void>
  /** Forward, loss, backward and, with `options.update`, the optimiser's step. A non-finite loss is reported in the result, not thrown. */
  trainStep(batch: ImageBatch, targets: TargetBatch, options: StepOptions): Promise<StepResult>
  /** Loss in evaluation mode, without gradients. */
  evaluateLoss(batch: ImageBatch, targets: TargetBatch): Promise<StepResult>
  detect(batch: ImageBatch): Promise<Detections>
  /** Head outputs before decoding. */
  forward(batch: ImageBatch): Promise<RawOutputs>
  /** The network's input [n, channels, h, w]. */
  preprocess(batch: ImageBatch): Promise<Float32Array>
  /** Changes what may change within a run. */
  update(update: SessionUpdate): Promise<void>
  /** Writes one .safetensors file atomically; `metadata` is JSON text. */
  saveCheckpoint(path: string, metadata: string): Promise<void>
  /** `all` restores everything, `weights` only parameters of equal name and shape. Changes nothing when it rejects. */
  loadCheckpoint(path: string, what: 'all' | 'weights'): Promise<{ metadata: string; report: LoadReport }>
  /** Frees the native side after the queued calls. Idempotent. */
  dispose(): Promise<void>
}

/** The calls of the addon that belong to no session. */
export interface Native {
  buildInfo(): BuildInfo
  /** Sets the engine's intra-op threads (>= 1); resolves to what is in force. */
  configure(threads: number): ReturnType<NativeBinding['configure']>
  /** The layers of `model.backbone`. */
  describeBackbone(model: ModelConfig): Promise<BackboneGraph>
  /** One op on given values, for tests and benchmarks; names and arguments stand in native/addon/op_calls.cc. */
  runOp(name: string, args: Record<string, unknown>): Promise<Record<string, unknown>>
  memory(): ReturnType<NativeBinding['memory']>
}

/** Runs a native call; its error is translated and carries the stack of `caller`'s call. */
async function guarded<T>(run: () => Promise<T>, site: { stack?: string }): Promise<T> {
  try {
    return await run()
  } catch (cause) {
    throw translate(cause, site)
  }
}

function here(below: (...args: never[]) => unknown): { stack?: string } {
  const site: { stack?: string } = {}
  Error.captureStackTrace(site, below)
  return site
}

/** Opens the addon. Throws BindingError BINDING_MISSING, BINDING_LOAD or BINDING_ABI with the remedy. */
export function native(): Native {
  const binding = loadBinding()
  return {
    buildInfo: () => binding.buildInfo(),
    configure: async function configure(threads) {
      if (!Number.isInteger(threads) || threads < 1) refuse('threads', 'an integer >= 1', describe(threads))
      return guarded(() => binding.configure(threads), here(configure))
    },
    describeBackbone: async function describeBackbone(model) {
      return JSON.parse(await guarded(() => binding.describeBackbone(JSON.stringify(model)), here(describeBackbone)))
    },
    runOp: async function runOp(name, args) {
      checkText('name', name)
      return guarded(() => binding.runOp(name, args), here(runOp))
    },
    memory: async function memory() {
      return guarded(() => binding.memory(), here(memory))
    },
  }
}

/**
 * Creates a detector; its parameters are initialised from `config.seed`. Rejects with ConfigError, DeviceError NO_CUDA or
 * OUT_OF_MEMORY, or a BindingError when the addon cannot be opened.
 */
export async function openSession(config: SessionConfig): Promise<Session> {
  const site = here(openSession)
  const binding = loadBinding()
  const handle = await guarded(() => binding.createSession(JSON.stringify(config)), site)
  const session = wrap(binding, handle, config)
  forgotten.register(session, { binding, handle }, session)
  return session
}

// The safety net for sessions that nobody disposed; the path is dispose().
const forgotten = new FinalizationRegistry<{ binding: NativeBinding; handle: SessionHandle }>(({ binding, handle }) => {
  binding.disposeSession(handle).catch(() => undefined)
})

function wrap(binding: NativeBinding, handle: SessionHandle, config: SessionConfig): Session {
  const { channels, classes } = config.detector.model
  let disposal: Promise<void> | undefined

  /** `prepare` checks the arguments; the native call copies them before this returns to the caller's next line. */
  async function call<T>(
    caller: (...args: never[]) => unknown,
    prepare: () => void,
    run: () => Promise<T>,
  ): Promise<T> {
    const site = here(caller)
    if (disposal !== undefined) {
      throw new UsageError('DISPOSED', `${caller.name}: the session was disposed`, { fix: 'open a new session' })
    }
    prepare()
    return guarded(run, site)
  }

  const session: Session = {
    config,
    parameters: function parameters() {
      return call(parameters, nothing, () => binding.parameters(handle))
    },
    getTensor: function getTensor(name) {
      return call(
        getTensor,
        () => checkText('name', name),
        () => binding.getTensor(handle, name),
      )
    },
    setTensor: function setTensor(name, data) {
      return call(
        setTensor,
        () => {
          checkText('name', name)
          if (!(data instanceof Float32Array)) refuse('data', 'a Float32Array', describe(data))
        },
        () => binding.setTensor(handle, name, data),
      )
    },
    getGradient: function getGradient(name) {
      return call(
        getGradient,
        () => checkText('name', name),
        () => binding.getGradient(handle, name),
      )
    },
    zeroGradients: function zeroGradients() {
      return call(zeroGradients, nothing, () => binding.zeroGradients(handle))
    },
    trainStep: function trainStep(batch, targets, options) {
      return call(
        trainStep,
        () => {
          checkTargets(targets, checkBatch(batch, channels), classes)
          checkStepOptions(options)
        },
        () => binding.trainStep(handle, batch, targets, options),
      )
    },
    evaluateLoss: function evaluateLoss(batch, targets) {
      return call(
        evaluateLoss,
        () => checkTargets(targets, checkBatch(batch, channels), classes),
        () => binding.evaluateLoss(handle, batch, targets),
      )
    },
    detect: function detect(batch) {
      return call(
        detect,
        () => checkBatch(batch, channels),
        () => binding.detect(handle, batch),
      )
    },
    forward: function forward(batch) {
      return call(
        forward,
        () => checkBatch(batch, channels),
        () => binding.forward(handle, batch),
      )
    },
    preprocess: function preprocess(batch) {
      return call(
        preprocess,
        () => checkBatch(batch, channels),
        () => binding.preprocess(handle, batch),
      )
    },
    update: function update(changes) {
      return call(update, nothing, () => binding.updateSession(handle, JSON.stringify(changes)))
    },
    saveCheckpoint: function saveCheckpoint(path, metadata) {
      return call(
        saveCheckpoint,
        () => {
          checkText('path', path)
          checkText('metadata', metadata)
        },
        () => binding.saveCheckpoint(handle, path, metadata),
      )
    },
    loadCheckpoint: function loadCheckpoint(path, what) {
      return call(
        loadCheckpoint,
        () => {
          checkText('path', path)
          if (what !== 'all' && what !== 'weights') refuse('what', "'all' or 'weights'", describe(what))
        },
        () => binding.loadCheckpoint(handle, path, what),
      )
    },
    dispose: function dispose() {
      forgotten.unregister(session)
      disposal ??= guarded(() => binding.disposeSession(handle), here(dispose))
      return disposal
    },
  }
  return session
}

const nothing = () => undefined
