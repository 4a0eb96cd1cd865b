import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { MammoError } from '../../lib/errors.js'
import { unverifiedRecord, writeManifest, writeModel } from '../../lib/onnx/export.js'
import type { Lane } from '../../lib/predict/lane.js'
import { createDetector, type DetectorOptions, loadDetector } from '../../lib/predict/predictor.js'
import type { Prediction } from '../../lib/predict/results.js'
import { tinyExport } from '../onnx/tiny-export.js'
import { testImage } from '../onnx/tiny-model.js'

t.setTimeout(120_000)

async function tinyModel(t: Test): Promise<string> {
  const out = join(t.testdir(), 'model.onnx')
  await writeManifest(await writeModel(tinyExport(out)), unverifiedRecord('test'))
  return out
}

const image = (height = 200, width = 150) => ({
  data: testImage(height, width),
  height,
  width,
  id: `${height}x${width}`,
})

for (const isolation of ['thread', 'process'] as const) {
  t.test(`${isolation}: predicts, reuses the worker, reports bad input, closes`, async (t) => {
    const detector = await loadDetector(await tinyModel(t), { isolation, threadsPerWorker: 1 })
    const first = await detector.predict(image())
    t.match(first, {
      schema: 'mammo-retinanet/detections@1',
      image: { id: '200x150', rows: 200, columns: 150, spacingMm: null, sha256: /^[0-9a-f]{64}$/ },
      model: { name: 'mammo-retinanet', sha256: detector.manifest.file.sha256 },
      pipeline: { crop: [0, 0, 150, 200], scale: 1, canvas: [256, 256], scope: 'whole image' },
      threshold: 0.05,
    })
    t.ok(first.detections.length > 0)
    t.ok(first.detections.every(({ box: [x1, y1, x2, y2] }) => x1 >= 0 && y1 >= 0 && x2 <= 150 && y2 <= 200))
    const again = await detector.predict(image())
    t.strictSame(again.detections, first.detections)
    await t.rejects(detector.predict({ data: new Uint16Array(5), height: 2, width: 3 }), {
      code: 'ERR_MAMMO_IMAGE',
      name: 'DataError',
    })
    const high = await detector.predict(image(), { threshold: 0.2 })
    t.strictSame(
      high.detections,
      first.detections.filter(({ score }) => score > 0.2),
    )
    await t.rejects(detector.predict(image(), { threshold: 0.001 }), { code: 'ERR_MAMMO_ARGUMENT' })
    await detector.close()
    await detector.close()
    await t.rejects(detector.predict(image()), { code: 'ERR_MAMMO_DISPOSED' })
  })
}

t.test('two workers give what one gives, in input order', async (t) => {
  const model = await tinyModel(t)
  const sources = Array.from({ length: 7 }, (_, i) => image(100 + 20 * i, 140))
  const run = async (workers: number) => {
    const detector = await loadDetector(model, { workers, threadsPerWorker: 1 })
    const results: Prediction[] = []
    for await (const result of detector.predictAll(sources)) results.push(result)
    await detector.close()
    return results.map(({ image, detections }) => ({ id: image.id, detections }))
  }
  const one = await run(1)
  t.strictSame(
    one.map(({ id }) => id),
    sources.map(({ id }) => id),
  )
  t.strictSame(await run(2), one)
})

t.test('the source stays usable unless it is handed over', async (t) => {
  const detector = await loadDetector(await tinyModel(t), { threadsPerWorker: 1 })
  const source = image()
  await detector.predict(source)
  t.equal(source.data.length, 30000)
  await detector.predict(source, { transfer: true })
  t.equal(source.data.length, 0)
  await detector.close()
})

t.test("the caller's event loop turns while the model runs", async (t) => {
  const detector = await loadDetector(await tinyModel(t), { threadsPerWorker: 1 })
  let turns = 0
  const timer = setInterval(() => turns++, 1)
  await detector.predict(image(1024, 1024))
  clearInterval(timer)
  t.ok(turns > 3, `${turns} turns`)
  await detector.close()
})

