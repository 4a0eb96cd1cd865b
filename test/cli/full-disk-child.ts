// Runs one command line twice in a folder on a tiny file system, the second time after the rest of it was filled: the body of the process
// that bad-input.test.ts and test/process start in a mount namespace of its own. Prints what happened as JSON.
import { closeSync, existsSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { cli, type Ended, snapshot } from './bad-input-kit.js'

export interface FullDisk {
  first: Ended
  /** With nothing free but `spare` pages. */
  second: Ended
  before: Record<string, string>
  after: Record<string, string>
}

export interface FullDiskJob {
  /** The tiny file system. */
  disk: string
  /** Folder in it whose files must stay. */
  kept: string
  first: string[]
  second: string[]
  /** Pages of 4 KiB left free for the second. */
  spare: number
}

const job = JSON.parse(process.argv[2]!) as FullDiskJob
const kept = join(job.disk, job.kept)
const first = await cli(...job.first)
const before = existsSync(kept) ? snapshot(kept) : {}
fill(join(job.disk, 'filler'), job.spare)
const second = await cli(...job.second)
const result: FullDisk = { first, second, before, after: existsSync(kept) ? snapshot(kept) : {} }
process.stdout.write(JSON.stringify(result))

/** Takes every page but `spare` of what is free. */
function fill(path: string, spare: number): void {
  const page = Buffer.alloc(4096, 1)
  const reserve = openSync(`${path}.reserve`, 'w')
  for (let i = 0; i < spare; i++) writeSync(reserve, page)
  const file = openSync(path, 'w')
  try {
    for (;;) if (writeSync(file, page) === 0) break
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  }
  closeSync(file)
  closeSync(reserve)
  truncate(`${path}.reserve`)
}

function truncate(path: string): void {
  closeSync(openSync(path, 'w'))
}
