// Writes a file so that a reader or a crash never sees half of it: temporary name, fsync, rename, fsync of the folder.
import { randomBytes } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { DeviceError } from './errors.js'

/** Temporary names that writeFileAtomic gives. */
const UNFINISHED = /^\..+\.[0-9a-f]{8}\.tmp$/

/** Writes `data`, or its parts one after the other, to `path`, creating its folder. Throws DeviceError DISK_FULL when there is no room; the old file then stays. */
export async function writeFileAtomic(path: string, data: string | Uint8Array | readonly Uint8Array[]): Promise<void> {
  const folder = dirname(path)
  await mkdir(folder, { recursive: true })
  const temporary = join(folder, `.${basename(path)}.${randomBytes(4).toString('hex')}.tmp`)
  try {
    const file = await open(temporary, 'wx')
    try {
      await (isList(data) ? writeParts(file, data) : file.writeFile(data))
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
    await syncFolder(folder)
  } catch (cause) {
    await rm(temporary, { force: true })
    throw diskError(cause, path)
  }
}

/** Removes what a killed process left half written below `folder`. Only for who holds the folder's lock: a living writer would fail. */
export async function removeUnfinished(folder: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return []
      throw error
    },
  )
  for (const { name, parentPath } of entries)
    if (UNFINISHED.test(name)) await rm(join(parentPath, name), { force: true })
}

function isList(data: string | Uint8Array | readonly Uint8Array[]): data is readonly Uint8Array[] {
  return Array.isArray(data)
}

/** One system call for each part of up to 1 GiB; a short write goes on where it ended. */
async function writeParts(file: FileHandle, parts: readonly Uint8Array[]): Promise<void> {
  for (const part of parts) {
    for (let at = 0; at < part.length; ) {
      const { bytesWritten } = await file.write(part, at, Math.min(part.length - at, 2 ** 30))
      at += bytesWritten
    }
  }
}

/** Makes a rename in `folder` durable; folders cannot be synced on some platforms, where this does nothing. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined)
  await handle?.sync().catch(() => undefined)
  await handle?.close()
}

/** Turns "no space" errors into DISK_FULL with the remedy; other errors pass unchanged. */
export function diskError(cause: unknown, path: string): unknown {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return cause
  return new DeviceError('DISK_FULL', 'no space left on the device', {
    where: path,
    fix: 'free disk space or choose another folder, then run the same command again',
    cause,
  })
}
