import t from 'tap'
import { decodeRle } from '../../../lib/data/dicom/rle.js'

const frame = (...segments: number[][]) => {
  const header = Buffer.alloc(64)
  header.writeUInt32LE(segments.length, 0)
  let at = 64
  for (const [n, segment] of segments.entries()) {
    header.writeUInt32LE(at, 4 + 4 * n)
    at += segment.length
  }
  return Buffer.concat([header, Buffer.from(segments.flat())])
}

t.test('literal and repeated runs, high byte first', async (t) => {
  // High bytes 1 1 1 2, low bytes 3 4 5 5.
  const cells = decodeRle(frame([254, 1, 0, 2], [1, 3, 4, 255, 5]), 4, 2, 'x')
  t.same([...cells], [3, 1, 4, 1, 5, 1, 5, 2])
  t.same([...decodeRle(frame([128, 1, 7, 8]), 2, 1, 'x')], [7, 8], '128 is passed over')
})

t.test('short, odd and overlapping frames are refused', async (t) => {
  const good = frame([254, 1, 0, 2], [1, 3, 4, 255, 5])
  const cases = {
    cut: good.subarray(0, good.length - 1),
    header: good.subarray(0, 60),
    segments: frame([1, 1, 2]),
    empty: frame([], []),
  }
  for (const [name, bytes] of Object.entries(cases))
    t.throws(() => decodeRle(bytes, 4, 2, 'x'), { code: 'ERR_MAMMO_PIXEL_DATA', where: 'x' }, name)
  const outside = Buffer.from(good)
  outside.writeUInt32LE(9999, 8)
  t.throws(() => decodeRle(outside, 4, 2, 'x'), { code: 'ERR_MAMMO_PIXEL_DATA' })
})
