// `loadDetector`: a pool of workers behind a bounded queue. Bytes or a path go in, detections in pixels of the whole image come out; the
// caller's thread only queues. Needs onnxruntime-node, not the addon and not LibTorch. Specified in inference spec, section 2.2.
import { DeviceError, type MammoError, UsageError } from '../errors.js'
import { checkModelFile, type ModelManifest, readManifest } from '../onnx/manifest.js'
import { OPSET } from '../onnx/model.js'
import { type Isolation, type Lane, openLane } from './lane.js'
import type { Job, Source, WorkerSetup } from './lane-protocol.js'
import type { InputOptions } from './preprocess.js'
import type { Prediction } from './results.js'
import { fitThreads } from './threads.js'

export type { Source } from './lane-protocol.js'

export interface DetectorOptions {
  /** Loaded copies of the model; 1 by default. */
  workers?: number
  /** Threads of one worker; by default the usable cores divided by the workers. */
  threadsPerWorker?: number
  /** `cpu` by default; `cuda` where onnxruntime-node has its GPU libraries, otherwise the load is refused. */
  device?: 'cpu' | 'cuda'
  /** `thread` (default), or `process`: slower to start, but can be killed in the middle of a run. */
  isolation?: Isolation
  /** Calls that may wait, 16 by default; one more is refused with QUEUE_FULL. */
  queueLimit?: number
  /** Bytes of images that may wait, 1 GiB by default. */
  queueBytes?: number
  /** Limit for one call, waiting included; none by default. */
  timeoutMs?: number
  /** How long a worker may take to end, and a cancelled run in a process to go on before it is killed; 5000 by default. */
  graceMs?: number
  /** Run once before ready: true for the model's own shape (256 x 256 multiples when dynamic), or the given sizes. */
  warmup?: boolean | [number, number][]
}

export interface PredictOptions extends InputOptions {
  /** Scores below are left out; the manifest's default threshold by default. */
  threshold?: number
  signal?: AbortSignal
  /** Higher goes first; 0 by default. */
  priority?: number
  timeoutMs?: number
  /** Name of the image in the result; the file name by default. */
  id?: string
  /** Accept files that do not call themselves mammograms. */
  assumeMammogram?: boolean
  /** Frame (DICOM) or page (TIFF), from 0; naming one accepts multi-frame files. */
  frame?: number
  /** Hand the source's buffer over to the worker thread instead of copying it; it is unusable afterwards. */
  transfer?: boolean
}

export interface Detector {
  readonly manifest: ModelManifest
  readonly workers: number
  readonly threadsPerWorker: number
  /** Predicts one image. Rejects with QUEUE_FULL, CANCELLED, TIMEOUT, DISPOSED, MODEL_NOT_READY, WORKER_LOST, or a data error. */
  predict(source: Source, options?: PredictOptions): Promise<Prediction>
  /**
   * Predicts many, in input order, and pulls input only as capacity allows. A failing image ends the loop with its error, unless
   * `onError` takes it.
   */
  predictAll(
    sources: Iterable<Source> | AsyncIterable<Source>,
    options?: PredictOptions & { onError?: (source: Source, error: MammoError) => void },
  ): AsyncGenerator<Prediction, void, undefined>
  /** Ends the workers; with `drain` after the queue is done, otherwise queued calls are rejected with CANCELLED. Idempotent. */
  close(options?: { drain?: boolean }): Promise<void>
}

interface Call {
  job: Job
  priority: number
  bytes: number
  transfer: boolean
  /** Rejected already: its result will be dropped. */
  settled: boolean
  resolve(prediction: Prediction): void
  reject(error: MammoError): void
}

const GRACE_MS = 5000
const LOSS_WINDOW_MS = 60_000
const LOSS_LIMIT = 3
const DEFAULT_QUEUE_BYTES = 2 ** 30
const DYNAMIC_WARMUP = 256

/** Loads an exported model. Throws DataError MODEL_MANIFEST when model and manifest do not belong together. */
export async function loadDetector(model: string, options: DetectorOptions = {}): Promise<Detector> {
  const manifest = await readManifest(model)
  await checkModelFile(model, manifest, OPSET)
  if (manifest.graph !== 'detect') {
    throw new UsageError('ARGUMENT', 'expected a model with the graph "detect", got "heads"', {
      where: model,
      fix: 'export the model with --graph detect',
    })
  }
  const { workers, threadsPerWorker } = fitThreads(options.workers, options.threadsPerWorker)
  const isolation = options.isolation ?? 'thread'
  const setup: WorkerSetup = {
    model,
    manifest,
    threads: threadsPerWorker,
    spin: workers === 1,
    device: options.device ?? 'cpu',
    warmup: warmupSizes(options.warmup ?? true, manifest),
  }
  const open = () => openLane(isolation, setup)
  const started = await Promise.allSettled(Array.from({ length: workers }, open))
  const lanes = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  const failed = started.find((result) => result.status === 'rejected')
  if (failed) {
    await Promise.all(lanes.map((lane) => lane.stop(GRACE_MS)))
    throw failed.reason
  }
  return createDetector(manifest, lanes, open, { ...options, workers, threadsPerWorker })
}

