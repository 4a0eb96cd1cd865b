import t from 'tap'
import { groupFragments, joinFragments } from '../../../lib/data/dicom/fragments.js'

// Three fragments with 8-byte item headers between them: data at 8, 20, 32, four bytes each.
const fragments = [8, 20, 32].map((start) => ({ start, length: 4 }))
const data = new Uint8Array(64)
const layout = { fragments, offsets: [], extendedOffsets: [], frames: 1 }
const starts = (frames: number, more = {}) =>
  groupFragments({ ...layout, frames, ...more }, data, 'x').map((group) => group.map(({ start }) => start))

t.test('one frame takes all, as many frames as fragments one each', async (t) => {
  t.same(starts(1), [[8, 20, 32]])
  t.same(starts(3), [[8], [20], [32]])
})

t.test('offset tables, basic before extended; wrong ones are passed over', async (t) => {
  t.same(starts(2, { offsets: [0, 24] }), [[8, 20], [32]])
  t.same(starts(2, { extendedOffsets: [0, 12] }), [[8], [20, 32]])
  t.same(starts(2, { offsets: [0, 13], extendedOffsets: [0, 12] }), [[8], [20, 32]])
})

t.test('markers decide where no table does', async (t) => {
  data.set([0xff, 0xd8, 0xff], 8)
  data.set([0xff, 0xd8, 0xff], 32)
  t.same(starts(2), [[8, 20], [32]])
  t.throws(() => starts(4), { code: 'ERR_MAMMO_PIXEL_DATA' })
  t.throws(() => groupFragments({ ...layout, fragments: [] }, data, 'x'), { code: 'ERR_MAMMO_PIXEL_DATA' })
})

t.test('joining', async (t) => {
  const bytes = Uint8Array.from({ length: 8 }, (_, i) => i)
  t.same(
    [
      ...joinFragments(
        [
          { start: 1, length: 2 },
          { start: 5, length: 1 },
        ],
        bytes,
      ),
    ],
    [1, 2, 5],
  )
  t.same([...joinFragments([{ start: 1, length: 2 }], bytes)], [1, 2])
})
