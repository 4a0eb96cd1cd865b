import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { readImage } from '../../lib/data/image.js'
import { makePhantom, planBreast, planShape } from '../../lib/data/phantom/phantom.js'
import { synthesize } from '../../lib/data/synth.js'
import { randomStream } from '../../lib/random.js'
import { spectrumSlope } from './spectrum.js'

const SIZE = { height: 416, width: 320 }

async function hashes(folder: string): Promise<Record<string, string>> {
  const result: Record<string, string> = {}
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const bytes = await readFile(join(entry.parentPath, entry.name))
    result[entry.name] = createHash('sha256').update(bytes).digest('hex')
  }
  return result
}

if (process.argv[2] === 'child') {
  await synthesize({ out: process.argv[3]!, count: 8, seed: 4, ...SIZE })
} else {
  t.test('equal bytes in two processes; image k does not depend on the count', async (t) => {
    const folder = t.testdir()
    await synthesize({ out: join(folder, 'a'), count: 8, seed: 4, ...SIZE })
    spawnSync(process.execPath, [fileURLToPath(import.meta.url), 'child', join(folder, 'b')])
    const a = await hashes(join(folder, 'a'))
    t.equal(Object.keys(a).length, 17)
    t.same(await hashes(join(folder, 'b')), a)
    await synthesize({ out: join(folder, 'c'), count: 3, seed: 4, ...SIZE })
    for (const [name, hash] of Object.entries(await hashes(join(folder, 'c')))) {
      if (name !== 'INbreast.csv') t.equal(hash, a[name], name)
    }
    await synthesize({ out: join(folder, 'd'), count: 1, seed: 5, ...SIZE })
    const other = Object.values(await hashes(join(folder, 'd', 'AllDICOMs')))
    t.notOk(
      other.some((hash) => Object.values(a).includes(hash)),
      'another seed, another image',
    )
  })

  t.test('reads back equal, 12 bits, background 0, texts say synthetic', async (t) => {
    const folder = t.testdir()
    const summary = await synthesize({ out: folder, count: 8, seed: 4, ...SIZE })
    t.match(summary, { images: 8 })
    t.ok(summary.positive >= 2, 'of four breasts one has a mass, in both views')
    const names = await readdir(join(folder, 'AllDICOMs'))
    for (const name of names) {
      t.match(name, /^\d{8}_[0-9a-f]{16}_MG_[LR]_(CC|ML)_ANON\.dcm$/)
      const image = await readImage(join(folder, 'AllDICOMs', name), { assumeMammogram: true })
      t.same([image.height, image.width, image.spacingMm], [416, 320, null])
      t.ok(image.pixels.every((value) => value <= 4095))
      const zeros = image.pixels.reduce((n, value) => n + (value === 0 ? 1 : 0), 0) / image.pixels.length
      t.ok(zeros > 0.2 && zeros < 0.85, `background ${zeros}`)
    }
    const table = (await readFile(join(folder, 'INbreast.csv'), 'utf8')).split('\r\n')
    t.equal(table.length, 10)
    t.match(table[1], /^synthetic;synthetic;[LR];(CC|MLO);20\d{4};20000001;[1-4];[1-6][abc]?$/)
  })

  t.test('the quirks of the real set', async (t) => {
    const folder = t.testdir()
    await synthesize({ out: folder, count: 16, seed: 4, quirks: true, ...SIZE })
    const files = await readdir(join(folder, 'AllDICOMs'))
    t.equal(files.filter((name) => name.includes('_FB_')).length, 1)
    t.ok((await readdir(join(folder, 'AllXML'))).length < 16)
    const rows = (await readFile(join(folder, 'INbreast.csv'), 'utf8')).split('\r\n').slice(1, 17)
    t.equal(rows.filter((row) => row.split(';')[6]!.trim() === '').length, 1)
    const xml = await Promise.all(
      (await readdir(join(folder, 'AllXML'))).map((name) => readFile(join(folder, 'AllXML', name), 'utf8')),
    )
    t.ok(
      xml.some((text) => /\((-0\.3|319\.3)00000, /.test(text)),
      'a contour leaves the image by 0.3 px',
    )
  })

  t.test('phantoms: truth lies on the mass, spectrum near f^-3', async (t) => {
    const [width, height] = [640, 832]
    const slopes: number[] = []
    for (let n = 0; n < 8; n++) {
      const shape = planShape(randomStream(7, 'patient', n))
      const density = (1 + (n % 4)) as 1 | 2 | 3 | 4
      const plan = { seed: 7, image: n, view: 'CC' as const, width, height }
      const breast = planBreast(7, n, n % 2 ? 'R' : 'L', shape, density, true)
      const phantom = makePhantom({ ...plan, breast })
      const without = makePhantom({ ...plan, breast: { ...breast, masses: [] } })
      // The image without the mass tells where the mass is: its centre of gravity must lie in the contour's bounds.
      const [mass] = phantom.masses
      t.equal(phantom.masses.length, breast.masses.length)
      t.ok(mass!.contour.length >= 14 && mass!.contour.length <= 648)
      const bounds = phantom.masses.map(({ contour }) => {
        const xs = contour.map(([x]) => x)
        const ys = contour.map(([, y]) => y)
        return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)] as const
      })
      let [inside, total] = [0, 0]
      for (let at = 0; at < phantom.pixels.length; at++) {
        const gain = phantom.pixels[at]! - without.pixels[at]!
        if (gain <= 0) continue
        const [x, y] = [at % width, Math.floor(at / width)]
        total += gain
        if (bounds.some(([x1, y1, x2, y2]) => x >= x1 - 1 && x <= x2 + 1 && y >= y1 - 1 && y <= y2 + 1)) inside += gain
      }
      t.ok(total > 0 && inside / total > 0.6, `${breast.masses[0]!.margin}: ${inside / total}`)
      const x0 = Math.round(width * (n % 2 ? 0.92 : 0.08)) - (n % 2 ? 128 : 0)
      slopes.push(spectrumSlope(without.pixels, width, x0, height / 2 - 64, 128))
    }
    const mean = slopes.reduce((a, b) => a + b, 0) / slopes.length
    t.comment(
      `slopes of the power spectrum ${slopes.map((slope) => slope.toFixed(2)).join(' ')}, mean ${mean.toFixed(2)}`,
    )
    t.ok(mean > -3.5 && mean < -2.5)
  })

  t.test('sizes and counts out of range are refused', async (t) => {
    await t.rejects(synthesize({ out: t.testdir(), count: 0 }), { code: 'ERR_MAMMO_ARGUMENT' })
    await t.rejects(synthesize({ out: t.testdir(), count: 1, height: 5000 }), { code: 'ERR_MAMMO_ARGUMENT' })
  })
}
