// Runs an ONNX file through onnxruntime-node: the only file that imports it. `run` blocks the calling thread although it returns a
// promise, so it is called from worker threads and child processes, never from the main thread.
import * as ort from 'onnxruntime-node'
import { DataError, DeviceError } from '../errors.js'

export interface Tensor {
  dims: number[]
  data: Float32Array | Uint16Array | BigInt64Array
}

export interface RuntimeOptions {
  /** Threads of one run; the caller fits them to the container. */
  threads: number
  /** Keep freed memory for later tensors: a tenth of the time less, but up to 1.4 times the peak at full resolution. Off by default. */
  keepMemory?: boolean
  /** Keep worker threads spinning between operators: faster alone, harmful when several workers share the cores. */
  spin?: boolean
  /** `cpu` by default; `cuda` needs onnxruntime's own GPU libraries, which the npm package does not hold. */
  device?: 'cpu' | 'cuda'
}

export interface OnnxSession {
  inputs: readonly string[]
  outputs: readonly string[]
  run(feeds: Record<string, Tensor>): Promise<Record<string, Tensor>>
  close(): Promise<void>
}

/** Version of the runtime library, for records. */
export function runtimeVersion(): string {
  return ort.env.versions.node ?? ort.env.versions.common
}

/** Loads a model. Throws DataError MODEL_MANIFEST when the file is not a model this runtime accepts. */
export async function openOnnx(path: string, options: RuntimeOptions): Promise<OnnxSession> {
  const { device = 'cpu' } = options
  let session: ort.InferenceSession
  try {
    session = await ort.InferenceSession.create(path, {
      executionProviders: [device],
      intraOpNumThreads: options.threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      enableCpuMemArena: options.keepMemory === true,
      // Plans of allocations by shape: measured without gain, and with more memory.
      enableMemPattern: false,
      logSeverityLevel: 3,
      extra: { session: { intra_op: { allow_spinning: options.spin ? '1' : '0' } } },
    })
  } catch (cause) {
    if (device === 'cuda') {
      throw new DeviceError('NO_CUDA', `expected onnxruntime with its CUDA provider and a GPU, got: ${reason(cause)}`, {
        where: path,
        fix: 'install onnxruntime-node with its GPU libraries (its install script fetches them on Linux x64 unless it is skipped), CUDA and cuDNN; or use --device cpu',
      })
    }
    throw new DataError('MODEL_MANIFEST', `expected an ONNX model that onnxruntime loads: ${reason(cause)}`, {
      where: path,
      fix: 'export the model again; a truncated or edited file cannot be used',
    })
  }
  return {
    inputs: session.inputNames,
    outputs: session.outputNames,
    async run(feeds) {
      try {
        const tensors = Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, toOrt(tensor)]))
        const results = await session.run(tensors)
        return Object.fromEntries(session.outputNames.map((name) => [name, fromOrt(results[name]!)]))
      } catch (cause) {
        throw new DeviceError('WORKER_LOST', `expected the model to run, got: ${reason(cause)}`, {
          where: path,
          fix: 'check the input shape against the manifest; with too little memory use fewer workers',
        })
      }
    },
    close: () => session.release(),
  }
}

function toOrt({ data, dims }: Tensor): ort.Tensor {
  if (data instanceof Float32Array) return new ort.Tensor('float32', data, dims)
  if (data instanceof Uint16Array) return new ort.Tensor('uint16', data, dims)
  return new ort.Tensor('int64', data, dims)
}

function fromOrt(tensor: ort.Tensor): Tensor {
  return { dims: [...tensor.dims], data: tensor.data as Float32Array | BigInt64Array }
}

/** The runtime's own words without file names: they may hold paths of patients' folders. */
function reason(cause: unknown): string {
  const text = cause instanceof Error ? cause.message : String(cause)
  return text.replace(/(?:\/[^\s:'"]+)+/g, '…').slice(0, 500)
}
