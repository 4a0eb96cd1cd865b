// Lookup tables of DICOM (modality and VOI): descriptor and data of one sequence item. PS3.3 C.11.1, C.11.2.
import { bytesOf, type Elements, NESTED, numbersOf } from './parse.js'

export interface Lut {
  /** Input value of the first entry. Inputs below and above take the first and the last entry. */
  first: number
  data: Uint16Array
  /** Bits of an entry. */
  bits: number
}

/** Undefined when the item is incomplete. `signed` is the sign of the table's inputs. */
export function readLut(item: Elements, signed: boolean): Lut | undefined {
  const [entries, start, bits] = numbersOf(item, NESTED.lutDescriptor)
  if (entries === undefined || start === undefined || bits === undefined || bits < 1 || bits > 16) return undefined
  // 0 stands for 65536, which does not fit.
  const length = (entries & 0xffff) === 0 ? 65536 : entries & 0xffff
  const first = signed ? (start << 16) >> 16 : start & 0xffff
  const bytes = bytesOf(item, NESTED.lutData)
  if (bytes === undefined) {
    const values = numbersOf(item, NESTED.lutData)
    return values.length < length ? undefined : { first, bits, data: Uint16Array.from(values.slice(0, length)) }
  }
  const data = new Uint16Array(length)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length >= 2 * length) for (let i = 0; i < length; i++) data[i] = view.getUint16(2 * i, true)
  else if (bytes.length >= length) data.set(bytes.subarray(0, length))
  else return undefined
  return { first, bits, data }
}
