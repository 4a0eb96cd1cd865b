// The inside of a lane: loads the model once, then reads, prepares and predicts one image per message. Runs as a worker thread or as
// a child process, started by lane.ts only. It ends when told to close or when its parent goes away.
import { parentPort } from 'node:worker_threads'
import { type OnnxSession, openOnnx } from '../onnx/runtime.js'
import { type FromWorker, packError, type ToWorker, type WorkerSetup } from './lane-protocol.js'
import { predictImage } from './predict-image.js'
import { keepsMemory } from './threads.js'

let session: OnnxSession | undefined
let setup: WorkerSetup | undefined

const send = (message: FromWorker) => {
  if (parentPort) parentPort.postMessage(message)
  else process.send?.(message)
}

async function start(given: WorkerSetup): Promise<void> {
  setup = given
  const keepMemory = keepsMemory(given.manifest)
  const { threads, spin, device } = given
  session = await openOnnx(given.model, { threads, spin, keepMemory, device })
  for (const [height, width] of given.warmup) {
    const source = { data: new Uint16Array(height * width), height, width }
    await predictImage(session, given.manifest, {
      source,
      threshold: 1,
      crop: false,
      spacing: 'ignore',
      read: {},
    })
  }
}

async function handle(message: ToWorker): Promise<void> {
  if (message.kind === 'setup') {
    await start(message.setup).then(
      () => send({ kind: 'ready' }),
      (error: unknown) => send({ kind: 'failed', error: packError(error) }),
    )
  } else if (message.kind === 'job') {
    const { id, job } = message
    await predictImage(session!, setup!.manifest, job).then(
      (prediction) => send({ kind: 'result', id, prediction }),
      (error: unknown) => send({ kind: 'error', id, error: packError(error) }),
    )
  } else {
    await session?.close()
    if (parentPort) parentPort.close()
    else process.disconnect()
  }
}

if (parentPort) {
  parentPort.on('message', (message: ToWorker) => void handle(message))
} else {
  process.on('message', (message) => void handle(message as ToWorker))
  process.on('disconnect', () => {
    process.exitCode = 0
  })
}
