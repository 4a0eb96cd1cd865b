// One process at a time: a lock file names the process that holds it. A lock whose process is gone (killed, machine restarted) is
// taken over. Used for run folders, watched folders and journals; whoever only reads needs none.
import { existsSync, readFileSync } from 'node:fs'
import { link, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { diskError } from './atomic-write.js'
import { UsageError } from './errors.js'

interface Holder {
  pid: number
  host: string
  /** When the process started, as the system counts it; null where that cannot be read. Tells a process from a later one of its number. */
  started: string | null
}

/**
 * Takes the lock `path`; resolves to the function that gives it back. Rejects with UsageError BUSY while another process that is alive,
 * or one of another machine, holds it; `what` says what was wanted, such as "a run that no other process writes to".
 */
export async function lockFile(path: string, what: string): Promise<() => Promise<void>> {
  const own: Holder = { pid: process.pid, host: hostname(), started: startOf(process.pid) }
  const temporary = `${path}.${process.pid}.${++taken}.tmp`
  try {
    // A link appears whole or not at all, and only one process can make it.
    for (let attempt = 0; attempt < 3; attempt++) {
      try {
        await writeFile(temporary, `${JSON.stringify(own)}\n`)
        await link(temporary, path)
        // What cannot be removed is no reason to fail.
        await removeUnfinished(path).catch(() => undefined)
        return () => rm(path, { force: true })
      } catch (error) {
        // ENOENT: whoever got the lock meanwhile removed the temporary file.
        if (!['EEXIST', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '') || !existsSync(dirname(path)))
          throw diskError(error, path)
      }
      const text = await readFile(path, 'utf8').catch(() => '')
      const holder = parseHolder(text)
      if (holder !== undefined && !isGone(holder)) throw busy(path, what, holder)
      await removeStale(path, text, temporary.replace(/tmp$/, 'stale.tmp'))
    }
    throw busy(path, what, undefined)
  } finally {
    await rm(temporary, { force: true })
  }
}

/** Makes the names of temporary files differ within one process. */
let taken = 0

/** Temporary files of processes that were killed while they took this lock. */
async function removeUnfinished(path: string): Promise<void> {
  const left = (name: string) => name.startsWith(`${basename(path)}.`) && name.endsWith('.tmp')
  for (const name of await readdir(dirname(path))) if (left(name)) await rm(join(dirname(path), name), { force: true })
}

/** Another process may have taken the stale lock over between the reading and now: then it gets it back. */
async function removeStale(path: string, text: string, aside: string): Promise<void> {
  try {
    await rename(path, aside)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  // Gone: whoever got the lock meanwhile removed it.
  const moved = await readFile(aside, 'utf8').catch(() => text)
  if (moved !== text) await link(aside, path).catch(() => undefined)
  await rm(aside, { force: true })
}

function parseHolder(text: string): Holder | undefined {
  try {
    return JSON.parse(text) as Holder
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
  return typeof started === 'string' && now !== null && started !== now
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

function busy(path: string, what: string, holder: Holder | undefined): UsageError {
  const who = holder === undefined ? 'another process' : `process ${holder.pid} on ${holder.host}`
  return new UsageError('BUSY', `expected ${what}, it is in use by ${who}`, {
    where: path,
    fix: `wait for it or stop it; if it is certainly gone, remove ${basename(path)}`,
  })
}
