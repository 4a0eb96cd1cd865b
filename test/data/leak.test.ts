import t from 'tap'
import { differenceHash, findLeaks, type LeakImage, refuseLeaks } from '../../lib/data/leak.js'
import { randomStream } from '../../lib/random.js'
import { breastPixels } from './fixtures.js'

function image(id: string, pixels: Uint16Array, more: Partial<LeakImage> = {}): LeakImage {
  return { id, patient: id, instance: `uid-${id}`, pixels: `sha-${id}`, ...differenceHash(pixels, 160, 200), ...more }
}

/** Breasts with patches of random brightness, so that pictures differ. */
function picture(n: number): Uint16Array {
  const random = randomStream(n, 'picture')
  const patches = Array.from({ length: 100 }, () => random.integer(2000))
  return breastPixels(160, 200, n).map((v, at) => {
    const [x, y] = [at % 160, Math.floor(at / 160)]
    return v === 0 ? 0 : v + patches[Math.floor(y / 20) * 10 + Math.floor(x / 16)]!
  })
}

t.test('a clean split has no leak', async (t) => {
  const images = Array.from({ length: 12 }, (_, n) => image(`i${n}`, picture(n)))
  const ids = images.map(({ id }) => id)
  const leaks = findLeaks({ train: ids.slice(0, 6), val: ids.slice(6, 9), test: ids.slice(9) }, images)
  t.same(leaks, [])
  t.doesNotThrow(() => refuseLeaks(leaks, 'split.json'))
})

t.test('planted leaks are found: patient, object, pixels, copy, mirrored copy', async (t) => {
  const mirror = (pixels: Uint16Array) => {
    const result = new Uint16Array(pixels.length)
    for (let y = 0; y < 200; y++) for (let x = 0; x < 160; x++) result[y * 160 + x] = pixels[y * 160 + 159 - x]!
    return result
  }
  const brighter = picture(3).map((v) => (v === 0 ? 0 : v + 40))
  const images = [
    image('a', picture(0), { patient: 'p1' }),
    image('b', picture(1), { instance: 'uid' }),
    image('c', picture(2), { pixels: 'sha' }),
    image('d', picture(3)),
    image('e', picture(4)),
    image('A', picture(5), { patient: 'p1' }),
    image('B', picture(6), { instance: 'uid' }),
    image('C', picture(2), { pixels: 'sha' }),
    image('D', brighter),
    image('E', mirror(picture(4))),
  ]
  const leaks = findLeaks({ train: ['a', 'b', 'c', 'd', 'e'], val: ['A', 'B'], test: ['C', 'D', 'E'] }, images)
  t.same(
    leaks.map(({ rule, level, ids, parts }) => [rule, level, ids.join(), parts.join()]),
    [
      ['leak/patient', 'error', 'A,a', 'train,val'],
      ['leak/instance', 'error', 'B,b', 'train,val'],
      ['leak/pixels', 'error', 'C,c', 'train,test'],
      ['leak/similar', 'warning', 'D,d', 'train,test'],
      ['leak/similar', 'warning', 'E,e', 'train,test'],
    ],
  )
  t.throws(() => refuseLeaks(leaks, 'split.json'), { code: 'ERR_MAMMO_SPLIT_LEAK', exitCode: 3, where: /p1/ })
  t.doesNotThrow(() => refuseLeaks(leaks.slice(3), 'split.json'))
})