t.test('a model without its manifest or with other bytes is refused', async (t) => {
  const folder = t.testdir({ 'model.onnx': 'x' })
  await t.rejects(loadDetector(join(folder, 'model.onnx')), { code: 'ERR_MAMMO_MODEL_MANIFEST' })
})

/** A lane without a model: each job ends when the test says so. */
function fakeLane(): Lane & { finish(): void; lose(): void; fail(error: MammoError): void; jobs: string[] } {
  let end: () => void = () => undefined
  let current: { resolve(value: Prediction): void; reject(error: MammoError): void } | undefined
  let alive = true
  const ended = new Promise<void>((resolve) => {
    end = resolve
  })
  const jobs: string[] = []
  return {
    ended,
    jobs,
    alive: () => alive,
    run(job) {
      jobs.push(job.id!)
      return new Promise((resolve, reject) => {
        current = { resolve, reject }
      })
    },
    async stop() {
      alive = false
      end()
    },
    kill: () => false,
    finish() {
      current?.resolve({ image: { id: jobs.at(-1) } } as Prediction)
    },
    fail(error) {
      current?.reject(error)
    },
    lose() {
      alive = false
      current?.reject(Object.assign(new Error('lost'), { code: 'ERR_MAMMO_WORKER_LOST' }) as unknown as MammoError)
      end()
    },
  }
}

const manifest = {
  output: { scoreFloor: 0.01 },
  defaultThreshold: 0.05,
  input: { presentationIntents: [] },
} as never
const fake = (lanes: Lane[], open: () => Promise<Lane>, options: DetectorOptions = {}) =>
  createDetector(manifest, lanes, open, { workers: lanes.length, threadsPerWorker: 1, ...options })
const never = () => new Promise<Lane>(() => undefined)
const small = { data: new Uint16Array(1), height: 1, width: 1 }

t.test('the queue is bounded by count and bytes and goes by priority', async (t) => {
  const lane = fakeLane()
  const detector = fake([lane], never, { queueLimit: 2, queueBytes: 100 })
  const running = detector.predict(small, { id: 'a' })
  const late = detector.predict(small, { id: 'late' })
  const soon = detector.predict(small, { id: 'soon', priority: 1 })
  await t.rejects(detector.predict(small, { id: 'too many' }), { code: 'ERR_MAMMO_QUEUE_FULL' })
  lane.finish()
  t.equal((await running).image.id, 'a')
  await delay(1)
  await t.rejects(detector.predict({ data: new Uint16Array(100), height: 10, width: 10 }), {
    code: 'ERR_MAMMO_QUEUE_FULL',
  })
  lane.finish()
  await soon
  await delay(1)
  lane.finish()
  await late
  t.strictSame(lane.jobs, ['a', 'soon', 'late'])
  await detector.close()
})

t.test('cancelling removes waiting work and drops running work', async (t) => {
  const lane = fakeLane()
  const detector = fake([lane], never)
  const first = new AbortController()
  const second = new AbortController()
  const running = detector.predict(small, { id: 'running', signal: first.signal })
  const waiting = detector.predict(small, { id: 'waiting', signal: second.signal })
  const last = detector.predict(small, { id: 'last' })
  second.abort()
  await t.rejects(waiting, { code: 'ERR_MAMMO_CANCELLED' })
  first.abort()
  await t.rejects(running, { code: 'ERR_MAMMO_CANCELLED' })
  lane.finish()
  await delay(1)
  lane.finish()
  t.equal((await last).image.id, 'last')
  t.strictSame(lane.jobs, ['running', 'last'])
  await t.rejects(detector.predict(small, { signal: first.signal }), { code: 'ERR_MAMMO_CANCELLED' })
  await detector.close()
})

t.test('a call that takes too long is a timeout', async (t) => {
  const lane = fakeLane()
  const detector = fake([lane], never, { timeoutMs: 5 })
  await t.rejects(detector.predict(small, { id: 'slow' }), { code: 'ERR_MAMMO_TIMEOUT' })
  lane.finish()
  await detector.close()
})

