// Where a run lives: runs/<command>/<name>-<n>/ and what it always holds (run.json, config, logs). Made once, never written over;
// `latest` points at the newest. Not the checkpoints (checkpoints.ts) and not the records themselves (run-log.ts).
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { diskError, writeFileAtomic } from '../atomic-write.js'
import { UsageError } from '../errors.js'
import { lockFile } from '../file-lock.js'
import type { RunStatus } from './events.js'

export const RUN_SCHEMA = 'mammo-retinanet/run@1'

/** run.json: everything needed to tell what made a result. */
export interface RunRecord {
  schema: typeof RUN_SCHEMA
  id: string
  name: string
  command: string
  argv: string[]
  status: RunStatus
  startedAt: string
  endedAt: string | null
  /** Runs or files that this one resumed from or was initialised from. */
  parents: string[]
  tool: unknown
  addon: unknown
  host: unknown
  devices: unknown[]
  env: Record<string, string>
  seeds: Record<string, number>
  numerics: unknown
  dataset: unknown
  init: { source: string; sha256: string } | null
  best: unknown
  final: unknown
  wallSeconds: number
  peakMemory: unknown
  energyJoules: number | null
  error?: { code: string; message: string }
}

/**
 * Makes `root/command/name-n` with the next free n and points `latest` at it; resolves to its path. Two processes never get the
 * same folder. With `existOk` the newest folder of that name is emptied and used again.
 */
export async function createRunFolder(root: string, command: string, name: string, existOk = false): Promise<string> {
  const parent = resolve(root, command)
  await mkdir(parent, { recursive: true }).catch((error) => {
    throw diskError(error, parent)
  })
  const used = (await readdir(parent)).map((entry) => numberOf(entry, name)).filter((n) => n !== undefined)
  const newest = Math.max(0, ...used)
  const folder =
    existOk && newest > 0 ? await emptied(join(parent, `${name}-${newest}`)) : await fresh(parent, name, newest)
  await pointLatest(parent, folder)
  return folder
}

const LOCK = 'run.lock'

/** One process writes to a run. Rejects with UsageError BUSY while another one does. */
export function lockRun(folder: string): Promise<() => Promise<void>> {
  return lockFile(join(folder, LOCK), 'a run that no other process writes to')
}

async function fresh(parent: string, name: string, newest: number): Promise<string> {
  for (let n = newest + 1; ; n++) {
    const folder = join(parent, `${name}-${n}`)
    try {
      await mkdir(folder)
      return folder
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw diskError(error, folder)
    }
  }
}

async function emptied(folder: string): Promise<string> {
  const record = await readRunRecord(folder).catch(() => undefined)
  if (record?.status === 'running') {
    throw new UsageError('RUN_EXISTS', `expected a run that has ended, ${basename(folder)} says it is running`, {
      where: folder,
      fix: 'choose another --name, or remove the folder if no process writes to it',
    })
  }
  const unlock = await lockRun(folder)
  for (const entry of await readdir(folder)) {
    if (entry !== LOCK) await rm(join(folder, entry), { recursive: true })
  }
  await unlock()
  return folder
}

function numberOf(entry: string, name: string): number | undefined {
  const rest = entry.startsWith(`${name}-`) ? entry.slice(name.length + 1) : ''
  return /^[1-9]\d*$/.test(rest) ? Number(rest) : undefined
}

/** Links cannot be made everywhere (Windows without rights); a run does not depend on it. */
async function pointLatest(parent: string, folder: string): Promise<void> {
  const temporary = join(parent, `.latest.${process.pid}.tmp`)
  try {
    await rm(temporary, { force: true })
    await symlink(basename(folder), temporary)
    await rename(temporary, join(parent, 'latest'))
  } catch {
    await rm(temporary, { force: true })
  }
}

/**
 * The run folder that a path means: the folder itself, a checkpoint inside it, or any file below it. Throws UsageError ARGUMENT
 * when there is no run.json at or above it.
 */
export async function findRunFolder(target: string): Promise<string> {
  const start = resolve(target)
  const info = await stat(start).catch(() => undefined)
  if (info !== undefined) {
    let folder = info.isDirectory() ? start : dirname(start)
    for (let up = 0; up < 3; up++, folder = dirname(folder)) if (existsSync(join(folder, 'run.json'))) return folder
  }
  throw new UsageError(
    'ARGUMENT',
    `expected a run folder, ${info === undefined ? 'nothing exists there' : 'there is no run.json'}`,
    {
      where: target,
      fix: 'give the folder that `train` printed, such as runs/train/NAME-1',
    },
  )
}

export async function writeRunRecord(folder: string, record: RunRecord): Promise<void> {
  await writeFileAtomic(join(folder, 'run.json'), `${JSON.stringify(record, null, 2)}\n`)
}

export async function readRunRecord(folder: string): Promise<RunRecord> {
  const path = join(folder, 'run.json')
  const text = await readFile(path, 'utf8')
  let record: Partial<RunRecord> | null
  try {
    record = JSON.parse(text) as Partial<RunRecord> | null
  } catch {
    record = null
  }
  if (record?.schema !== RUN_SCHEMA) {
    throw new UsageError('ARGUMENT', `expected a record of schema ${RUN_SCHEMA}, got ${record?.schema ?? 'none'}`, {
      where: path,
      fix: 'restore run.json, or use a run of this version',
    })
  }
  return record as RunRecord
}