function warmupSizes(warmup: boolean | [number, number][], { shape, input }: ModelManifest): [number, number][] {
  if (Array.isArray(warmup)) return warmup
  if (!warmup) return []
  if (shape !== 'dynamic') return [[shape[0], shape[1]]]
  const side = Math.ceil(DYNAMIC_WARMUP / input.padMultiple) * input.padMultiple
  return [[side, side]]
}

/** The queue over given lanes; `open` replaces a lost one. Exported for tests with lanes of their own. */
export function createDetector(
  manifest: ModelManifest,
  lanes: Lane[],
  open: () => Promise<Lane>,
  options: DetectorOptions & { workers: number; threadsPerWorker: number },
): Detector {
  const queueLimit = options.queueLimit ?? 16
  const queueBytes = options.queueBytes ?? DEFAULT_QUEUE_BYTES
  const graceMs = options.graceMs ?? GRACE_MS
  // Workers killed because their caller went away: replaced, but no sign of trouble.
  const dismissed = new WeakSet<Lane>()
  const waiting: Call[] = []
  const idle = [...lanes]
  const all = new Set(lanes)
  const losses: number[] = []
  const assigned = new Map<Call, Lane>()
  let running = 0
  let notReady: MammoError | undefined
  let closing: Promise<void> | undefined
  let onIdle: (() => void) | undefined

  const settle = (call: Call, act: () => void) => {
    if (call.settled) return
    call.settled = true
    act()
  }
  const isIdle = () => running === 0 && waiting.length === 0
  const fail = (error: MammoError) => {
    notReady = error
    for (const call of waiting.splice(0)) settle(call, () => call.reject(error))
    if (isIdle()) onIdle?.()
  }
  const watch = (lane: Lane) => void lane.ended.then(() => lose(lane))
  const lose = (lane: Lane) => {
    if (!all.delete(lane)) return
    const at = idle.indexOf(lane)
    if (at >= 0) idle.splice(at, 1)
    if (closing && waiting.length === 0) return
    const now = performance.now()
    if (!dismissed.has(lane)) losses.push(now)
    while (losses.length > 0 && losses[0]! < now - LOSS_WINDOW_MS) losses.shift()
    if (losses.length < LOSS_LIMIT) {
      open().then(adopt, fail)
      return
    }
    fail(
      new DeviceError('MODEL_NOT_READY', `expected running workers, got ${losses.length} lost within a minute`, {
        fix: 'check memory and the model file, then load the detector again',
      }),
    )
  }
  const adopt = (lane: Lane) => {
    if (closing && waiting.length === 0) {
      void lane.stop(graceMs)
      return
    }
    all.add(lane)
    idle.push(lane)
    watch(lane)
    dispatch()
  }
  const dispatch = () => {
    while (waiting.length > 0 && idle.length > 0) {
      const call = waiting.shift()!
      const lane = idle.shift()!
      running++
      assigned.set(call, lane)
      const finish = () => {
        running--
        assigned.delete(call)
        if (lane.alive()) idle.push(lane)
        dispatch()
        if (isIdle()) onIdle?.()
      }
      lane
        .run(call.job, call.transfer)
        .then(
          (prediction) => settle(call, () => call.resolve(prediction)),
          (error: MammoError) => settle(call, () => call.reject(error)),
        )
        .finally(finish)
    }
  }
  for (const lane of lanes) watch(lane)

  /** Takes a call out of the queue, or lets its running work go; in a process it is killed after `killAfterMs`. */
  const abandon = (call: Call, reason: MammoError, killAfterMs: number) => {
    const at = waiting.indexOf(call)
    if (at >= 0) waiting.splice(at, 1)
    settle(call, () => call.reject(reason))
    if (isIdle()) onIdle?.()
    const lane = assigned.get(call)
    if (!lane || (options.isolation ?? 'thread') === 'thread') return
    const kill = () => {
      if (assigned.get(call) !== lane) return
      if (reason.code === 'ERR_MAMMO_CANCELLED') dismissed.add(lane)
      lane.kill()
    }
    if (killAfterMs === 0) kill()
    else setTimeout(kill, killAfterMs).unref()
  }

  const predict = (source: Source, given: PredictOptions = {}): Promise<Prediction> => {
    const { threshold, signal, priority = 0, timeoutMs = options.timeoutMs, transfer = false, ...rest } = given
    const { assumeMammogram, frame, ...input } = rest
    const read: Job['read'] = {
      allowForProcessing: manifest.input.presentationIntents.includes('FOR PROCESSING'),
      ...(assumeMammogram === undefined ? {} : { assumeMammogram }),
      ...(frame === undefined ? {} : { frame }),
    }
    if (closing) return Promise.reject(new UsageError('DISPOSED', 'expected an open detector, got one that was closed'))
    if (notReady) return Promise.reject(notReady)
    if (signal?.aborted) return Promise.reject(cancelled())
    const bytes = sourceBytes(source)
    const queued = waiting.reduce((sum, call) => sum + call.bytes, bytes)
    const mustWait = idle.length === 0 || waiting.length > 0
    if (mustWait && (waiting.length >= queueLimit || queued > queueBytes)) {
      return Promise.reject(
        new UsageError(
          'QUEUE_FULL',
          `expected at most ${queueLimit} waiting images and ${queueBytes} bytes, got one more`,
          {
            fix: 'wait for a result before the next call, or raise queueLimit',
          },
        ),
      )
    }
    const floor = manifest.output.scoreFloor
    const wanted = threshold ?? manifest.defaultThreshold
    if (!(wanted >= 0 && wanted <= 1)) {
      return Promise.reject(
        new UsageError('ARGUMENT', `expected a threshold from 0 to 1, got ${wanted}`, {
          fix: `give a score such as ${manifest.defaultThreshold}, the default of the model`,
        }),
      )
    }
    if (wanted < floor) {
      return Promise.reject(
        new UsageError(
          'ARGUMENT',
          `expected a threshold of at least ${floor}, the floor inside the model, got ${wanted}`,
          {
            fix: 'export with a lower scoreFloor',
          },
        ),
      )
    }
    return new Promise<Prediction>((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined
      const onAbort = () => abandon(call, cancelled(), graceMs)
      const done = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
      }
      const call: Call = {
        job: { source, threshold: wanted, read, ...input },
        priority,
        bytes,
        transfer,
        settled: false,
        resolve(prediction) {
          done()
          resolve(prediction)
        },
        reject(error) {
          done()
          reject(error)
        },
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      if (timeoutMs !== undefined) {
        timer = setTimeout(() => {
          const message = `expected a result within ${timeoutMs} ms, got none`
          abandon(
            call,
            new DeviceError('TIMEOUT', message, { fix: 'raise timeoutMs, or use more workers or cores' }),
            0,
          )
        }, timeoutMs)
      }
      const after = waiting.findIndex((other) => other.priority < priority)
      waiting.splice(after < 0 ? waiting.length : after, 0, call)
      dispatch()
    })
  }

  async function* predictAll(
    sources: Iterable<Source> | AsyncIterable<Source>,
    given: PredictOptions & { onError?: (source: Source, error: MammoError) => void } = {},
  ): AsyncGenerator<Prediction, void, undefined> {
    const { onError, ...each } = given
    const ahead = Math.min(2 * options.workers, options.workers + queueLimit)
    const open: { source: Source; result: Promise<Prediction | MammoError> }[] = []
    const take = async (): Promise<Prediction | undefined> => {
      const { source, result } = open.shift()!
      const value = await result
      if (!(value instanceof Error)) return value
      if (!onError) throw value
      onError(source, value)
      return undefined
    }
    for await (const source of sources) {
      open.push({ source, result: predict(source, each).catch((reason: MammoError) => reason) })
      if (open.length < ahead) continue
      const value = await take()
      if (value) yield value
    }
    while (open.length > 0) {
      const value = await take()
      if (value) yield value
    }
  }

  const close = async ({ drain = false } = {}): Promise<void> => {
    closing ??= (async () => {
      if (!drain) for (const call of waiting.splice(0)) settle(call, () => call.reject(cancelled()))
      if (running > 0 || waiting.length > 0) {
        await new Promise<void>((resolve) => {
          onIdle = resolve
        })
      }
      await Promise.all([...all].map((lane) => lane.stop(graceMs)))
      all.clear()
    })()
    return closing
  }

  return {
    manifest,
    workers: options.workers,
    threadsPerWorker: options.threadsPerWorker,
    predict,
    predictAll,
    close,
  }
}

function cancelled(): UsageError {
  return new UsageError('CANCELLED', 'expected a result, but the call was cancelled')
}

function sourceBytes(source: Source): number {
  if (typeof source === 'string') return 0
  return 'bytes' in source ? source.bytes.byteLength : source.data.byteLength
}
