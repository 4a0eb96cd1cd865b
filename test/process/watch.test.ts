// A watched folder under kill -9: the watcher is killed again and again at arbitrary moments while files arrive; in the end every file
// is in `done` or `failed` once, has one result, and every study one report per set of images.
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { encodeGrey16Png } from '../../lib/data/raster.js'
import { unverifiedRecord, writeManifest, writeModel } from '../../lib/onnx/export.js'
import { readResult } from '../../lib/predict/dicom/read.js'
import type { Prediction } from '../../lib/predict/results.js'
import { randomStream } from '../../lib/random.js'
import { watch } from '../../lib/tasks/watch.js'
import { tinyExport } from '../onnx/tiny-export.js'
import { testImage } from '../onnx/tiny-model.js'
import { mammogram, PLAIN_PATIENT } from '../predict/dicom/studies.js'

t.setTimeout(1_200_000)

const task = new URL('../../lib/tasks/watch.js', import.meta.url).href

const script = `
import { watch } from ${JSON.stringify(task)}
const [model, folder, out, isolation, end] = process.argv.slice(1)
await watch(model, folder, { out, outputs: ['json', 'csv', 'jsonl', 'cad-sr'], pollMs: 20, settleMs: 40, quietMs: 150,
  isolation, threadsPerWorker: 1, untilIdle: end === 'when idle' })
console.log('idle')
`

function start(...args: string[]): { child: ChildProcess; ended: Promise<string> } {
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  child.stdout!.on('data', (chunk) => {
    text += chunk
  })
  child.stderr!.on('data', (chunk) => {
    text += chunk
  })
  return { child, ended: new Promise((resolve) => child.on('close', () => resolve(text))) }
}

async function setting(t: Test): Promise<{ root: string; model: string; inbox: string; out: string }> {
  const root = t.testdir({})
  const model = join(root, 'model.onnx')
  await writeManifest(await writeModel(tinyExport(model)), unverifiedRecord('test'))
  const inbox = join(root, 'inbox')
  mkdirSync(inbox)
  return { root, model, inbox, out: join(root, 'out') }
}