t.test('a lost worker fails its image only and is replaced; three in a minute end it', async (t) => {
  const lanes = [fakeLane(), fakeLane(), fakeLane()]
  let next = 1
  const detector = fake([lanes[0]!], async () => lanes[next++]!)
  for (const [index, lane] of lanes.entries()) {
    const failing = detector.predict(small, { id: `lost ${index}` })
    await delay(1)
    lane.lose()
    await t.rejects(failing, { code: 'ERR_MAMMO_WORKER_LOST' })
    await delay(1)
  }
  await t.rejects(detector.predict(small), { code: 'ERR_MAMMO_MODEL_NOT_READY' })
  t.equal(next, 3, 'two were replaced')
  await detector.close()
})

t.test('closing waits for running work; drain also for waiting work', async (t) => {
  for (const drain of [true, false]) {
    const lane = fakeLane()
    const detector = fake([lane], never)
    const running = detector.predict(small, { id: 'running' })
    const waiting = detector.predict(small, { id: 'waiting' }).catch((error: MammoError) => error.code)
    const closed = detector.close({ drain })
    lane.finish()
    await running
    await delay(1)
    if (drain) lane.finish()
    await closed
    const outcome = await waiting
    t.strictSame(typeof outcome === 'string' ? outcome : outcome.image.id, drain ? 'waiting' : 'ERR_MAMMO_CANCELLED')
  }
})

t.test('predictAll goes on after a bad image when asked to, otherwise ends with it', async (t) => {
  const detector = await loadDetector(await tinyModel(t), { threadsPerWorker: 1 })
  const bad = { data: new Uint16Array(1), height: 9, width: 9, id: 'bad' }
  const errors: string[] = []
  const seen: string[] = []
  const onError = (_: unknown, error: MammoError) => errors.push(error.code)
  for await (const {
    image: { id },
  } of detector.predictAll([image(128, 128), bad, image(130, 128)], { onError }))
    seen.push(id)
  t.strictSame(seen, ['128x128', '130x128'])
  t.strictSame(errors, ['ERR_MAMMO_IMAGE'])
  await t.rejects(
    async () => {
      for await (const _ of detector.predictAll([bad])) t.fail('nothing to see')
    },
    { code: 'ERR_MAMMO_IMAGE' },
  )
  await detector.close()
})

t.test(
  'in a process, a timeout kills at once and counts, a cancelled run is killed after the grace period and does not',
  async (t) => {
    const kills: number[] = []
    const lanes = Array.from({ length: 8 }, (_, index) => {
      const lane = fakeLane()
      const kill = () => {
        kills.push(index)
        lane.lose()
        return true
      }
      return { ...lane, kill }
    })
    let next = 1
    const detector = fake([lanes[0]!], async () => lanes[next++]!, { isolation: 'process', graceMs: 5 })
    for (let i = 0; i < 4; i++) {
      const controller = new AbortController()
      const call = detector.predict(small, { id: `cancelled ${i}`, signal: controller.signal })
      controller.abort()
      await t.rejects(call, { code: 'ERR_MAMMO_CANCELLED' })
      t.equal(kills.length, i, 'not killed yet')
      await delay(30)
      t.equal(kills.length, i + 1)
    }
    for (let i = 0; i < 3; i++) {
      await t.rejects(detector.predict(small, { id: `slow ${i}`, timeoutMs: 2 }), { code: 'ERR_MAMMO_TIMEOUT' })
      await delay(5)
    }
    await t.rejects(detector.predict(small), { code: 'ERR_MAMMO_MODEL_NOT_READY' })
    await detector.close()
  },
)

t.test('cuda is refused where onnxruntime has no GPU libraries', async (t) => {
  const folder = new URL('../../../node_modules/onnxruntime-node/bin/napi-v6/linux/x64/', import.meta.url)
  if (existsSync(new URL('libonnxruntime_providers_cuda.so', folder))) {
    t.pass('refusal', { skip: 'onnxruntime-node has its GPU libraries here' })
    return
  }
  await t.rejects(loadDetector(await tinyModel(t), { device: 'cuda' }), {
    code: 'ERR_MAMMO_NO_CUDA',
    fix: /--device cpu/,
  })
})
