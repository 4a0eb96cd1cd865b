// Text of a DICOM element in the character sets that its file names, several of them with ISO 2022 escapes included. Decodes into
// strings only; objects are always written in UTF-8. Sets and escapes: DICOM PS3.3 C.12.1.1.2, PS3.5 section 6.1.
import { DataError } from '../../errors.js'

/** Right halves of single-byte sets, and whole sets without code extensions, by defined term without its prefix. */
const SETS: Record<string, string> = {
  '6': 'ascii',
  '100': 'iso-8859-1',
  '101': 'iso-8859-2',
  '109': 'iso-8859-3',
  '110': 'iso-8859-4',
  '144': 'iso-8859-5',
  '127': 'iso-8859-6',
  '126': 'iso-8859-7',
  '138': 'iso-8859-8',
  '148': 'windows-1254',
  '203': 'iso-8859-15',
  '13': 'shift_jis',
  '166': 'windows-874',
  '192': 'utf-8',
  // Two bytes per character.
  '87': 'jis-x-0208',
  '159': 'jis-x-0212',
  '149': 'euc-kr',
  '58': 'gb18030',
}

/** What follows the escape byte, and the set that it puts into the left or the right half. */
const ESCAPES: readonly [string, 'left' | 'right', string][] = [
  ['(B', 'left', '6'],
  ['-A', 'right', '100'],
  ['-B', 'right', '101'],
  ['-C', 'right', '109'],
  ['-D', 'right', '110'],
  ['-L', 'right', '144'],
  ['-G', 'right', '127'],
  ['-F', 'right', '126'],
  ['-H', 'right', '138'],
  ['-M', 'right', '148'],
  ['-b', 'right', '203'],
  ['-T', 'right', '166'],
  [')I', 'right', '13'],
  ['(J', 'left', '13'],
  ['$B', 'left', '87'],
  ['$(D', 'left', '159'],
  ['$)C', 'right', '149'],
  ['$)A', 'right', '58'],
]

const ESCAPE = 0x1b
/** Bytes after which the first character set is in force again: line ends, tabulators, backslash, and ^ and = of names. */
const RESETS = new Set([0x09, 0x0a, 0x0c, 0x0d, 0x5c, 0x5e, 0x3d])

/**
 * The text of `bytes` under the values of SpecificCharacterSet. Throws ERR_MAMMO_DICOM (rule dicom/charset) for sets that are not
 * known and bytes that are not of their set: a patient's name must not change silently. The message never quotes the text.
 */
export function decodeText(bytes: Uint8Array, sets: readonly string[], where: string): string {
  const terms = sets.map((set) => set.trim())
  const fail = (got: string) =>
    new DataError('DICOM', `expected text in the character sets that the file names, got ${got}`, {
      where,
      fix: 'correct SpecificCharacterSet (0008,0005) of the file',
      details: { rule: 'dicom/charset' },
    })
  const first = terms[0] ?? ''
  const decode = (part: Uint8Array, encoding: string): string => {
    if (encoding === 'ascii') {
      if (part.some((byte) => byte >= 0x80)) throw fail('bytes beyond ASCII')
      return Buffer.from(part).toString('latin1')
    }
    try {
      return new TextDecoder(encoding, { fatal: true, ignoreBOM: true }).decode(part)
    } catch {
      throw fail('bytes of another one')
    }
  }
  if (terms.length <= 1 && !first.startsWith('ISO 2022')) {
    if (first === 'GB18030' || first === 'GBK') return decode(bytes, 'gb18030')
    const encoding = SETS[first === '' ? '6' : first.replace(/^ISO_IR /, '')]
    if (encoding === undefined) throw fail('one that is not known')
    return decode(bytes, encoding)
  }
  const initial = first === '' ? '6' : first.replace(/^ISO 2022 IR |^ISO_IR /, '')
  if (SETS[initial] === undefined) throw fail('one that is not known')
  const start = { left: initial === '13' ? '13' : '6', right: initial }
  let { left, right } = start
  let text = ''
  let at = 0
  while (at < bytes.length) {
    const byte = bytes[at]!
    if (byte === ESCAPE) {
      const next = Buffer.from(bytes.subarray(at + 1, at + 4)).toString('latin1')
      const found = ESCAPES.find(([sequence]) => next.startsWith(sequence))
      if (found === undefined) throw fail('an unknown escape sequence')
      if (found[1] === 'left') left = found[2]
      else right = found[2]
      at += 1 + found[0].length
      continue
    }
    const wide = left === '87' || left === '159'
    if (RESETS.has(byte) && !wide) {
      left = start.left
      right = start.right
      text += String.fromCharCode(byte)
      at++
      continue
    }
    let end = at + 1
    const high = byte >= 0x80
    while (end < bytes.length) {
      const next = bytes[end]!
      if (next === ESCAPE || next >= 0x80 !== high || (!high && !wide && RESETS.has(next))) break
      end++
    }
    text += decodeRun(bytes.subarray(at, end), high ? right : left, high, decode)
    at = end
  }
  return text
}

/** One run of bytes of the same half. JIS sets are decoded as the EUC form of the same characters. */
function decodeRun(
  run: Uint8Array,
  set: string,
  high: boolean,
  decode: (part: Uint8Array, encoding: string) => string,
): string {
  if (high) return decode(run, SETS[set]!)
  if (set === '87')
    return decode(
      run.map((byte) => byte | 0x80),
      'euc-jp',
    )
  if (set === '159') {
    const wide: number[] = []
    for (let n = 0; n < run.length; n += 2) wide.push(0x8f, run[n]! | 0x80, (run[n + 1] ?? 0) | 0x80)
    return decode(Uint8Array.from(wide), 'euc-jp')
  }
  return decode(run, 'ascii')
}
