// Reads and writes the safetensors container: an 8-byte length, a JSON header, raw little-endian tensors. Tensors are read one by
// one on demand, so a checkpoint with optimiser moments costs no more than what is asked for. Format: huggingface/safetensors.
import { type FileHandle, open } from 'node:fs/promises'
import { writeFileAtomic } from '../atomic-write.js'
import { TrainingError } from '../errors.js'
import { BYTES } from './numbers.js'

export type TensorType = 'F32' | 'F64' | 'I64' | 'I32' | 'U16' | 'U8'

export interface TensorInfo {
  dtype: string
  shape: number[]
  /** Byte range after the header. */
  begin: number
  end: number
}

export interface Tensor {
  shape: number[]
  data: Float32Array | Float64Array | BigInt64Array | Int32Array | Uint16Array | Uint8Array
}

export interface SafetensorsFile {
  metadata: Record<string, string>
  tensors: ReadonlyMap<string, TensorInfo>
  /** Reads one tensor. Throws TrainingError CHECKPOINT for an unknown name. */
  read(name: string): Promise<Tensor>
  /** The bytes of one tensor, little-endian. */
  readBytes(name: string): Promise<Uint8Array<ArrayBuffer>>
  /** Reads one tensor that must be float32. */
  readFloat32(name: string): Promise<{ shape: number[]; data: Float32Array }>
  close(): Promise<void>
}

const ARRAYS = {
  F32: Float32Array,
  F64: Float64Array,
  I64: BigInt64Array,
  I32: Int32Array,
  U16: Uint16Array,
  U8: Uint8Array,
} as const

const MAX_HEADER = 100_000_000

/** Also of types that only other programs write. */
const BYTES_EACH: Record<string, number> = { ...BYTES, U16: 2 }

/** Opens a file and checks its header against its size. Throws TrainingError CHECKPOINT when it is cut short or is something else. */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const file = await open(path, 'r').catch((cause) => {
    throw damaged(path, 'the file cannot be opened', cause)
  })
  try {
    const { size } = await file.stat()
    const headerLength = size < 8 ? -1 : Number((await readExactly(file, path, 0, 8)).readBigUInt64LE(0))
    if (headerLength < 2 || headerLength > MAX_HEADER || 8 + headerLength > size) {
      throw damaged(path, `the first 8 bytes do not give the length of a header in a file of ${size} bytes`)
    }
    const { metadata, tensors } = parseHeader(path, await readExactly(file, path, 8, headerLength))
    const base = 8 + headerLength
    for (const [name, info] of tensors) {
      if (base + info.end > size) throw damaged(path, `tensor "${name}" ends beyond the file (${size} bytes)`)
    }
    const readBytes = async (name: string) => {
      const info = tensors.get(name)
      if (!info) throw damaged(path, `there is no tensor "${name}"`)
      return readExactly(file, path, base + info.begin, info.end - info.begin)
    }
    const read = async (name: string): Promise<Tensor> => {
      const bytes = await readBytes(name)
      const info = tensors.get(name)!
      const array = ARRAYS[info.dtype as TensorType]
      if (!array) throw damaged(path, `tensor "${name}" has the unknown type ${info.dtype}`)
      const aligned = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)
      return { shape: info.shape, data: new array(aligned) }
    }
    return {
      metadata,
      tensors,
      read,
      readBytes,
      async readFloat32(name) {
        const { shape, data } = await read(name)
        if (!(data instanceof Float32Array)) throw damaged(path, `tensor "${name}" is not float32`)
        return { shape, data }
      },
      close: () => file.close(),
    }
  } catch (error) {
    await file.close()
    throw error
  }
}

function parseHeader(path: string, bytes: Buffer) {
  let header: Record<string, unknown>
  try {
    header = JSON.parse(bytes.toString('utf8'))
  } catch (cause) {
    throw damaged(path, 'the header is not JSON', cause)
  }
  const tensors = new Map<string, TensorInfo>()
  let metadata: Record<string, string> = {}
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') {
      metadata = value as Record<string, string>
      continue
    }
    const { dtype, shape, data_offsets } = value as { dtype: string; shape: number[]; data_offsets: [number, number] }
    const [begin, end] = data_offsets ?? []
    const bytesEach = BYTES_EACH[dtype]
    const expected = bytesEach === undefined ? undefined : shape.reduce((product, dim) => product * dim, bytesEach)
    if (!(begin! >= 0 && end! >= begin!) || (expected !== undefined && expected !== end! - begin!)) {
      throw damaged(path, `tensor "${name}" has a byte range unlike its shape`)
    }
    tensors.set(name, { dtype, shape, begin: begin!, end: end! })
  }
  return { metadata, tensors }
}

async function readExactly(
  file: FileHandle,
  path: string,
  position: number,
  length: number,
): Promise<Buffer<ArrayBuffer>> {
  const buffer = Buffer.alloc(length) as Buffer<ArrayBuffer>
  let done = 0
  while (done < length) {
    const { bytesRead } = await file.read(buffer, done, length - done, position + done)
    if (bytesRead === 0) throw damaged(path, `the file ends at byte ${position + done}`)
    done += bytesRead
  }
  return buffer
}

function damaged(path: string, what: string, cause?: unknown): TrainingError {
  return new TrainingError('CHECKPOINT', `expected a safetensors file: ${what}`, {
    where: path,
    fix: 'use another checkpoint of the run, or copy the file again',
    cause,
  })
}

/** Writes tensors in the order of the map, atomically. Names and metadata are texts; numbers are little-endian. */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Record<string, string> = {},
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: metadata }
  let offset = 0
  for (const [name, { shape, data }] of tensors) {
    header[name] = { dtype: typeOf(data), shape, data_offsets: [offset, offset + data.byteLength] }
    offset += data.byteLength
  }
  let text = JSON.stringify(header)
  text += ' '.repeat((8 - (Buffer.byteLength(text) % 8)) % 8)
  const head = Buffer.alloc(8)
  head.writeBigUInt64LE(BigInt(Buffer.byteLength(text)))
  const parts: Buffer[] = [head, Buffer.from(text, 'utf8')]
  for (const { data } of tensors.values()) parts.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength))
  await writeFileAtomic(path, Buffer.concat(parts))
}

function typeOf(data: Tensor['data']): TensorType {
  return (Object.keys(ARRAYS) as TensorType[]).find((type) => data.constructor === ARRAYS[type])!
}
