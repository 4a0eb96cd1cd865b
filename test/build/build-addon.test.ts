import { existsSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ensureAddon, isAtLeast, probeAddon, withLock } from '../../lib/build/build-addon.js'
import { addonPath } from '../../lib/package-root.js'

t.test('one build at a time: the second waits for the first', async (t) => {
  const folder = t.testdir()
  const order: string[] = []
  const messages: string[] = []
  let release = () => {}
  const first = withLock(
    folder,
    () => undefined,
    async () => {
      order.push('first in')
      await new Promise<void>((resolve) => {
        release = resolve
      })
      order.push('first out')
    },
  )
  const second = withLock(
    folder,
    (line) => messages.push(line),
    async () => void order.push('second in'),
  )
  t.ok(existsSync(join(folder, 'native.lock')))
  release()
  await Promise.all([first, second])
  t.same(order, ['first in', 'first out', 'second in'])
  t.match(messages, [`another build is running (process ${process.pid}); waiting`])
  t.notOk(existsSync(join(folder, 'native.lock')))
})

t.test('the lock is given back after a failure, and taken over from a dead process', async (t) => {
  const folder = t.testdir()
  const lock = join(folder, 'native.lock')
  await t.rejects(
    withLock(
      folder,
      () => undefined,
      async () => {
        throw new Error('no')
      },
    ),
    { message: 'no' },
  )
  t.notOk(existsSync(lock))
  writeFileSync(lock, '999999999')
  t.equal(
    await withLock(
      folder,
      () => undefined,
      async () => 'done',
    ),
    'done',
  )
  writeFileSync(lock, '')
  utimesSync(lock, new Date(0), new Date(0))
  t.equal(
    await withLock(
      folder,
      () => undefined,
      async () => 'done',
    ),
    'done',
  )
})

t.test('a folder that cannot be written is a build error', async (t) => {
  const file = join(t.testdir({ file: '' }), 'file', 'build')
  await t.rejects(
    withLock(
      file,
      () => undefined,
      async () => undefined,
    ),
    { code: 'ERR_MAMMO_BUILD', exitCode: 4, fix: /writable/ },
  )
})

t.test('versions', async (t) => {
  t.ok(isAtLeast('3.20.0', [3, 20]))
  t.ok(isAtLeast('4.1', [3, 20]))
  t.notOk(isAtLeast('3.9.5', [3, 20]))
  t.notOk(isAtLeast('', [3, 20]))
})

t.test('a file that is no addon is found out in another process', async (t) => {
  const path = join(t.testdir({ 'x.node': 'no library' }), 'x.node')
  t.match(await probeAddon(path), { problem: /x\.node/ })
})

t.test(
  '--no-build makes a missing addon an error',
  { skip: existsSync(addonPath()) ? 'the addon is built' : false },
  async (t) => {
    await t.rejects(ensureAddon({ allowed: false }), { code: 'ERR_MAMMO_BINDING_MISSING', exitCode: 4 })
  },
)