function files(folder: string): string[] {
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((path) => statSync(path).isFile())
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const inStudy = (study: string) => [...PLAIN_PATIENT, { tag: 0x0020000d, vr: 'UI', value: study }]

for (const isolation of ['thread', 'process']) {
  t.test(`killed again and again: no file is lost or doubled (${isolation})`, async (t) => {
    const { model, inbox, out } = await setting(t)
    // Left by a kill between the writing of a reason and its rename.
    mkdirSync(join(inbox, 'failed'))
    writeFileSync(join(inbox, 'failed', '.x.png.reason.json.0123abcd.tmp'), '')
    const sent = new Map<string, string>()
    const send = (name: string, bytes: Uint8Array) => {
      writeFileSync(join(inbox, `${name}.part`), bytes)
      renameSync(join(inbox, `${name}.part`), join(inbox, name))
      sent.set(sha256(bytes), name)
    }
    const random = randomStream(11, `watch-${isolation}`)
    let count = 0
    const arrive = async () => {
      const n = ++count
      send(`film-${n}.png`, await encodeGrey16Png(testImage(130 + n, 140), 140, 130 + n))
      send(`1.2.3.${n}.dcm`, mammogram({ uid: `1.2.3.${n}`, extra: inStudy(`1.2.9.${n % 3}`) }))
      if (n % 4 === 0) send(`bad-${n}.png`, Buffer.from(`no image ${n}`))
    }
    await arrive()
    await arrive()
    const began = performance.now()
    t.match(await start(model, inbox, out, isolation, 'when idle').ended, /idle\n$/)
    const whole = performance.now() - began
    for (let round = 0; round < 8; round++) {
      await arrive()
      await arrive()
      const { child, ended } = start(model, inbox, out, isolation, 'never')
      // From before the model is loaded to after the last report, on a machine of any speed.
      await sleep(random.uniform(0.1, 1.3) * whole)
      child.kill('SIGKILL')
      t.equal(await ended, '')
      t.equal(child.signalCode, 'SIGKILL')
    }
    t.match(await start(model, inbox, out, isolation, 'when idle').ended, /idle\n$/)

    const put = ['done', 'failed'].flatMap((state) => files(join(inbox, state)))
    const kept = put.filter((path) => !path.endsWith('.reason.json'))
    t.equal(kept.length, sent.size, 'as many as were sent')
    t.strictSame(new Set(kept.map((path) => sha256(readFileSync(path)))), new Set(sent.keys()), 'each of them, whole')
    t.strictSame(
      files(join(inbox, 'claimed')).map((path) => basename(path)),
      [],
      'none is left',
    )
    const failed = kept.filter((path) => path.includes('/failed/'))
    t.equal(failed.length, Math.floor(count / 4))
    for (const path of failed)
      t.match(JSON.parse(readFileSync(`${path}.reason.json`, 'utf8')), { code: 'ERR_MAMMO_DICOM' })

    const lines = readFileSync(join(out, 'detections.jsonl'), 'utf8').trim().split('\n')
    const ids = lines.map((line) => (JSON.parse(line) as Prediction).image.id)
    t.equal(ids.length, sent.size - failed.length)
    t.equal(new Set(ids).size, ids.length, 'one result each')
    const journal = readFileSync(join(out, 'journal.jsonl'), 'utf8').trim().split('\n').slice(1)
    t.equal(journal.length, sent.size, 'one entry each: none was predicted again after it was recorded')

    // Of every study the newest report names all its images; no two reports tell the same.
    const reports = files(join(out, 'dicom')).map((path) => readResult(readFileSync(path), path))
    const instances = reports.map(({ reference }) => reference.instance)
    t.equal(new Set(instances).size, instances.length)
    const images = reports.map((report) => report.images?.length ?? 0)
    t.ok(reports.length >= 3)
    t.ok(Math.max(...images) >= Math.floor(count / 3), 'late images made a report of all')
  })
}

t.test('a marker, a growing file, a name that comes again, subfolders, a second watcher', async (t) => {
  const { model, inbox, out } = await setting(t)
  const film = await encodeGrey16Png(testImage(128, 128), 128, 128)
  const other = await encodeGrey16Png(testImage(128, 140), 140, 128)
  mkdirSync(join(inbox, 'exam'))
  writeFileSync(join(inbox, 'exam', 'a.png'), film)
  writeFileSync(join(inbox, 'exam', 'a.png.done'), '')
  writeFileSync(join(inbox, 'growing.png'), film.subarray(0, 100))
  const controller = new AbortController()
  const seen: string[] = []
  const onResult = ({ image }: Prediction) => {
    // Before the watcher looks at the folder again, however long the first image took.
    if (image.id === 'exam/a') writeFileSync(join(inbox, 'growing.png'), film)
    seen.push(image.id)
  }
  const running = watch(model, inbox, {
    ...{ out, outputs: ['json', 'csv', 'html'], pollMs: 10, settleMs: 400, isolation: 'thread', threadsPerWorker: 1 },
    signal: controller.signal,
    onResult,
  })
  const until = async (test: () => boolean) => {
    for (let i = 0; !test() && i < 6000; i++) await sleep(10)
    t.ok(test())
  }
  await until(() => seen.length === 2)
  t.strictSame(seen, ['exam/a', 'growing'], 'marked files do not wait, others do; a file that grew is taken whole')
  writeFileSync(join(inbox, 'growing.png'), other)
  writeFileSync(join(inbox, 'growing.png.done'), '')
  await until(() => seen.includes('growing-2'))
  await until(() => readdirSync(join(inbox, 'done')).includes('growing-2.png'))
  controller.abort()
  t.match(await running, { done: 3, failed: 0 })
  t.strictSame(readdirSync(join(inbox, 'done')).sort(), ['exam', 'growing-2.png', 'growing.png'])
  t.match(readFileSync(join(out, 'summary.html'), 'utf8'), /growing-2/)
  await t.rejects(
    watch(model, inbox, { out, outputs: ['json'], threshold: 0.9, untilIdle: true, isolation: 'thread' }),
    {
      code: 'ERR_MAMMO_ARGUMENT',
    },
  )

  const holder = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
  writeFileSync(join(inbox, 'claimed', '.mammo-retinanet.lock'), JSON.stringify({ host: hostname(), pid: holder.pid }))
  const second = { out, outputs: ['json' as const], untilIdle: true, isolation: 'thread' as const }
  await t.rejects(watch(model, inbox, second), { code: 'ERR_MAMMO_BUSY' })
  holder.kill('SIGKILL')
  await new Promise((resolve) => holder.on('exit', resolve))
  t.match(await watch(model, inbox, { ...second, pollMs: 10 }), { done: 0, failed: 0 }, 'the lock of a dead process')
})
