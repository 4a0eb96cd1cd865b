// Writes WebAssembly modules. An instruction is a function that puts its operands before its own bytes, so that code reads as expressions do. Holds the
// instructions that the anchor search needs and nothing more; not a compiler, and nothing is checked before the engine does.
// Source: WebAssembly Core Specification 2.0, chapter 5, Binary Format.

/** Bytes that leave their value, if they have one, on the stack; nested, so that putting code together copies nothing. */
export type Code = readonly (number | Code)[]

export type ValueType = 'i32' | 'f64' | 'v128'

export interface Local {
  get: Code
  set(value: Code): Code
}

/** A function that returns an f64. */
export interface WasmFunction {
  parameters: readonly ValueType[]
  /** Code that ends with the result; `local` makes a further local, which begins as 0. */
  body(local: (type: ValueType) => Local, ...parameters: Local[]): Code[]
}

const TYPES: Record<ValueType, number> = { i32: 0x7f, f64: 0x7c, v128: 0x7b }

/** LEB128 of a whole number from 0 on. */
function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)]
}

/** LEB128 with a sign. */
function signed(value: number): number[] {
  return value >= -0x40 && value < 0x40 ? [value & 0x7f] : [(value & 0x7f) | 0x80, ...signed(value >> 7)]
}

const instruction =
  (...bytes: number[]) =>
  (...operands: Code[]): Code => [operands, bytes]

/** Vector instructions: a prefix and a number. */
const vector = (number: number, ...immediate: number[]) => instruction(0xfd, ...unsigned(number), ...immediate)

/** Addresses are bytes; `offset` is added to them. */
const memory =
  (alignment: number, code: (...operands: Code[]) => Code) =>
  (at: Code, offset = 0, ...value: Code[]): Code => [code(at, ...value), alignment, unsigned(offset)]

export const i32 = {
  of: (value: number): Code => [0x41, signed(value)],
  add: instruction(0x6a),
  sub: instruction(0x6b),
  mul: instruction(0x6c),
  shiftLeft: instruction(0x74),
  shiftRight: instruction(0x76),
  rotateLeft: instruction(0x77),
  xor: instruction(0x73),
  and: instruction(0x71),
  or: instruction(0x72),
  not: instruction(0x45),
  equal: instruction(0x46),
  less: instruction(0x49),
  /** Towards zero. */
  fromF64: instruction(0xab),
  load: memory(2, instruction(0x28)),
  store: memory(2, instruction(0x36)),
}

export const f64 = {
  of: (value: number): Code => [0x44, ...new Uint8Array(Float64Array.of(value).buffer)],
  add: instruction(0xa0),
  sub: instruction(0xa1),
  mul: instruction(0xa2),
  div: instruction(0xa3),
  sqrt: instruction(0x9f),
  less: instruction(0x63),
  atMost: instruction(0x65),
  more: instruction(0x64),
  /** Without a sign. */
  fromI32: instruction(0xb8),
  load: memory(3, instruction(0x2b)),
  store: memory(3, instruction(0x39)),
}

/** Two numbers at once. */
export const f64x2 = {
  splat: vector(0x14),
  first: vector(0x21, 0),
  add: vector(0xf0),
  mul: vector(0xf2),
  div: vector(0xf3),
  /** Of numbers that are not NaN. */
  min: vector(0xf6),
  max: vector(0xf7),
  load: memory(3, vector(0)),
  /** The second before the first. */
  swap: (numbers: Code): Code => vector(13, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)(numbers, numbers),
}

/** Repeats `body` while `condition` holds. */
export function repeatWhile(condition: Code, ...body: Code[]): Code {
  return [0x02, 0x40, 0x03, 0x40, i32.not(condition), 0x0d, 1, body, 0x0c, 0, 0x0b, 0x0b]
}

export function when(condition: Code, ...body: Code[]): Code {
  return [condition, 0x04, 0x40, body, 0x0b]
}

/** Ends the function with `value`. */
export const leave = instruction(0x0f)

/** Calls the function of that position, imported ones first. */
export function call(position: number, ...operands: Code[]): Code {
  return [operands, 0x10, unsigned(position)]
}

