import { existsSync, mkdirSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createRunFolder, findRunFolder } from '../../lib/train/run-folder.js'

t.test('numbers go up, nothing is written over, latest follows', async (t) => {
  const root = t.testdir()
  const first = await createRunFolder(root, 'train', 'a')
  writeFileSync(join(first, 'x'), 'kept')
  const second = await createRunFolder(root, 'train', 'a')
  const other = await createRunFolder(root, 'train', 'a-b')
  t.strictSame(
    [first, second, other].map((p) => p.slice(root.length + 1)),
    ['train/a-1', 'train/a-2', 'train/a-b-1'],
  )
  t.equal(readlinkSync(join(root, 'train', 'latest')), 'a-b-1')
  t.ok(existsSync(join(first, 'x')))
  t.strictSame(readdirSync(join(root, 'train')).sort(), ['a-1', 'a-2', 'a-b-1', 'latest'])
})

t.test('a gap is not filled: the newest number counts', async (t) => {
  const root = t.testdir()
  mkdirSync(join(root, 'train', 'a-7'), { recursive: true })
  t.equal(await createRunFolder(root, 'train', 'a'), join(root, 'train', 'a-8'))
})

t.test('many at once all get folders of their own', async (t) => {
  const root = t.testdir()
  const made = await Promise.all(Array.from({ length: 8 }, () => createRunFolder(root, 'train', 'a')))
  t.equal(new Set(made).size, 8)
})

t.test('existOk empties the newest, but not a running one', async (t) => {
  const root = t.testdir()
  const first = await createRunFolder(root, 'train', 'a')
  const record = (status: string) =>
    writeFileSync(join(first, 'run.json'), JSON.stringify({ schema: 'mammo-retinanet/run@1', status }))
  record('finished')
  t.equal(await createRunFolder(root, 'train', 'a', true), first)
  t.strictSame(readdirSync(first), [])
  record('running')
  await t.rejects(createRunFolder(root, 'train', 'a', true), { code: 'ERR_MAMMO_RUN_EXISTS', exitCode: 2 })
})

t.test('a run is found from its folder, its checkpoint and the link', async (t) => {
  const root = t.testdir()
  const folder = await createRunFolder(root, 'train', 'a')
  writeFileSync(join(folder, 'run.json'), '{}')
  mkdirSync(join(folder, 'checkpoints'))
  writeFileSync(join(folder, 'checkpoints', 'last.safetensors'), '')
  t.equal(await findRunFolder(folder), folder)
  t.equal(await findRunFolder(join(folder, 'checkpoints', 'last.safetensors')), folder)
  t.ok((await findRunFolder(join(root, 'train', 'latest'))).endsWith('latest'))
  await t.rejects(findRunFolder(join(root, 'nothing')), { code: 'ERR_MAMMO_ARGUMENT' })
  await t.rejects(findRunFolder(root), { code: 'ERR_MAMMO_ARGUMENT' })
})
