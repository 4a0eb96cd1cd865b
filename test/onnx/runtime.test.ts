import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openOnnx, runtimeVersion } from '../../lib/onnx/runtime.js'
import { tinyBytes, tinyDetector } from './tiny-model.js'

t.test('what is not a model is a data error without paths in its text', async (t) => {
  const folder = t.testdir({ 'a.onnx': 'no model', 'empty.onnx': '' })
  for (const name of ['a.onnx', 'empty.onnx', 'missing.onnx']) {
    const path = join(folder, name)
    const error = await openOnnx(path, { threads: 1 }).then(
      () => undefined,
      (e: Error & { code: string }) => e,
    )
    t.equal(error?.code, 'ERR_MAMMO_MODEL_MANIFEST', name)
    t.notOk(error!.message.includes(folder), 'no path in the message')
  }
})

t.test('a wrong input shape is an error of the run, the session stays usable', async (t) => {
  const path = join(t.testdir(), 'model.onnx')
  writeFileSync(path, tinyBytes(tinyDetector()))
  const session = await openOnnx(path, { threads: 1 })
  t.strictSame([...session.inputs], ['image', 'imageSize'])
  t.strictSame([...session.outputs], ['boxes', 'scores', 'labels', 'imageIndex'])
  const imageSize = { dims: [1, 2], data: BigInt64Array.of(128n, 128n) }
  const bad = { dims: [1, 2, 128, 128], data: new Uint16Array(2 * 128 * 128) }
  await t.rejects(session.run({ image: bad, imageSize }), { code: 'ERR_MAMMO_WORKER_LOST' })
  const good = { dims: [1, 1, 128, 128], data: new Uint16Array(128 * 128) }
  t.ok((await session.run({ image: good, imageSize }))['boxes'])
  await session.close()
  t.match(runtimeVersion(), /^\d+\.\d+\.\d+/)
})
