// A watched folder: files arrive in it, are claimed by a rename into `claimed/`, and end in `done/` or `failed/`. A rename is one step
// on one file system, so a file is in exactly one of the four places whenever the power goes. Knows nothing of images.
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { removeUnfinished, syncFolder, writeFileAtomic } from '../atomic-write.js'
import { UsageError } from '../errors.js'
import { lockFile } from '../file-lock.js'

export const STATES = ['claimed', 'done', 'failed'] as const
export type State = (typeof STATES)[number]

/** Suffix of a marker that says a file is complete: `a.dcm.done` beside `a.dcm`. */
const MARKER = '.done'
/** What senders call files that they are still writing. */
const UNFINISHED = /\.(tmp|part|partial|crdownload|filepart)$/i
const LOCK = '.mammo-retinanet.lock'
const REASON = '.reason.json'

export interface InboxOptions {
  /** A file without a marker is taken when size and time of change did not change for this long. */
  settleMs: number
  /** Chooses the name below `claimed/` for a file; never one that any earlier file had. */
  claimName(file: string): string
}

export interface Inbox {
  /** Files that an earlier process claimed and did not finish, by name. */
  leftOver(): Promise<string[]>
  /** Files that were put away, by whatever process, by name. */
  putAway(): Promise<string[]>
  /** Claims up to `limit` complete files; returns their names below `claimed/`. */
  claim(limit: number): Promise<string[]>
  /** Files that have arrived and are not complete yet. */
  readonly arriving: number
  path(state: State, name: string): string
  /** Moves a claimed file to `done/`, or to `failed/` with a reason file beside it. */
  finish(name: string, reason: { code: string; message: string } | null): Promise<void>
  close(): Promise<void>
}

/** Opens a folder for one process. Throws UsageError BUSY while another one watches it. */
export async function openInbox(folder: string, { settleMs, claimName }: InboxOptions): Promise<Inbox> {
  for (const state of STATES) await mkdir(join(folder, state), { recursive: true })
  const unlock = await lockFile(join(folder, 'claimed', LOCK), 'a folder that nobody else watches')
  await removeUnfinished(join(folder, 'failed'))
  const seen = new Map<string, { size: number; mtimeMs: number; since: number }>()
  const path = (state: State, name: string) => join(folder, state, name)
  let arriving = 0
  return {
    get arriving() {
      return arriving
    },
    path,
    putAway: async () => {
      const names = await Promise.all([filesBelow(join(folder, 'done')), filesBelow(join(folder, 'failed'))])
      return names.flat().filter((name) => !name.endsWith(REASON))
    },
    leftOver: async () => (await filesBelow(join(folder, 'claimed'))).sort(),
    async claim(limit) {
      const files = (await filesBelow(folder, new Set(STATES))).sort()
      const present = new Set(files)
      for (const file of seen.keys()) if (!present.has(file)) seen.delete(file)
      const claimed: string[] = []
      arriving = 0
      for (const file of files) {
        if (file.endsWith(MARKER) || UNFINISHED.test(file)) continue
        const marked = present.has(file + MARKER)
        if (!marked && !(await settled(folder, file, seen, settleMs))) {
          arriving++
          continue
        }
        if (claimed.length >= limit) {
          arriving++
          continue
        }
        const name = claimName(file)
        if (!(await move(join(folder, file), path('claimed', name)))) continue
        if (marked) await rm(join(folder, file + MARKER), { force: true })
        seen.delete(file)
        claimed.push(name)
      }
      return claimed
    },
    async finish(name, reason) {
      if (reason !== null) await writeFileAtomic(path('failed', `${name}${REASON}`), `${JSON.stringify(reason)}\n`)
      await move(path('claimed', name), path(reason === null ? 'done' : 'failed', name))
    },
    close: unlock,
  }
}

async function settled(
  folder: string,
  file: string,
  seen: Map<string, { size: number; mtimeMs: number; since: number }>,
  settleMs: number,
): Promise<boolean> {
  const info = await stat(join(folder, file)).catch(() => undefined)
  if (info === undefined) return false
  const { size, mtimeMs } = info
  const now = Date.now()
  const before = seen.get(file)
  if (before === undefined || before.size !== size || before.mtimeMs !== mtimeMs) {
    seen.set(file, { size, mtimeMs, since: now })
    return settleMs === 0 && size > 0
  }
  return now - before.since >= settleMs
}

/** Renames and makes it durable; false when the file is gone. */
async function move(from: string, to: string): Promise<boolean> {
  await mkdir(dirname(to), { recursive: true })
  try {
    await rename(from, to)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return false
    if (code !== 'EXDEV') throw error
    throw new UsageError('ARGUMENT', 'expected a watched folder on one file system, got a folder mounted inside it', {
      where: from,
      fix: 'watch the mounted folder itself',
    })
  }
  await syncFolder(dirname(to))
  return true
}

/** Files below a folder as relative paths with `/`, hidden ones and `without` left out. */
async function filesBelow(folder: string, without: ReadonlySet<string> = new Set()): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true })
  const files: string[] = []
  for (const entry of entries) {
    if (entry.name.startsWith('.') || without.has(entry.name)) continue
    if (entry.isFile()) files.push(entry.name)
    else if (entry.isDirectory()) {
      // A sender may take its folder away meanwhile; one that cannot be read is told.
      const below = await filesBelow(join(folder, entry.name)).catch((error: NodeJS.ErrnoException): string[] => {
        if (error.code === 'ENOENT') return []
        throw error
      })
      files.push(...below.map((name) => `${entry.name}/${name}`))
    }
  }
  return files
}
