// A reader of Python pickles that can hold data only: numbers, texts, lists, dictionaries, and the few names that the caller allows.
// Nothing is imported, constructed or called by name: a global is looked up in the caller's list and everything else is refused.
// Not a general unpickler: object states, extension codes and sets are not needed for weights. Format: CPython's pickletools,
// protocols 0 to 5. Nested data are built by reference, so a small file cannot grow in memory beyond its own size.
import { Buffer } from 'node:buffer'

/** What a pickle can evaluate to. Tuples are frozen by nobody: they are arrays like lists. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | Map<PickleValue, PickleValue>
  | Opaque

/** A value that the caller's functions made; the machine only passes it on. */
export interface Opaque {
  readonly opaque: string
}

/** A name of the pickle that may be called with data. */
export interface Callable extends Opaque {
  call(args: PickleValue[]): PickleValue
}

export interface PickleRules {
  /** The meaning of `module.name`; undefined refuses the pickle. */
  global(module: string, name: string): Opaque | undefined
  /** The meaning of a persistent id; throws PickleError when it is none. */
  persistent(id: PickleValue): PickleValue
}

/** Why a pickle was refused. `global` is set when a name was not allowed. */
export class PickleError extends Error {
  constructor(
    message: string,
    readonly global?: string,
  ) {
    super(message)
  }
}

const MARK = Symbol('mark')
type Slot = PickleValue | typeof MARK

/** Longest integer in bytes; the magic number of PyTorch's files has ten. */
const MAX_INTEGER = 64

