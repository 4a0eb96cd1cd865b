// The child process of the parity check: receives a model's path and inputs, runs onnxruntime, sends the outputs back and ends when
// the parent disconnects. Started by parity.ts only.
import type { ChildReply } from './parity.js'
import { openOnnx, runtimeVersion, type Tensor } from './runtime.js'

interface Job {
  model: string
  feeds: Record<string, Tensor>[]
  threads: number
}

process.once('message', async ({ model, feeds, threads }: Job) => {
  const reply: ChildReply = {}
  try {
    const session = await openOnnx(model, { threads, spin: true })
    const outputs: Record<string, Tensor>[] = []
    for (const feed of feeds) outputs.push(await session.run(feed))
    await session.close()
    reply.runtime = runtimeVersion()
    reply.outputs = outputs
  } catch (error) {
    const { message, code } = error as Error & { code?: string }
    reply.error = { message, ...(code === undefined ? {} : { code }) }
  }
  process.send?.(reply)
})
