import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openSafetensors, writeSafetensors } from '../../lib/weights/safetensors.js'

const tensors = new Map([
  ['a.weight', { shape: [2, 3], data: Float32Array.of(1, -2, 0.5, 3e-8, 5, Number.MAX_VALUE) }],
  ['steps', { shape: [], data: BigInt64Array.of(-(2n ** 60n)) }],
  ['empty', { shape: [0, 4], data: new Float32Array(0) }],
  ['pixels', { shape: [3], data: Uint16Array.of(0, 1, 65535) }],
])

t.test('what is written comes back', async (t) => {
  const path = join(t.testdir(), 'x.safetensors')
  await writeSafetensors(path, tensors, { config: '{"ü":1}' })
  const file = await openSafetensors(path)
  t.strictSame(file.metadata, { config: '{"ü":1}' })
  t.strictSame([...file.tensors.keys()], [...tensors.keys()])
  for (const [name, tensor] of tensors) t.strictSame(await file.read(name), tensor, name)
  t.strictSame((await file.readFloat32('a.weight')).shape, [2, 3])
  await t.rejects(file.readFloat32('steps'), /not float32/)
  await t.rejects(file.read('b'), { code: 'ERR_MAMMO_CHECKPOINT', message: /no tensor "b"/ })
  await file.close()
})

t.test('damaged files are refused when opened', async (t) => {
  const folder = t.testdir()
  const path = join(folder, 'x.safetensors')
  await writeSafetensors(path, tensors)
  const good = readFileSync(path)
  const cases: Record<string, Buffer> = {
    empty: Buffer.alloc(0),
    'cut in the length': good.subarray(0, 5),
    'cut in the header': good.subarray(0, 40),
    'cut in the data': good.subarray(0, good.length - 1),
    'not the format': Buffer.from('PK\u0003\u0004 something else altogether'),
    'header of another size': Buffer.concat([
      good.subarray(0, 8),
      Buffer.from(good.subarray(8).toString('latin1').replace('[2,3]', '[2,4]'), 'latin1'),
    ]),
  }
  for (const [name, bytes] of Object.entries(cases)) {
    const bad = join(folder, 'bad.safetensors')
    writeFileSync(bad, bytes)
    await t.rejects(openSafetensors(bad), { code: 'ERR_MAMMO_CHECKPOINT' }, name)
  }
  await t.rejects(openSafetensors(join(folder, 'missing')), { code: 'ERR_MAMMO_CHECKPOINT' })
})
