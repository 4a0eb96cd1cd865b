// Reads the tensors of a PyTorch file (.pth, .pt): the zip container of PyTorch 1.6 on and the older chain of pickles. Only
// tensors and plain containers are understood, so no code of the file can run; tensors are read one by one. Not a reader of
// TorchScript or of whole pickled modules. Formats: torch/serialization.py of PyTorch (documented in its notes on serialization).
import { type FileHandle, open } from 'node:fs/promises'
import { type Entry, fromFdPromise, type ZipFile } from 'yauzl'
import { TrainingError } from '../errors.js'
import { BYTES, type NumberType, toFloat32 } from './numbers.js'
import { type Callable, type Opaque, PickleError, type PickleRules, type PickleValue, readPickle } from './pickle.js'
import type { TensorEntry, WeightFile } from './weight-file.js'

/** Weight files describe some hundred tensors in some hundred kilobytes. */
const MAX_PICKLE = 64 * 2 ** 20
/** Storage classes of the module `torch`. */
const STORAGES: Record<string, NumberType> = {
  DoubleStorage: 'F64',
  FloatStorage: 'F32',
  HalfStorage: 'F16',
  BFloat16Storage: 'BF16',
  LongStorage: 'I64',
  IntStorage: 'I32',
  ShortStorage: 'I16',
  CharStorage: 'I8',
  ByteStorage: 'U8',
  BoolStorage: 'BOOL',
}
const MAGIC = 0x1950a86a20f9469cfc6cn
const PROTOCOL = 1001

interface Storage extends Opaque {
  opaque: 'storage'
  type: NumberType
  key: string
  count: number
}

interface StoredTensor extends Opaque {
  opaque: 'tensor'
  storage: Storage
  offset: number
  shape: number[]
  stride: number[]
}

/** Reads `length` bytes of a storage from byte `start`. */
type ReadStorage = (key: string, start: number, length: number) => Promise<Uint8Array>

/**
 * Opens a file and reads its table of tensors. Throws TrainingError CHECKPOINT when it is damaged, when it is no PyTorch file, and when
 * its pickle asks for anything but tensors (the message names what).
 */
export async function openTorchFile(path: string): Promise<WeightFile> {
  const file = await open(path, 'r').catch((cause) => {
    throw refused(path, 'the file cannot be opened', {}, cause)
  })
  try {
    const { size } = await file.stat()
    const head = await readAt(file, path, size, 0, Math.min(size, 512))
    const zipped = head.length > 4 && head.readUInt32LE(0) === 0x04034b50
    if (!zipped && head[0] !== 0x80) {
      const tar = head.toString('latin1', 257, 262) === 'ustar'
      throw refused(path, tar ? 'it is a tar file of PyTorch before 0.1.10' : 'it does not begin like one')
    }
    const { root, read } = zipped ? await openZip(file, path, size) : await openLegacy(file, path, size)
    const { tensors, outside } = stateDict(path, root)
    const entries = new Map<string, TensorEntry>()
    for (const [name, tensor] of tensors) {
      checkExtent(path, name, tensor)
      entries.set(name, { type: tensor.storage.type, shape: tensor.shape })
    }
    return {
      format: 'torch',
      metadata: {},
      tensors: entries,
      outside,
      async read(name) {
        const tensor = tensors.get(name)
        if (tensor === undefined) throw refused(path, `there is no tensor "${name}"`)
        return { shape: tensor.shape, data: await readTensor(tensor, read) }
      },
      close: () => file.close(),
    }
  } catch (error) {
    await file.close()
    if (error instanceof PickleError) throw unsafe(path, error)
    throw error
  }
}

