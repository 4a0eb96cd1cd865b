// One situation of starting up or shutting down, named by the first argument: the body of a process that start-stop.test.ts
// starts and watches. What it prints on stdout is what the test compares; stderr must stay empty.
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, threadId, Worker } from 'node:worker_threads'
import { native, openSession, type Session } from '../../lib/binding/session.js'
import { tinyBatch, tinyConfig, tinyStep, tinyTargets } from '../tiny-detector.js'

const step = (session: Session, n = 2, side = 128) =>
  session.trainStep(tinyBatch(n, side), tinyTargets(n, side), tinyStep())

/** A step long enough to end the program in its middle. */
const longStep = (session: Session) => step(session, 2, 512)

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

const startWorker = (situation: string) => new Worker(fileURLToPath(import.meta.url), { argv: [situation] })

const ended = (worker: Worker) =>
  new Promise<number>((resolve, reject) => {
    worker.on('error', reject)
    worker.on('exit', resolve)
  })

const say = (text: string) => void process.stdout.write(`${text}\n`)

const situations: Record<string, () => Promise<void>> = {
  async 'addon opened, nothing done'() {
    native().buildInfo()
  },

  async 'step, then dispose'() {
    const session = await openSession(tinyConfig())
    say(String((await step(session)).finite))
    await session.dispose()
  },

  async 'step, no dispose'() {
    const session = await openSession(tinyConfig())
    say(String((await step(session)).finite))
  },

  async 'end of the program during a step'() {
    const session = await openSession(tinyConfig())
    longStep(session).then((result) => say(String(result.finite)))
  },

  async 'process.exit during a step'() {
    const session = await openSession(tinyConfig())
    longStep(session).then(() => say('settled'))
    await pause(60)
    process.exit(0)
  },

  async 'process.exit with a queue of steps'() {
    const session = await openSession(tinyConfig())
    for (let i = 0; i < 1000; i++) step(session).catch(() => undefined)
    await pause(60)
    process.exit(0)
  },

  async 'native error'() {
    const session = await openSession(tinyConfig())
    await session.getTensor('nothing').catch((error) => say(error.code))
    await native()
      .runOp('nms', { boxes: new Float32Array(3), scores: new Float32Array(1), iou: 0.5 })
      .catch((error) => say(error.code))
    say(String((await step(session)).finite))
  },

  async 'out of memory'() {
    const session = await openSession(tinyConfig())
    const batch = { ...tinyBatch(1), canvas: [1 << 19, 1 << 19] as [number, number] }
    await session.detect(batch).catch((error) => say(error.code))
    say(String((await step(session)).finite))
  },

  async 'step in a worker thread'() {
    const worker = startWorker('worker: step')
    worker.on('message', (finite) => say(String(finite)))
    say(`worker ended with ${await ended(worker)}`)
  },

  async 'step in a worker thread without dispose'() {
    const worker = startWorker('worker: step, no dispose')
    worker.on('message', (finite) => say(String(finite)))
    say(`worker ended with ${await ended(worker)}`)
  },

  async 'worker terminated during a step'() {
    const worker = startWorker('worker: long step')
    const exit = ended(worker)
    await new Promise((resolve) => worker.once('message', resolve))
    await pause(60)
    await worker.terminate()
    await exit
    const session = await openSession(tinyConfig())
    say(String((await step(session)).finite))
  },

  async 'worker calls process.exit during a step'() {
    const worker = startWorker('worker: exit during a step')
    say(`worker ended with ${await ended(worker)}`)
  },

  async 'main thread and workers at the same time'() {
    const workers = [startWorker('worker: step'), startWorker('worker: step'), startWorker('worker: step, no dispose')]
    const ends = workers.map(ended)
    const session = await openSession(tinyConfig())
    for (let i = 0; i < 5; i++) await step(session)
    say(String(await Promise.all(ends)))
    say(String((await step(session)).finite))
  },

  async 'with sharp and onnxruntime-node loaded first'() {
    await useSharp()
    await useOnnxruntime()
    const session = await openSession(tinyConfig())
    say(String((await step(session)).finite))
  },

  async 'with sharp and onnxruntime-node loaded after'() {
    const session = await openSession(tinyConfig())
    say(String((await step(session)).finite))
    await useOnnxruntime()
    await useSharp()
    say(String((await step(session)).finite))
  },

  async 'sharp at work during steps'() {
    const session = await openSession(tinyConfig())
    await Promise.all([step(session), useSharp(), step(session), useSharp(), useSharp()])
    say('done')
  },

  async 'error nobody catches, during a step'() {
    const session = await openSession(tinyConfig())
    longStep(session)
    await pause(20)
    throw new Error('on purpose')
  },

  async 'sessions nobody disposes are collected'() {
    const collect = (globalThis as { gc?: () => void }).gc!
    for (let i = 0; i < 12; i++) {
      await step(await openSession(tinyConfig()))
      collect()
      await pause(2)
    }
    const before = (await native().memory()).residentBytes
    for (let i = 0; i < 12; i++) {
      await step(await openSession(tinyConfig()))
      collect()
      await pause(2)
    }
    say(String((await native().memory()).residentBytes - before))
  },

  async 'twenty cycles'() {
    const resident: number[] = []
    for (let i = 0; i < 20; i++) {
      const session = await openSession(tinyConfig())
      await step(session)
      await session.detect(tinyBatch())
      await session.dispose()
      resident.push((await native().memory()).residentBytes)
    }
    say(JSON.stringify(resident))
  },

  async 'two threads'() {
    await native().configure(2)
    const anchors = 400_000
    const before = busyThreads()
    await native().runOp('focal', {
      logits: Float32Array.from({ length: anchors * 2 }, (_, i) => (i % 17) - 8),
      shape: Int32Array.of(1, anchors, 2),
      match: new Int32Array(anchors).fill(-1),
      labels: new Int32Array(0),
      boxOffsets: Int32Array.of(0, 0),
      alpha: 0.25,
      gamma: 2.5,
      upstream: Float64Array.of(1),
      repeat: 60,
    })
    const after = busyThreads()
    const ticks = [...after].map(([id, time]) => time - (before.get(id) ?? 0)).sort((a, b) => b - a)
    await useSharp()
    await useOnnxruntime()
    const maps = readFileSync('/proc/self/maps', 'utf8').split('\n')
    const mapped = maps.map((line) => line.split(/\s+/)[5] ?? '').filter((file) => /lib(gomp|iomp5|omp)[.-]/.test(file))
    say(JSON.stringify({ ticks, openmp: [...new Set(mapped)] }))
  },

  // Bodies of workers.

  async 'worker: step'() {
    const session = await openSession(tinyConfig())
    parentPort!.postMessage((await step(session)).finite)
    await session.dispose()
  },

  async 'worker: step, no dispose'() {
    parentPort!.postMessage((await step(await openSession(tinyConfig()))).finite)
  },

  async 'worker: long step'() {
    const session = await openSession(tinyConfig())
    parentPort!.postMessage(threadId)
    await longStep(session)
  },

  async 'worker: exit during a step'() {
    const session = await openSession(tinyConfig())
    longStep(session).catch(() => undefined)
    await pause(60)
    process.exit(0)
  },
}

