import t from 'tap'
import { type CacheEntry, cacheBytes, cacheFile, openWindows, verifyEntry, writePixels } from '../../lib/data/cache.js'
import type { Rect } from '../../lib/data/types.js'
import { randomStream } from '../../lib/random.js'

const DAMAGED = { code: 'ERR_MAMMO_MANIFEST', details: { rule: 'cache/damaged' } }

async function makeCache(folder: string, id: string, width: number, height: number, seed: number) {
  const pixels = new Uint16Array(width * height).map((_, at) => Math.imul(at + 7919 * seed, 0x9e3779b1) >>> 16)
  const crop: Rect = [7, 9, 7 + width, 9 + height]
  const sha256 = await writePixels(folder, cacheFile(id), pixels)
  const tissue = { cell: 32, rows: 1, columns: 1, runs: [1] }
  const entry: CacheEntry = {
    file: cacheFile(id),
    crop,
    sha256,
    n: '0',
    S: '0',
    Q: '0',
    source: '',
    instance: null,
    dhash: '',
    mirrored: '',
    tissue,
  }
  return { pixels, entry }
}

t.test('windows equal slices of the image', async (t) => {
  const folder = t.testdir()
  const sizes = [
    [300, 211],
    [64, 32],
    // Wide enough that rows are read one by one, and that one piece does not hold all rows.
    [70_000, 45],
  ] as const
  const images = await Promise.all(sizes.map(([w, h], n) => makeCache(folder, `a/i${n}`, w, h, n)))
  const reader = openWindows(folder, new Map(images.map(({ entry }, n) => [`a/i${n}`, entry])))
  const random = randomStream(9, 'windows')
  for (let draw = 0; draw < 200; draw++) {
    const n = random.integer(3)
    const [w, h] = sizes[n]!
    const x1 = draw % 5 === 0 ? 0 : random.integer(w)
    const x2 = draw % 5 === 0 ? w : x1 + 1 + random.integer(w - x1)
    const y1 = random.integer(h)
    const y2 = y1 + 1 + random.integer(h - y1)
    const into = new Uint16Array((x2 - x1) * (y2 - y1))
    await reader.read(`a/i${n}`, [x1, y1, x2, y2], into)
    const expected = Uint16Array.from(into, (_, at) => {
      const [x, y] = [x1 + (at % (x2 - x1)), y1 + Math.floor(at / (x2 - x1))]
      return images[n]!.pixels[y * w + x]!
    })
    t.ok(Buffer.from(into.buffer).equals(Buffer.from(expected.buffer))) ||
      t.bailout(`window ${[x1, y1, x2, y2]} of ${n}`)
  }
  await t.rejects(reader.read('a/i1', [0, 0, 65, 32], new Uint16Array(65 * 32)), { code: 'ERR_MAMMO_INTERNAL' })
  await t.rejects(reader.read('b', [0, 0, 1, 1], new Uint16Array(1)), { code: 'ERR_MAMMO_INTERNAL' })
  await reader.close()
  await t.rejects(reader.read('a/i1', [0, 0, 1, 1], new Uint16Array(1)), { code: 'ERR_MAMMO_INTERNAL' })
})

t.test('many files at once', async (t) => {
  const folder = t.testdir()
  const images = new Map<string, { pixels: Uint16Array; entry: CacheEntry }>()
  for (let n = 0; n < 80; n++) images.set(`i${n}`, await makeCache(folder, `i${n}`, 20, 10, n))
  const reader = openWindows(folder, new Map([...images].map(([id, { entry }]) => [id, entry])))
  const reads = [...images]
    .flatMap((item) => [item, item, item])
    .map(async ([id, { pixels }]) => {
      const into = new Uint16Array(200)
      await reader.read(id, [0, 0, 20, 10], into)
      return Buffer.from(into.buffer).equals(Buffer.from(pixels.buffer))
    })
  t.ok((await Promise.all(reads)).every(Boolean))
  await reader.close()
})

t.test('a missing or short file is damage, by name', async (t) => {
  const folder = t.testdir()
  const { entry } = await makeCache(folder, 'a', 100, 100, 1)
  await verifyEntry(folder, 'a', entry, true)
  const wrong = { ...entry, crop: [0, 0, 200, 100] as Rect }
  await t.rejects(verifyEntry(folder, 'a', wrong, false), { ...DAMAGED, message: /image a/ })
  const reader = openWindows(
    folder,
    new Map([
      ['a', wrong],
      ['gone', { ...entry, file: 'pixels/gone.u16' }],
    ]),
  )
  await t.rejects(reader.read('a', [0, 0, 200, 100], new Uint16Array(20_000)), DAMAGED)
  await t.rejects(reader.read('gone', [0, 0, 1, 1], new Uint16Array(1)), DAMAGED)
  await t.rejects(reader.read('gone', [0, 0, 1, 1], new Uint16Array(1)), DAMAGED)
  await reader.close()
  t.equal(cacheBytes([0, 0, 2048, 1]), 4096)
  t.equal(cacheBytes([0, 0, 2049, 1]), 8192)
})