async function openZip(
  file: FileHandle,
  path: string,
  size: number,
): Promise<{ root: PickleValue; read: ReadStorage }> {
  let zip: ZipFile
  const entries = new Map<string, Entry>()
  try {
    zip = await fromFdPromise(file.fd, { autoClose: false, lazyEntries: true })
    for await (const entry of zip.eachEntry()) {
      // The first folder is named after the file it was saved as.
      const name = entry.fileName.slice(entry.fileName.indexOf('/') + 1)
      if (entries.has(name)) throw new Error(`"${name}" occurs twice`)
      entries.set(name, entry)
    }
  } catch (cause) {
    throw refused(path, `its list of contents is damaged or cut off (${(cause as Error).message})`, {}, cause)
  }
  const part = (name: string): Entry => {
    const entry = entries.get(name)
    if (entry === undefined) throw refused(path, `its part "${name}" is missing`)
    if (entry.compressionMethod !== 0 || entry.isEncrypted()) {
      throw refused(path, `its part "${name}" is compressed or encrypted; PyTorch stores its parts as they are`)
    }
    return entry
  }
  const readPart = async (entry: Entry, start: number, length: number) => {
    const header = await zip.readLocalFileHeaderPromise(entry, { minimal: true }).catch((cause) => {
      throw refused(path, `its part "${entry.fileName}" is damaged (${(cause as Error).message})`, {}, cause)
    })
    if (start + length > entry.uncompressedSize) throw refused(path, `its part "${entry.fileName}" is too short`)
    return readAt(file, path, size, header.fileDataStart + start, length)
  }
  const order = entries.get('byteorder')
  if (order !== undefined) {
    const text = (await readPart(part('byteorder'), 0, Math.min(order.uncompressedSize, 16))).toString('latin1')
    if (text !== 'little') throw refused(path, `its numbers are in ${text}-endian order`)
  }
  const description = part('data.pkl')
  if (description.uncompressedSize > MAX_PICKLE) throw refused(path, 'its description of the tensors is too large')
  const bytes = await readPart(description, 0, description.uncompressedSize)
  const { value } = readPickle(bytes, 0, rulesFor(new Map()))
  return { root: value, read: (key, start, length) => readPart(part(`data/${key}`), start, length) }
}

async function openLegacy(
  file: FileHandle,
  path: string,
  size: number,
): Promise<{ root: PickleValue; read: ReadStorage }> {
  const bytes = await readAt(file, path, size, 0, Math.min(size, MAX_PICKLE))
  const storages = new Map<string, Storage>()
  const rules = rulesFor(storages)
  let at = 0
  const next = () => {
    const { value, end } = readPickle(bytes, at, rules)
    at = end
    return value
  }
  if (next() !== MAGIC) throw refused(path, 'it is a pickle, but none that PyTorch wrote')
  const protocol = next()
  if (protocol !== PROTOCOL) throw refused(path, `it has protocol ${String(protocol)}, ${PROTOCOL} is known`)
  const system = next()
  if (system instanceof Map && system.get('little_endian') === false) {
    throw refused(path, 'its numbers are in big-endian order')
  }
  const root = next()
  const keys = next()
  const places = new Map<string, number>()
  for (const key of Array.isArray(keys) ? keys : []) {
    const storage = typeof key === 'string' ? storages.get(key) : undefined
    if (storage === undefined) throw refused(path, `storage "${String(key)}" belongs to no tensor`)
    const count = Number((await readAt(file, path, size, at, 8)).readBigInt64LE(0))
    const length = count * BYTES[storage.type]
    if (count !== storage.count || at + 8 + length > size) {
      throw refused(path, `storage "${storage.key}" is cut off or has another size than its tensors say`)
    }
    places.set(storage.key, at + 8)
    at += 8 + length
  }
  return {
    root,
    read: async (key, start, length) => {
      const place = places.get(key)
      if (place === undefined) throw refused(path, `storage "${key}" is missing`)
      return readAt(file, path, size, place + start, length)
    },
  }
}

