// Little-endian bytes of the number types that weight files hold, as float32 or as whole numbers. Pure functions.

/** Names of the types, as safetensors writes them. */
export type NumberType = 'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I16' | 'I8' | 'U8' | 'BOOL'

export const BYTES: Record<NumberType, number> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
}

/** True for the types that parameters can have. */
export function isFloat(type: string): boolean {
  return type === 'F64' || type === 'F32' || type === 'F16' || type === 'BF16'
}

/** The numbers rounded to float32. Shares the memory of `bytes` when it already is aligned float32. */
export function toFloat32(type: NumberType, bytes: Uint8Array): Float32Array {
  const count = bytes.byteLength / BYTES[type]
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (type === 'F32' && bytes.byteOffset % 4 === 0) return new Float32Array(bytes.buffer, bytes.byteOffset, count)
  const result = new Float32Array(count)
  const read = READ[type]
  for (let i = 0; i < count; i++) result[i] = read(view, i)
  return result
}

const READ: Record<NumberType, (view: DataView, i: number) => number> = {
  F64: (view, i) => view.getFloat64(8 * i, true),
  F32: (view, i) => view.getFloat32(4 * i, true),
  F16: (view, i) => fromHalf(view.getUint16(2 * i, true)),
  BF16: (view, i) => fromBfloat(view.getUint16(2 * i, true)),
  I64: (view, i) => Number(view.getBigInt64(8 * i, true)),
  I32: (view, i) => view.getInt32(4 * i, true),
  I16: (view, i) => view.getInt16(2 * i, true),
  I8: (view, i) => view.getInt8(i),
  U8: (view, i) => view.getUint8(i),
  BOOL: (view, i) => view.getUint8(i),
}

/** IEEE 754 binary16. */
function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 0x1f
  const fraction = bits & 0x3ff
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN
  return sign * (1024 + fraction) * 2 ** (exponent - 25)
}

const scratch = new DataView(new ArrayBuffer(4))

/** The upper half of a float32. */
function fromBfloat(bits: number): number {
  scratch.setUint32(0, bits << 16)
  return scratch.getFloat32(0)
}
