// One process per run folder: `run.lock` names the process that writes to it. A lock whose process is gone (killed, machine restarted)
// is taken over. It does not protect the prepared data, which nobody writes to while training.

import { readFileSync } from 'node:fs'
import { link, readFile, rm, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { basename, join } from 'node:path'
import { diskError } from '../atomic-write.js'
import { UsageError } from '../errors.js'

interface Holder {
  pid: number
  host: string
  /** When the process started, as the system counts it; null where that cannot be read. Tells a process from a later one of its number. */
  started: string | null
}

/**
 * Takes the lock of a run folder; resolves to the function that gives it back. Rejects with UsageError BUSY while another process that
 * is alive, or one of another machine, holds it.
 */
export async function lockRun(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, 'run.lock')
  const own: Holder = { pid: process.pid, host: hostname(), started: startOf(process.pid) }
  const temporary = `${path}.${process.pid}.tmp`
  await writeFile(temporary, `${JSON.stringify(own)}\n`).catch((error) => {
    throw diskError(error, temporary)
  })
  try {
    // A link appears whole or not at all, and only one process can make it.
    for (let attempt = 0; attempt < 3; attempt++) {
      try {
        await link(temporary, path)
        return () => rm(path, { force: true })
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw diskError(error, path)
      }
      const holder = await readHolder(path)
      if (holder !== undefined && !isGone(holder)) throw busy(folder, path, holder)
      await rm(path, { force: true })
    }
    throw busy(folder, path, await readHolder(path))
  } finally {
    await rm(temporary, { force: true })
  }
}

async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Holder
  } catch {
    return undefined
  }
}

/** Certainly no longer running. Of another machine that cannot be known. */
function isGone({ pid, host, started }: Holder): boolean {
  if (host !== hostname()) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
  const now = startOf(pid)
  return started !== null && now !== null && started !== now
}

/** Linux: field 22 of /proc/<pid>/stat. The name in the second field may hold spaces and brackets. */
function startOf(pid: number): string | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? null
  } catch {
    return null
  }
}

function busy(folder: string, path: string, holder: Holder | undefined): UsageError {
  const who = holder === undefined ? 'another process' : `process ${holder.pid} on ${holder.host}`
  return new UsageError(
    'BUSY',
    `expected a run that no other process writes to, ${basename(folder)} is in use by ${who}`,
    {
      where: path,
      fix: 'wait for it or stop it; if it is certainly gone, remove run.lock',
    },
  )
}
