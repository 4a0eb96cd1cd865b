import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { findBreast } from '../../lib/data/breast.js'
import { type PrepareInput, type PrepareOptions, prepareRecords } from '../../lib/data/prepare.js'
import { cacheHash, openPrepared, openReader, readCrop } from '../../lib/data/prepared.js'
import { readRaster } from '../../lib/data/raster.js'
import { combineSums, pixelSums } from '../../lib/data/statistics.js'
import type { ImageRecord } from '../../lib/data/types.js'
import { randomStream } from '../../lib/random.js'
import { lesion, record, writeImages } from './fixtures.js'

function makeRecords(count = 12): ImageRecord[] {
  return Array.from({ length: count }, (_, n) =>
    record(`set/i${String(n).padStart(2, '0')}`, {
      patient: `p${n >> 1}`,
      laterality: n % 2 ? 'R' : 'L',
      width: 200 + 8 * n,
      height: 260 + 4 * n,
      // Inside the breast, which lies at the left or right edge.
      lesions: n % 3 === 0 ? [lesion(n % 2 ? [150 + 8 * n, 120, 190 + 8 * n, 150] : [10, 120, 50, 150])] : [],
    }),
  )
}

function input(root: string, records: readonly ImageRecord[]): PrepareInput {
  return { root, adapter: 'coco', tool: 'test', labelRules: {}, records, headerLine: '{"manifest":"test"}' }
}

const refused = (rule: string) => ({ code: 'ERR_MAMMO_MANIFEST', details: { rule } })