/** What the pickle of a weight file may name; the storages it mentions are collected. */
function rulesFor(storages: Map<string, Storage>): PickleRules {
  const callable = (opaque: string, call: Callable['call']): Callable => ({ opaque, call })
  const tensor = ([storage, offset, shape, stride]: PickleValue[]): StoredTensor => ({
    opaque: 'tensor',
    storage: storageOf(storage),
    offset: whole(offset),
    shape: wholes(shape),
    stride: wholes(stride),
  })
  const known: Record<string, Opaque> = {
    'collections.OrderedDict': callable('dict', ([pairs]) => {
      const map = new Map<PickleValue, PickleValue>()
      for (const pair of Array.isArray(pairs) ? pairs : []) if (Array.isArray(pair)) map.set(pair[0]!, pair[1]!)
      return map
    }),
    // Options of a training script; its state is dropped.
    'argparse.Namespace': callable('namespace', () => new Map()),
    'torch._utils._rebuild_tensor': callable('tensor', tensor),
    'torch._utils._rebuild_tensor_v2': callable('tensor', tensor),
    'torch._utils._rebuild_parameter': callable('parameter', ([data]) => data ?? null),
    'torch.Size': callable('size', ([sizes]) => sizes ?? []),
    'torch.device': callable('device', () => null),
  }
  for (const [name, type] of Object.entries(STORAGES)) known[`torch.${name}`] = { opaque: type }
  return {
    global: (module, name) => (Object.hasOwn(known, `${module}.${name}`) ? known[`${module}.${name}`] : undefined),
    persistent(id) {
      const [kind, type, key, , count, view] = Array.isArray(id) ? id : []
      const number = (type as Opaque | undefined)?.opaque as NumberType
      if (kind !== 'storage' || BYTES[number] === undefined || typeof key !== 'string') {
        throw new PickleError('a persistent id that is no storage of numbers')
      }
      if (view !== undefined && view !== null) throw new PickleError('a view of a storage, as PyTorch before 0.4 wrote')
      const storage: Storage = { opaque: 'storage', type: number, key, count: whole(count) }
      const before = storages.get(key)
      if (before !== undefined && (before.type !== storage.type || before.count !== storage.count)) {
        throw new PickleError(`storage "${key}" is described in two ways`)
      }
      storages.set(key, storage)
      return storage
    },
  }
}

function storageOf(value: PickleValue | undefined): Storage {
  if (typeof value !== 'object' || (value as Opaque | null)?.opaque !== 'storage') {
    throw new PickleError('a tensor without a storage')
  }
  return value as Storage
}

function whole(value: PickleValue | undefined): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw new PickleError(`expected a size, got ${String(value).slice(0, 40)}`)
  }
  return value
}

function wholes(value: PickleValue | undefined): number[] {
  if (!Array.isArray(value) || value.length > 16) throw new PickleError('expected a list of sizes')
  return value.map(whole)
}

function isTensor(value: PickleValue): value is StoredTensor {
  return typeof value === 'object' && (value as Opaque | null)?.opaque === 'tensor'
}

/** Keys that checkpoints of common trainers keep the parameters under, best first. */
const USUAL = ['', 'state_dict', 'model', 'model_state_dict', 'net', 'weights', 'params']
/** Deeper data are optimiser states; nothing there is a parameter. */
const MAX_DEPTH = 6
/** Wrappers put these before every name. */
const WRAPPERS = ['module.', '_orig_mod.', 'model.']

/** Finds the dictionary of parameters in what was saved. Tensors elsewhere are listed with the reason why they are not read. */
function stateDict(
  path: string,
  root: PickleValue,
): { tensors: Map<string, StoredTensor>; outside: Record<string, string> } {
  const groups = new Map<string, Map<string, StoredTensor>>()
  const seen = new Set<PickleValue>()
  const visit = (value: PickleValue, place: string, depth: number) => {
    if (depth > MAX_DEPTH || seen.has(value)) return
    const items = value instanceof Map ? [...value] : Array.isArray(value) ? [...value.entries()] : []
    if (items.length === 0) return
    seen.add(value)
    for (const [key, item] of items) {
      const name = String(key)
      if (isTensor(item)) {
        if (!groups.has(place)) groups.set(place, new Map())
        groups.get(place)!.set(name, item)
      } else visit(item, place === '' ? name : `${place}.${name}`, depth + 1)
    }
  }
  visit(root, '', 0)
  const largest = () => [...groups].sort(([, a], [, b]) => b.size - a.size)[0]?.[0]
  const chosen = USUAL.find((name) => groups.has(name)) ?? largest()
  if (chosen === undefined) {
    throw refused(path, 'it holds no dictionary of tensors', { fix: 'save model.state_dict() with torch.save' })
  }
  const outside: Record<string, string> = {}
  for (const [place, tensors] of groups) {
    if (place === chosen) continue
    const where = chosen === '' ? 'the parameters stand at the top of the file' : `the parameters stand in "${chosen}"`
    for (const name of tensors.keys()) outside[place === '' ? name : `${place}.${name}`] = `no parameter: ${where}`
  }
  return { tensors: unwrapped(groups.get(chosen)!), outside }
}

