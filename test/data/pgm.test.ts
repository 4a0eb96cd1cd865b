import t from 'tap'
import { readPgm, readPgmHeader } from '../../lib/data/pgm.js'

t.test('8 bit, comments, white space', async (t) => {
  const bytes = Buffer.concat([Buffer.from('P5 # c\n2\t2 # d\n255\n'), Buffer.from([1, 2, 3, 4])])
  const { width, height, data } = readPgm(bytes, 'a.pgm')
  t.same([width, height, ...data], [2, 2, 1, 2, 3, 4])
})

t.test('the header of mini-MIAS takes 17 bytes', async (t) => {
  t.equal(readPgmHeader(Buffer.from('P5\n1024 1024\n255\n'), 'mdb001.pgm').offset, 17)
})

t.test('16 bit is big endian', async (t) => {
  const bytes = Buffer.concat([Buffer.from('P5 1 2 4095\n'), Buffer.from([0x0f, 0xff, 0, 1])])
  t.same([...readPgm(bytes, 'a.pgm').data], [4095, 1])
})

t.test('short and odd files are refused', async (t) => {
  for (const text of ['P5 2 2 255\nabc', 'P5 2 2', 'P5 0 2 255\n', 'P5 2 2 70000\n', 'P5 x 2 255\n', 'P5']) {
    t.throws(() => readPgm(Buffer.from(text), 'a.pgm'), { code: 'ERR_MAMMO_IMAGE', where: 'a.pgm' }, text)
  }
})