// This file runs itself as the process that is killed.
if (process.argv[2] === 'killed') {
  const [root, out, after] = process.argv.slice(3) as [string, string, string]
  await prepareRecords(input(root, makeRecords()), {
    out,
    workers: 2,
    onProgress: ({ done }) => {
      if (done === Number(after)) process.kill(process.pid, 'SIGKILL')
      // Whoever kills from outside must know what was done.
      if (after === 'reported') process.stdout.write('.')
    },
  })
} else {
  t.setTimeout(240_000)
  const root = t.testdir()
  const records = makeRecords()
  await writeImages(root, records)
  const run = (out: string, more: Partial<PrepareOptions> = {}) =>
    prepareRecords(input(root, records), { out, workers: 0, ...more })

  t.test('prepares, measures, splits; a second run finds everything cached', async (t) => {
    const out = join(t.testdir(), 'prepared')
    const plans: unknown[] = []
    const states: string[] = []
    const summary = await run(out, {
      workers: 2,
      onPlan: (plan) => plans.push(plan),
      onProgress: ({ state }) => states.push(state),
    })
    t.match(summary, { images: 12, read: 12, cached: 0, skipped: [] })
    t.match(plans, [{ images: 12 }])
    t.equal(states.length, 12)
    const set = await openPrepared(out, { verify: 'full' })
    t.equal(set.header.cacheHash, summary.cacheHash)
    t.equal(cacheHash(set.records), summary.cacheHash)
    const reader = openReader(set)
    const parts = []
    for (const item of set.records) {
      const { data, width, height } = await readRaster(join(root, item.path))
      const { crop } = findBreast(data, width, height)
      t.same(item.cache.crop, crop)
      const { pixels, width: w } = await readCrop(reader, item)
      const expected = pixels.map((_, at) => data[(crop[1] + Math.floor(at / w)) * width + crop[0] + (at % w)]!)
      t.ok(Buffer.from(pixels.buffer).equals(Buffer.from(expected.buffer)), item.id)
      t.equal((await stat(join(out, item.cache.file))).size % 4096, 0)
      if (set.split.folds[0]!.train.includes(item.id)) parts.push(pixelSums(expected))
    }
    await reader.close()
    t.same(set.header.statistics, [combineSums(parts, 'test')])
    t.ok(summary.meanRemoved > 0.2 && summary.meanRemoved < 0.7)
    t.notOk(existsSync(`${out}.partial`) || existsSync(`${out}.old`))

    const before = await readFile(join(out, 'prepared.json'), 'utf8')
    const again = await run(out)
    t.match(again, { images: 12, read: 0, cached: 12, cacheHash: summary.cacheHash, sourceHash: summary.sourceHash })
    t.equal(await readFile(join(out, 'prepared.json'), 'utf8'), before)
    await openPrepared(out, { verify: 'full' })
  })

  t.test('the number of workers changes nothing', async (t) => {
    const folder = t.testdir()
    const texts = []
    for (const workers of [0, 1, 2]) {
      const out = join(folder, `w${workers}`)
      await run(out, { workers })
      const names = (await readdir(out, { recursive: true })).sort()
      const files = names.filter((name) => /\.(json|jsonl|u16)$/.test(name))
      texts.push(Buffer.concat(await Promise.all(files.map((name) => readFile(join(out, name))))).toString('base64'))
    }
    t.equal(texts[1], texts[0])
    t.equal(texts[2], texts[0])
  })

  t.test('a killed process loses nothing and leaves nothing that passes', async (t) => {
    const folder = t.testdir()
    const whole = await run(join(folder, 'whole'))
    const out = join(folder, 'killed')
    for (const after of [1, 3, 2]) {
      const child = spawn(process.execPath, [fileURLToPath(import.meta.url), 'killed', root, out, String(after)])
      const signal = await new Promise((resolve) => child.on('exit', (_, signal) => resolve(signal)))
      t.equal(signal, 'SIGKILL')
      await t.rejects(openPrepared(out), { code: 'ERR_MAMMO_MANIFEST', details: { rule: 'cache/missing' } })
    }
    const last = await run(out)
    t.ok(last.cached >= 3, `${last.cached} images kept`)
    t.equal(last.cacheHash, whole.cacheHash)
    await openPrepared(out, { verify: 'full' })
    t.notOk(existsSync(`${out}.partial`))
    t.same(await readdir(out, { recursive: true }).then((names) => names.filter((name) => name.includes('tmp'))), [])
  })

  t.test('kill -9 from outside at ten random moments: what was reported is kept, the hash is the same', async (t) => {
    const folder = t.testdir()
    const whole = await run(join(folder, 'whole'))
    const random = randomStream(3, 'kill')
    for (let n = 0; n < 10; n++) {
      const out = join(folder, `killed${n}`)
      const [after, delay] = [random.integer(11), random.uniform(0, 12)]
      const child = spawn(process.execPath, [fileURLToPath(import.meta.url), 'killed', root, out, 'reported'])
      let reported = 0
      child.stdout.on('data', (part: Buffer) => {
        const before = reported
        reported += part.length
        if (before <= after && reported > after) setTimeout(() => child.kill('SIGKILL'), delay)
      })
      await new Promise((resolve) => child.on('close', resolve))
      const again = await run(out)
      t.ok(again.cached >= reported, `killed after ${reported} images: ${again.cached} kept`)
      t.equal(again.cacheHash, whole.cacheHash)
      await openPrepared(out, { verify: 'full' })
    }
  })

  t.test('flipped bits and missing pixels are found and mended', async (t) => {
    const out = join(t.testdir(), 'prepared')
    const { cacheHash } = await run(out)
    const file = join(out, 'pixels/set/i04.u16')
    const handle = await open(file, 'r+')
    const byte = Buffer.alloc(1)
    await handle.read(byte, 0, 1, 1001)
    await handle.write(Buffer.from([byte[0]! ^ 4]), 0, 1, 1001)
    await handle.close()
    await openPrepared(out)
    const damaged = { code: 'ERR_MAMMO_MANIFEST', details: { rule: 'cache/damaged' } }
    await t.rejects(openPrepared(out, { verify: 'full' }), { ...damaged, message: /set\/i04/ })
    t.match(await run(out), { read: 1, cached: 11, cacheHash })
    await openPrepared(out, { verify: 'full' })
    await truncate(join(out, 'pixels/set/i05.u16'), 4096)
    await t.rejects(openPrepared(out), { ...damaged, message: /set\/i05/ })
    t.match(await run(out), { read: 1, cached: 11, cacheHash })
  })

  t.test('changed records, splits and headers are refused by name', async (t) => {
    const out = join(t.testdir(), 'prepared')
    await run(out)
    const edit = async (name: string, from: string | RegExp, to: string) => {
      const text = await readFile(join(out, name), 'utf8')
      await writeFile(join(out, name), text.replace(from, to))
      return () => writeFile(join(out, name), text)
    }
    let restore = await edit('manifest.jsonl', '"box":[10,', '"box":[11,')
    await t.rejects(openPrepared(out), refused('cache/damaged'))
    await restore()
    restore = await edit('split.json', 'set/i00', 'set/i01')
    await t.rejects(openPrepared(out), refused('cache/stale'))
    await restore()
    restore = await edit('prepared.json', 'prepared@1', 'prepared@0')
    await t.rejects(openPrepared(out), refused('cache/stale'))
    await restore()
    await openPrepared(out)
  })

  t.test('a second process on the same folder is refused while the first lives', async (t) => {
    const lock = (pid: number) => JSON.stringify({ pid, host: hostname(), started: null })
    const out = join(t.testdir({ 'prepared.partial': { lock: lock(process.ppid) } }), 'prepared')
    await t.rejects(run(out), { code: 'ERR_MAMMO_BUSY', where: join(`${out}.partial`, 'lock') })
    await writeFile(`${out}.partial/lock`, lock(2147483646))
    t.match(await run(out), { images: 12 })
    t.notOk(existsSync(join(out, 'lock')))
  })

  t.test('other options are refused, or replace', async (t) => {
    const out = join(t.testdir(), 'prepared')
    await run(out)
    await t.rejects(run(out, { crop: false }), { code: 'ERR_MAMMO_MANIFEST', details: { rule: 'cache/stale' } })
    t.match(await run(out, { crop: false, replace: true }), { read: 12, meanRemoved: 0 })
    const set = await openPrepared(out, { verify: 'full' })
    t.same(set.records[3]!.cache.crop, [0, 0, 224, 272])
    const other = t.testdir({ 'notes.txt': 'mine' })
    await t.rejects(run(other), refused('cache/foreign'))
    t.ok(existsSync(join(other, 'notes.txt')))
  })

  t.test('a changed source is read again', async (t) => {
    const own = t.testdir()
    const mine = makeRecords(4)
    await writeImages(own, mine)
    const out = join(own, 'out')
    const first = await prepareRecords(input(own, mine), { out, workers: 0 })
    await writeImages(own, [mine[1]!, mine[0]!])
    const second = await prepareRecords(input(own, mine), { out, workers: 0 })
    t.match(second, { read: 2, cached: 2 })
    t.not(second.cacheHash, first.cacheHash)
    t.not(second.sourceHash, first.sourceHash)
  })

  t.test('a lesion outside the breast widens the crop, with a warning', async (t) => {
    const mine = makeRecords(4)
    mine[2]!.lesions = [lesion([190.5, 4.5, 210, 30])]
    mine[2]!.annotated = true
    const out = join(t.testdir(), 'out')
    const { warnings } = await prepareRecords(input(root, mine), { out, workers: 0 })
    t.match(warnings, [{ rule: 'prepare/crop-extended', id: 'set/i02' }])
    const { crop } = (await openPrepared(out)).records[2]!.cache
    t.equal(crop[1], 4)
    t.equal(crop[2], 210)
  })

  t.test('unreadable images: all named, nothing lost, or left out on request', async (t) => {
    const own = t.testdir()
    const mine = makeRecords(5)
    await writeImages(own, mine)
    await truncate(join(own, mine[1]!.path), 500)
    mine[3]!.width++
    const out = join(own, 'out')
    await t.rejects(prepareRecords(input(own, mine), { out, workers: 1 }), {
      code: 'ERR_MAMMO_IMAGE',
      exitCode: 3,
      details: { skipped: [{ id: 'set/i01' }, { id: 'set/i03', code: 'ERR_MAMMO_MANIFEST' }] },
    })
    t.notOk(existsSync(out))
    const summary = await prepareRecords(input(own, mine), { out, workers: 0, skipBroken: true })
    t.match(summary, { images: 3, read: 0, cached: 3 })
    t.same(summary.skipped.map(({ id }) => id).sort(), ['set/i01', 'set/i03'])
    t.equal((await openPrepared(out, { verify: 'full' })).records.length, 3)
  })
}
