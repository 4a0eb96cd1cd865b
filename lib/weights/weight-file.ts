// One way to read a file of weights, whatever wrote it: names, shapes and types first, then one tensor at a time as float32. The kind of
// file is told by its content, not by its name. Not the meaning of the names (names.ts) nor what is taken over (import.ts).
import { open } from 'node:fs/promises'
import { TrainingError } from '../errors.js'
import { BYTES, type NumberType, toFloat32 } from './numbers.js'
import { openSafetensors } from './safetensors.js'

export interface Weights {
  shape: number[]
  data: Float32Array
}

export interface TensorEntry {
  /** As safetensors names it: F32, BF16, I64... */
  type: string
  shape: number[]
}

export interface WeightFile {
  format: 'safetensors' | 'torch' | 'keras'
  /** Texts of the header of a safetensors file. */
  metadata: Record<string, string>
  tensors: ReadonlyMap<string, TensorEntry>
  /** Tensors beside the parameters, such as optimiser states, and why they are not read. */
  outside: Record<string, string>
  /** The tensor in C order, rounded to float32. Throws TrainingError CHECKPOINT. */
  read(name: string): Promise<Weights>
  close(): Promise<void>
}

const HDF5 = '\x89HDF\r\n\x1a\n'

/** Opens .safetensors, .pth/.pt and .h5. Throws TrainingError CHECKPOINT when the file is missing, damaged, unsafe or of another kind. */
export async function openWeightFile(path: string): Promise<WeightFile> {
  const head = await firstBytes(path)
  if (head.startsWith(HDF5)) return (await import('./keras-file.js')).openKerasFile(path)
  if (head.startsWith('PK\x03\x04') || head.startsWith('\x80')) {
    return (await import('./torch-file.js')).openTorchFile(path)
  }
  if (head.charAt(8) === '{') return openTensors(path)
  throw new TrainingError(
    'CHECKPOINT',
    'expected a weight file (.safetensors, .pth of PyTorch, .h5 of Keras), its first bytes are of none of them',
    { where: path, fix: 'check the path; an interrupted download or an HTML page in its place looks like this too' },
  )
}

async function firstBytes(path: string): Promise<string> {
  const file = await open(path, 'r').catch((cause) => {
    throw new TrainingError('CHECKPOINT', 'expected a weight file, got one that cannot be opened', {
      where: path,
      fix: 'check the path and its permissions',
      cause,
    })
  })
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(16), 0, 16, 0)
    return buffer.toString('latin1', 0, bytesRead)
  } catch (cause) {
    throw new TrainingError('CHECKPOINT', 'expected a weight file, it cannot be read', { where: path, cause })
  } finally {
    await file.close()
  }
}

async function openTensors(path: string): Promise<WeightFile> {
  const file = await openSafetensors(path)
  return {
    format: 'safetensors',
    metadata: file.metadata,
    tensors: new Map([...file.tensors].map(([name, { dtype, shape }]) => [name, { type: dtype, shape }])),
    outside: {},
    async read(name) {
      const { dtype, shape } = file.tensors.get(name) ?? { dtype: 'none', shape: [] }
      if (!Object.hasOwn(BYTES, dtype)) {
        throw new TrainingError('CHECKPOINT', `expected numbers in tensor "${name}", its type is ${dtype}`, {
          where: path,
        })
      }
      return { shape, data: toFloat32(dtype as NumberType, await file.readBytes(name)) }
    },
    close: () => file.close(),
  }
}
