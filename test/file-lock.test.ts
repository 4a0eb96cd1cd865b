import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { lockFile } from '../lib/file-lock.js'

const lockRun = (folder: string) => lockFile(join(folder, 'run.lock'), 'a run that no other process writes to')

t.test('one holder at a time; given back it is free again', async (t) => {
  const folder = t.testdir()
  const unlock = await lockRun(folder)
  await t.rejects(lockRun(folder), { code: 'ERR_MAMMO_BUSY', message: new RegExp(`process ${process.pid} on`) })
  await unlock()
  t.strictSame(readdirSync(folder), [])
  await (await lockRun(folder))()
})

t.test('of many at once exactly one gets it', async (t) => {
  const folder = t.testdir()
  const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => lockRun(folder)))
  t.equal(outcomes.filter((o) => o.status === 'fulfilled').length, 1)
  t.strictSame(readdirSync(folder), ['run.lock'])
})

t.test('a lock of a process that is gone is taken over', async (t) => {
  const folder = t.testdir()
  const child = spawn(process.execPath, ['-e', ''])
  const pid = child.pid!
  await new Promise((resolve) => child.on('close', resolve))
  writeFileSync(join(folder, 'run.lock'), JSON.stringify({ pid, host: hostname(), started: '1' }))
  const unlock = await lockRun(folder)
  t.match(JSON.parse(readFileSync(join(folder, 'run.lock'), 'utf8')), { pid: process.pid })
  await unlock()
})

t.test(
  'a later process of the same number does not hold it',
  { skip: !existsSync('/proc/self/stat') && 'no /proc' },
  async (t) => {
    const folder = t.testdir()
    writeFileSync(join(folder, 'run.lock'), JSON.stringify({ pid: process.pid, host: hostname(), started: '1' }))
    await (await lockRun(folder))()
  },
)

t.test('a torn lock is taken over; one of another machine is respected', async (t) => {
  const folder = t.testdir({ 'run.lock': '{"pid"' })
  await (await lockRun(folder))()
  writeFileSync(join(folder, 'run.lock'), JSON.stringify({ pid: 1, host: 'elsewhere', started: null }))
  await t.rejects(lockRun(folder), { code: 'ERR_MAMMO_BUSY', where: /run\.lock/, fix: /remove run\.lock/ })
})

t.test('temporary files of killed processes are removed by the next holder', async (t) => {
  const folder = t.testdir({
    'run.lock.123.1.tmp': '{"pid"',
    'run.lock.124.1.stale.tmp': '',
    'other.lock.123.1.tmp': '',
  })
  const unlock = await lockRun(folder)
  t.strictSame(readdirSync(folder).sort(), ['other.lock.123.1.tmp', 'run.lock'])
  await unlock()
})

t.test('a folder that is not there', async (t) => {
  await t.rejects(lockRun(join(t.testdir(), 'nothing')), { code: 'ENOENT' })
})
