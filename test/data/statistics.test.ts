import t from 'tap'
import { combineSums, pixelSums } from '../../lib/data/statistics.js'
import { randomStream } from '../../lib/random.js'

t.test('sums equal a big-integer reference, in any order and division', async (t) => {
  const random = randomStream(1, 'statistics')
  const pixels = Uint16Array.from({ length: 200_001 }, () => (random.integer(3) === 0 ? 0 : random.integer(65536)))
  let [n, sum, squares] = [0n, 0n, 0n]
  for (const v of pixels) {
    if (v === 0) continue
    n++
    sum += BigInt(v)
    squares += BigInt(v) * BigInt(v)
  }
  const expected = { n: String(n), S: String(sum), Q: String(squares) }
  t.same(pixelSums(pixels), expected)
  const parts = [0, 7, 70_000, 199_999].map((from, i, all) => pixelSums(pixels.subarray(from, all[i + 1])))
  const forward = combineSums(parts, 'test')
  t.same(combineSums([...parts].reverse(), 'test'), forward)
  t.match(forward, expected)
  const mean = Number(sum) / Number(n)
  const variance = Array.from(pixels).reduce((s, v) => (v === 0 ? s : s + (v - mean) ** 2), 0) / Number(n)
  t.equal(forward.mean, mean)
  t.ok(Math.abs(forward.std - Math.sqrt(variance)) < 1e-9 * forward.std)
})

t.test('a set of 65535s does not overflow', async (t) => {
  const one = pixelSums(new Uint16Array(14_000_000).fill(65535))
  const all = combineSums(new Array(5000).fill(one), 'test')
  t.equal(all.Q, String(14_000_000n * 5000n * 65535n ** 2n))
  t.equal(all.mean, 65535)
  t.equal(all.std, 0)
})

t.test('no pixels is an error', async (t) => {
  t.throws(() => combineSums([pixelSums(new Uint16Array(8))], 'fold 3'), {
    code: 'ERR_MAMMO_MANIFEST',
    where: 'fold 3',
  })
})
