// Starts full-disk-child.ts on a tmpfs that only that process sees. Where mount namespaces are forbidden, tests skip with that reason.
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { FullDisk, FullDiskJob } from './full-disk-child.js'

const MOUNT = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'

function inside(size: string, folder: string, ...command: string[]) {
  const args = ['--user', '--map-root-user', '--mount', 'sh', '-c', MOUNT, 'sh', size, folder, ...command]
  return spawnSync('unshare', args, { encoding: 'utf8', timeout: 120_000 })
}

/** false, or why a tiny file system cannot be made here. */
export function noTinyDisk(folder: string): string | false {
  mkdirSync(folder, { recursive: true })
  return inside('64k', folder, 'true').status === 0 ? false : 'no tmpfs can be mounted by this user (unshare)'
}

/** Runs the job with `job.disk` as a file system of `size`, such as `256k`. */
export function onTinyDisk(size: string, job: FullDiskJob): FullDisk {
  mkdirSync(job.disk, { recursive: true })
  const script = fileURLToPath(new URL('./full-disk-child.js', import.meta.url))
  const { stdout, stderr, status } = inside(size, job.disk, process.execPath, script, JSON.stringify(job))
  if (status !== 0) throw new Error(`full-disk-child ended with ${status}: ${stderr}`)
  return JSON.parse(stdout) as FullDisk
}