/** A module of functions, exported by name, over a memory that it is given. Imported functions return an f64 as well. */
export function wasmModule(
  functions: Readonly<Record<string, WasmFunction>>,
  imported: Readonly<Record<string, readonly ValueType[]>> = {},
): Uint8Array<ArrayBuffer> {
  const list = (items: readonly Code[]): Code => [unsigned(items.length), items]
  const sized = (code: Code): Code => {
    const bytes = bytesOf(code)
    return [unsigned(bytes.length), bytes]
  }
  const section = (id: number, items: readonly Code[]): Code => [id, sized(list(items))]
  const text = (value: string): Code => sized([...Buffer.from(value)])
  const from = (name: string): Code => [text(HOST), text(name)]
  const bodyOf = ({ parameters, body }: WasmFunction): Code => {
    const types: ValueType[] = []
    const local = (type: ValueType): Local => {
      const index = unsigned(types.push(type) - 1)
      return { get: [0x20, index], set: (value) => [value, 0x21, index] }
    }
    const code = body(local, ...parameters.map(local))
    const own = types.slice(parameters.length).map((type): Code => [1, TYPES[type]])
    return sized([list(own), code, 0x0b])
  }
  const outside = Object.entries(imported)
  const inside = Object.entries(functions)
  const types = [...outside.map(([, types]) => types), ...inside.map(([, { parameters }]) => parameters)]
  const position = (i: number) => unsigned(outside.length + i)
  const sections: [number, Code[]][] = [
    [1, types.map((parameters) => [0x60, list(parameters.map((type) => [TYPES[type]])), 1, TYPES.f64])],
    [2, [[from('memory'), 2, 0, 0], ...outside.map(([name], i): Code => [from(name), 0, unsigned(i)])]],
    [3, inside.map((_, i) => position(i))],
    [7, inside.map(([name], i): Code => [text(name), 0, position(i)])],
    [10, inside.map(([, code]) => bodyOf(code))],
  ]
  const preamble = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0]
  return Uint8Array.from(bytesOf([preamble, sections.map(([id, items]) => section(id, items))]))
}

function bytesOf(code: Code, into: number[] = []): number[] {
  for (let i = 0; i < code.length; i++) {
    const part = code[i]!
    if (typeof part === 'number') into.push(part)
    else bytesOf(part, into)
  }
  return into
}

const HOST = 'host'

export type Compute = (...parameters: number[]) => number

/** A compiled module, to be given to `instantiate`. */
export interface Module {
  readonly [Symbol.toStringTag]: string
}

interface Pages {
  readonly buffer: ArrayBuffer
  grow(pages: number): number
}

/** The part of the engine that is used here: Node's types leave it out, and those of browsers bring a browser. */
const engine = (
  globalThis as unknown as {
    WebAssembly: {
      Memory: new (pages: { initial: number }) => Pages
      Module: new (bytes: Uint8Array<ArrayBuffer>) => Module
      Instance: new (
        module: Module,
        host: Record<string, Record<string, unknown>>,
      ) => { readonly exports: Record<string, Compute> }
    }
  }
).WebAssembly

const PAGE = 65536

/** Numbers that modules and JavaScript share: regions are taken one after the other and never given back. */
export interface Space {
  readonly pages: Pages
  /** Position of `count` new numbers, all 0, in `numbers`; their address in bytes is eight times that. */
  take(count: number): number
  /** All of it. Another array after the next `take`. */
  readonly numbers: Float64Array
}

export function newSpace(): Space {
  const pages = new engine.Memory({ initial: 1 })
  let numbers = new Float64Array(pages.buffer)
  let taken = 0
  return {
    pages,
    take(count) {
      const start = taken
      taken += count
      const missing = taken * 8 - numbers.byteLength
      if (missing > 0) {
        pages.grow(Math.ceil(missing / PAGE))
        numbers = new Float64Array(pages.buffer)
      }
      return start
    },
    get numbers() {
      return numbers
    },
  }
}

export function compile(bytes: Uint8Array<ArrayBuffer>): Module {
  return new engine.Module(bytes)
}

/** The functions of a module, over a space. */
export function instantiate(module: Module, space: Space, imported: Readonly<Record<string, Compute>> = {}) {
  return new engine.Instance(module, { [HOST]: { memory: space.pages, ...imported } }).exports
}