/** CPU time in clock ticks of the engine's thread and its OpenMP team (which inherits its name), by thread id. */
function busyThreads(): Map<string, number> {
  const times = new Map<string, number>()
  for (const id of readdirSync('/proc/self/task')) {
    const stat = readFileSync(`/proc/self/task/${id}/stat`, 'utf8')
    const [, name, rest] = /\((.*)\) (.*)/.exec(stat) ?? []
    if (name !== 'mammo-engine' || rest === undefined) continue
    const fields = rest.split(' ')
    times.set(id, Number(fields[11]) + Number(fields[12]))
  }
  return times
}

async function useSharp(): Promise<void> {
  const { encodeRgbPng } = await import('../../lib/data/raster.js')
  await encodeRgbPng(new Uint8Array(64 * 64 * 3), 64, 64)
}

/** Runs the smallest model there is: one Identity node, spelled as protobuf bytes. */
async function useOnnxruntime(): Promise<void> {
  const { default: ort } = await import('onnxruntime-node')
  const session = await ort.InferenceSession.create(identityModel())
  const { y } = await session.run({ x: new ort.Tensor('float32', Float32Array.of(3), [1]) })
  if (y?.data[0] !== 3) throw new Error('onnxruntime-node gave another value')
  await session.release()
}

function identityModel(): Uint8Array {
  const field = (number: number, bytes: number[]) => [(number << 3) | 2, bytes.length, ...bytes]
  const text = (number: number, value: string) => field(number, [...Buffer.from(value)])
  const value = (name: string) => [...text(1, name), ...field(2, field(1, [8, 1, ...field(2, field(1, [8, 1]))]))]
  const node = [...text(1, 'x'), ...text(2, 'y'), ...text(4, 'Identity')]
  const graph = [...field(1, node), ...text(2, 'g'), ...field(11, value('x')), ...field(12, value('y'))]
  return Uint8Array.from([8, 8, ...field(7, graph), ...field(8, [16, 17])])
}

const name = process.argv[2] ?? ''
const situation = situations[name]
if (situation === undefined) throw new Error(`unknown situation "${name}"`)
if (isMainThread === name.startsWith('worker: ')) throw new Error('started on the wrong kind of thread')
await situation()