function unwrapped<T>(tensors: Map<string, T>): Map<string, T> {
  const wrapper = WRAPPERS.find((prefix) => [...tensors.keys()].every((name) => name.startsWith(prefix)))
  if (wrapper === undefined) return tensors
  return unwrapped(new Map([...tensors].map(([name, tensor]) => [name.slice(wrapper.length), tensor])))
}

const product = (shape: readonly number[]) => shape.reduce((all, dim) => all * dim, 1)

/** Elements from the first to the last one of a tensor, both counted. */
function span({ shape, stride }: StoredTensor): number {
  return product(shape) === 0 ? 0 : shape.reduce((last, dim, i) => last + (dim - 1) * stride[i]!, 1)
}

/** Sizes are claims of the file: they must fit what it holds before memory is asked for. */
function checkExtent(path: string, name: string, tensor: StoredTensor): void {
  const { storage, offset, shape, stride } = tensor
  const ok = shape.length === stride.length && offset + span(tensor) <= storage.count && product(shape) <= storage.count
  if (!ok) {
    throw refused(
      path,
      `tensor "${name}" of shape [${shape}] and strides [${stride}] does not lie within its ${storage.count} numbers`,
    )
  }
}

async function readTensor(tensor: StoredTensor, read: ReadStorage): Promise<Float32Array> {
  const { storage, offset, shape, stride } = tensor
  const size = BYTES[storage.type]
  const bytes = await read(storage.key, offset * size, span(tensor) * size)
  const stored = toFloat32(storage.type, bytes)
  const contiguous = shape.every((dim, i) => dim === 1 || stride[i] === product(shape.slice(i + 1)))
  if (contiguous) return stored
  const result = new Float32Array(product(shape))
  const index = new Array<number>(shape.length).fill(0)
  for (let i = 0, at = 0; i < result.length; i++) {
    result[i] = stored[at]!
    for (let d = shape.length - 1; d >= 0; d--) {
      at += stride[d]!
      if (++index[d]! < shape[d]!) break
      at -= stride[d]! * shape[d]!
      index[d] = 0
    }
  }
  return result
}

async function readAt(file: FileHandle, path: string, size: number, position: number, length: number): Promise<Buffer> {
  if (position + length > size) throw refused(path, `it ends at byte ${size}, before byte ${position + length}`)
  const buffer = Buffer.alloc(length)
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(buffer, done, length - done, position + done)
    if (bytesRead === 0) throw refused(path, `it ends at byte ${position + done}`)
    done += bytesRead
  }
  return buffer
}

function refused(path: string, what: string, parts: { fix?: string } = {}, cause?: unknown): TrainingError {
  return new TrainingError('CHECKPOINT', `expected a PyTorch weight file: ${what}`, {
    where: path,
    fix: parts.fix ?? 'download or copy the file again; save state dicts with torch.save of a current PyTorch',
    cause,
  })
}

function unsafe(path: string, error: PickleError): TrainingError {
  if (error.global === undefined) return refused(path, error.message, {}, error)
  return new TrainingError(
    'CHECKPOINT',
    `expected a PyTorch file of tensors only: ${error.message}, and nothing in a file is ever run`,
    {
      where: path,
      fix: 'if you trust the file, save its state dict alone: torch.save(model.state_dict(), OUT)',
      details: { global: error.global },
      cause: error,
    },
  )
}
