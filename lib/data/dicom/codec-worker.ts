// Worker thread of codecs.ts: decodes one frame per message. A decoder's own message is not passed on.
import { parentPort } from 'node:worker_threads'
import { type CodecJob, runCodec } from './native-codecs.js'

export type CodecReply = { cells: Uint8Array } | { failed: true }

parentPort?.on('message', async (job: CodecJob) => {
  try {
    const cells = await runCodec(job)
    const reply: CodecReply = { cells }
    parentPort?.postMessage(reply, [cells.buffer as ArrayBuffer])
  } catch {
    const reply: CodecReply = { failed: true }
    parentPort?.postMessage(reply)
  }
})
