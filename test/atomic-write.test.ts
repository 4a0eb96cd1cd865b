import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { removeUnfinished, writeFileAtomic } from '../lib/atomic-write.js'

t.test('a file or parts, the folder is made, nothing else is left', async (t) => {
  const folder = t.testdir()
  await writeFileAtomic(join(folder, 'a', 'b.txt'), 'old')
  await writeFileAtomic(join(folder, 'a', 'b.txt'), [Buffer.from('ne'), Buffer.from('w')])
  t.equal(readFileSync(join(folder, 'a', 'b.txt'), 'utf8'), 'new')
  t.strictSame(readdirSync(join(folder, 'a')), ['b.txt'])
})

t.test('a target that cannot be replaced: an error, and no temporary file', async (t) => {
  const folder = t.testdir({ target: { inside: '' } })
  await t.rejects(writeFileAtomic(join(folder, 'target'), 'x'))
  t.strictSame(readdirSync(folder), ['target'])
})

t.test('what killed processes left is removed, and only that', async (t) => {
  const left = { '.a.json.0123abcd.tmp': '', '.hidden': '', 'b.0123abcd.tmp': '', '.c.tmp': '' }
  const folder = t.testdir({ ...left, deep: { deeper: left } })
  await removeUnfinished(folder)
  for (const path of [folder, join(folder, 'deep', 'deeper')])
    t.notOk(readdirSync(path).includes('.a.json.0123abcd.tmp'))
  t.strictSame(readdirSync(join(folder, 'deep', 'deeper')).sort(), ['.c.tmp', '.hidden', 'b.0123abcd.tmp'])
  await removeUnfinished(join(folder, 'nothing'))
})