/** Reads one pickle from `start`; `end` is the byte after its last. Throws PickleError. */
export function readPickle(bytes: Uint8Array, start: number, rules: PickleRules): { value: PickleValue; end: number } {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const stack: Slot[] = []
  const memo = new Map<number, PickleValue>()
  let at = start

  const take = (count: number): number => {
    if (!(count >= 0 && at + count <= view.length)) throw new PickleError(`the pickle ends within byte ${at}`)
    at += count
    return at - count
  }
  const byte = () => view[take(1)]!
  const uint32 = () => view.readUInt32LE(take(4))
  const length64 = () => Number(view.readBigUInt64LE(take(8)))
  const line = () => {
    const end = view.indexOf(0x0a, at)
    if (end < 0) throw new PickleError('the pickle ends within a line')
    return view.toString('utf8', take(end + 1 - at), end)
  }
  const text = (length: number, encoding: 'utf8' | 'latin1' = 'utf8') => {
    const from = take(length)
    return view.toString(encoding, from, from + length)
  }
  const pop = (): PickleValue => {
    const value = stack.pop()
    if (value === undefined || value === MARK) throw new PickleError(`nothing to take at byte ${at}`)
    return value
  }
  const top = (): PickleValue => {
    const value = pop()
    stack.push(value)
    return value
  }
  const popMark = (): PickleValue[] => {
    const mark = stack.lastIndexOf(MARK)
    if (mark < 0) throw new PickleError(`no mark at byte ${at}`)
    return stack.splice(mark).slice(1) as PickleValue[]
  }
  const list = (value: PickleValue): PickleValue[] => {
    if (!Array.isArray(value)) throw new PickleError(`expected a list at byte ${at}`)
    return value
  }
  const dict = (value: PickleValue): Map<PickleValue, PickleValue> => {
    if (!(value instanceof Map)) throw new PickleError(`expected a dictionary at byte ${at}`)
    return value
  }
  const fill = (target: Map<PickleValue, PickleValue>, items: readonly PickleValue[]) => {
    if (items.length % 2 !== 0) throw new PickleError(`a key without a value at byte ${at}`)
    for (let i = 0; i < items.length; i += 2) target.set(items[i]!, items[i + 1]!)
    return target
  }
  const recall = (index: number) => {
    const value = memo.get(index)
    if (value === undefined) throw new PickleError(`nothing was stored under ${index}`)
    stack.push(value)
  }
  const global = (module: string, name: string) => {
    const value = rules.global(module, name)
    if (value === undefined) throw new PickleError(`it asks for ${module}.${name}`, `${module}.${name}`)
    stack.push(value)
  }
  const call = (callee: PickleValue, args: PickleValue) => {
    const known = callee as Partial<Callable> | null
    if (typeof known !== 'object' || known === null || typeof known.call !== 'function') {
      throw new PickleError(`something that is no function is called at byte ${at}`)
    }
    stack.push(known.call(list(args)))
  }
  const integer = (length: number): number | bigint => {
    if (length > MAX_INTEGER) throw new PickleError(`an integer of ${length} bytes`)
    const from = take(length)
    let value = 0n
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(view[from + i]!)
    if (length > 0 && view[from + length - 1]! >= 0x80) value -= 1n << BigInt(8 * length)
    return small(value)
  }
  const decimal = (digits: string): number | bigint => {
    if (!/^[+-]?\d{1,150}L?$/.test(digits)) throw new PickleError(`"${digits.slice(0, 40)}" is no integer`)
    return small(BigInt(digits.replace('L', '')))
  }

  for (;;) {
    const code = byte()
    switch (String.fromCharCode(code)) {
      case '\x80': {
        const protocol = byte()
        if (protocol > 5) throw new PickleError(`pickle protocol ${protocol}; 0 to 5 are known`)
        break
      }
      case '\x95': // frame
        take(8)
        break
      case '.':
        return { value: pop(), end: at }
      case '(':
        stack.push(MARK)
        break
      case '0':
        if (stack.pop() === undefined) throw new PickleError(`nothing to take at byte ${at}`)
        break
      case '1':
        popMark()
        break
      case '2':
        stack.push(top())
        break
      // Memory
      case 'p':
        memo.set(Number(line()), top())
        break
      case 'q':
        memo.set(byte(), top())
        break
      case 'r':
        memo.set(uint32(), top())
        break
      case '\x94':
        memo.set(memo.size, top())
        break
      case 'g':
        recall(Number(line()))
        break
      case 'h':
        recall(byte())
        break
      case 'j':
        recall(uint32())
        break
      // Constants and numbers
      case 'N':
        stack.push(null)
        break
      case '\x88':
        stack.push(true)
        break
      case '\x89':
        stack.push(false)
        break
      case 'I': {
        const digits = line()
        stack.push(digits === '00' ? false : digits === '01' ? true : decimal(digits))
        break
      }
      case 'L':
        stack.push(decimal(line()))
        break
      case 'F':
        stack.push(Number(line()))
        break
      case 'J':
        stack.push(view.readInt32LE(take(4)))
        break
      case 'K':
        stack.push(byte())
        break
      case 'M':
        stack.push(view.readUInt16LE(take(2)))
        break
      case '\x8a':
        stack.push(integer(byte()))
        break
      case '\x8b':
        stack.push(integer(uint32()))
        break
      case 'G':
        stack.push(view.readDoubleBE(take(8)))
        break
      // Texts and bytes
      case 'S': {
        const quoted = /^(['"])(.*)\1$/.exec(line())
        if (quoted === null) throw new PickleError('a text without quotes')
        stack.push(quoted[2]!)
        break
      }
      case 'V':
        stack.push(line())
        break
      case 'T':
        stack.push(text(uint32(), 'latin1'))
        break
      case 'U':
        stack.push(text(byte(), 'latin1'))
        break
      case 'X':
        stack.push(text(uint32()))
        break
      case '\x8c':
        stack.push(text(byte()))
        break
      case '\x8d':
        stack.push(text(length64()))
        break
      case 'B': {
        const length = uint32()
        stack.push(view.subarray(take(length), at))
        break
      }
      case 'C': {
        const length = byte()
        stack.push(view.subarray(take(length), at))
        break
      }
      case '\x8e': {
        const length = length64()
        stack.push(view.subarray(take(length), at))
        break
      }
      // Tuples, lists, dictionaries
      case ')':
      case ']':
        stack.push([])
        break
      case 't':
      case 'l':
        stack.push(popMark())
        break
      case '\x85':
        stack.push([pop()])
        break
      case '\x86': {
        const b = pop()
        stack.push([pop(), b])
        break
      }
      case '\x87': {
        const c = pop()
        const b = pop()
        stack.push([pop(), b, c])
        break
      }
      case 'a': {
        const item = pop()
        list(top()).push(item)
        break
      }
      case 'e': {
        const items = popMark()
        const target = list(top())
        for (const item of items) target.push(item)
        break
      }
      case '}':
        stack.push(new Map())
        break
      case 'd':
        stack.push(fill(new Map(), popMark()))
        break
      case 's': {
        const value = pop()
        const key = pop()
        dict(top()).set(key, value)
        break
      }
      case 'u': {
        const items = popMark()
        fill(dict(top()), items)
        break
      }
      // Names and what is done with them
      case 'c': {
        const module = line()
        global(module, line())
        break
      }
      case '\x93': {
        const name = pop()
        const module = pop()
        if (typeof name !== 'string' || typeof module !== 'string') throw new PickleError('a name that is no text')
        global(module, name)
        break
      }
      case 'i': {
        // Old spelling of a name with arguments; refused like any other name when it is unknown.
        const module = line()
        const name = line()
        const args = popMark()
        global(module, name)
        call(pop(), args)
        break
      }
      case 'R':
      case '\x81': {
        const args = pop()
        call(pop(), args)
        break
      }
      case 'b': {
        // A state set on an object: attributes, such as the versions of a state dict. Dropped; a dictionary stays what it is.
        pop()
        if (!(top() instanceof Map)) throw new PickleError(`a state is set on something that has none at byte ${at}`)
        break
      }
      case 'P':
        stack.push(rules.persistent(line()))
        break
      case 'Q':
        stack.push(rules.persistent(pop()))
        break
      default:
        throw new PickleError(
          `operation 0x${code.toString(16).padStart(2, '0')} at byte ${at - 1}, which weights do not need`,
        )
    }
  }
}

function small(value: bigint): number | bigint {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
}
