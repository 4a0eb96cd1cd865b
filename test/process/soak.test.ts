// A thousand requests at 256 pixels with random cancellation, time-outs, priorities and bad files: every call settles exactly once with
// a result or a known error, results are those of an undisturbed detector, the pool works on afterwards, and the
// memory of this process stays flat (worker processes are not measured).
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { MammoError } from '../../lib/errors.js'
import { unverifiedRecord, writeManifest, writeModel } from '../../lib/onnx/export.js'
import { loadDetector, type Source } from '../../lib/predict/predictor.js'
import { randomStream } from '../../lib/random.js'
import { tinyExport } from '../onnx/tiny-export.js'
import { testImage } from '../onnx/tiny-model.js'

t.setTimeout(600_000)

const REQUESTS = 1000
/** More at once than the queue takes: some are refused, as they should be. */
const WAVE = 40
const MiB = 2 ** 20

for (const isolation of ['thread', 'process'] as const) {
  t.test(`${REQUESTS} disturbed requests (${isolation})`, async (t) => {
    const folder = t.testdir()
    const model = join(folder, 'model.onnx')
    await writeManifest(await writeModel(tinyExport(model)), unverifiedRecord('test'))
    const bad = join(folder, 'bad.png')
    writeFileSync(bad, 'no image')
    const images = Array.from({ length: 4 }, (_, i) => testImage(256, 256, [256 - 20 * i, 256]))
    const source = (i: number): Source => ({ data: images[i % 4]!, height: 256, width: 256, id: `image ${i}` })
    const detector = await loadDetector(model, {
      workers: 2,
      threadsPerWorker: 1,
      isolation,
      queueLimit: 24,
      graceMs: 60_000,
    })
    const plain = ({ detections }: { detections: unknown }) => JSON.stringify(detections)
    const expected = await Promise.all([0, 1, 2, 3].map(async (i) => plain(await detector.predict(source(i)))))

    const random = randomStream(5, `soak-${isolation}`)
    const counts: Record<string, number> = {}
    let settled = 0
    let wrong = 0
    const resident: number[] = []
    const one = async (i: number) => {
      const kind = random.uniform()
      const controller = new AbortController()
      const options = {
        signal: controller.signal,
        priority: Math.floor(random.uniform(0, 3)),
        // In a process a time-out kills, and three kills a minute are the pool's own limit: only waiting calls time out there.
        ...(kind < 0.1 && isolation === 'thread' ? { timeoutMs: random.uniform(1, 30) } : {}),
      }
      const isBad = kind > 0.9
      const promise = detector.predict(isBad ? bad : source(i), options)
      if (kind >= 0.1 && kind < 0.3) void sleep(random.uniform(0, 40)).then(() => controller.abort())
      const outcome = await promise.then(
        (prediction) => {
          if (plain(prediction) !== expected[i % 4] || prediction.image.id !== `image ${i}`) wrong++
          return isBad ? 'a result of a bad file' : 'result'
        },
        (error: unknown) => (error instanceof MammoError ? error.code : String(error)),
      )
      settled++
      counts[outcome] = (counts[outcome] ?? 0) + 1
    }
    for (let wave = 0; wave < REQUESTS / WAVE; wave++) {
      const calls: Promise<void>[] = []
      for (let i = 0; i < WAVE; i++) {
        calls.push(one(wave * WAVE + i))
        if (i % 5 === 4) await sleep(random.uniform(0, 60))
      }
      await Promise.all(calls)
      resident.push(process.memoryUsage.rss())
    }
    t.equal(settled, REQUESTS, 'every call settled')
    t.equal(wrong, 0, 'every result is the right one')
    const known = ['result', 'ERR_MAMMO_CANCELLED', 'ERR_MAMMO_DICOM', 'ERR_MAMMO_QUEUE_FULL', 'ERR_MAMMO_TIMEOUT']
    t.strictSame(
      Object.keys(counts).filter((code) => !known.includes(code)),
      [],
      JSON.stringify(counts),
    )
    t.ok(counts['result']! > REQUESTS / 4, JSON.stringify(counts))
    t.ok(counts['ERR_MAMMO_CANCELLED']! > 0 && counts['ERR_MAMMO_DICOM']! > 0)
    // Nothing is stuck: as many as there are workers, and more, run afterwards.
    const after = await Promise.all([0, 1, 2, 3].map(async (i) => plain(await detector.predict(source(i)))))
    t.strictSame(after, expected)
    const growth = resident.at(-1)! - resident[Math.floor(resident.length / 2)]!
    t.ok(growth < 64 * MiB, `resident memory grew by ${(growth / MiB).toFixed(0)} MiB over the second half`)
    t.comment(`${JSON.stringify(counts)}, resident MiB ${resident.map((b) => Math.round(b / MiB)).join(' ')}`)
    await detector.close({ drain: true })
  })
}
