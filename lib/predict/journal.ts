// What a run over many files has finished, one JSON line per file, appended and synced before anything else happens with the
// result: after a crash or a power cut the run goes on where it stopped. A torn last line is cut off. Holds names
// relative to the input, as the sender gave them, and numbers; no header value.
import { type FileHandle, mkdir, open, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { diskError, syncFolder } from '../atomic-write.js'
import { DataError, UsageError } from '../errors.js'
import { lockFile } from '../file-lock.js'
import type { Prediction } from './results.js'

const SCHEMA = 'mammo-retinanet/journal@1'

export interface JournalEntry {
  /** Name of the image in the results. */
  name: string
  /** Size in bytes and time of change: a file that changed since is predicted again. */
  bytes: number
  mtimeMs: number
  /** Digest of the study, for one report per study; null for what is no DICOM image. */
  study: string | null
  /** File below the watched folder's state folders; null outside watching. */
  file: string | null
  /** What came out, or the error that the image ended with. */
  result: Prediction | { code: string; message: string }
}

export interface Journal {
  /** By name; a later entry of a name replaces an earlier one. */
  readonly entries: ReadonlyMap<string, JournalEntry>
  /** Resolves when the entry is on the disk. Calls may overlap; entries keep their order. */
  append(entry: JournalEntry): Promise<void>
  close(): Promise<void>
}

/**
 * Opens or starts a journal for one model with one set of settings. With `resume` its entries are read; otherwise it starts empty.
 * Throws UsageError ARGUMENT when the entries were made with another model or other settings, UsageError BUSY while another process
 * writes to it.
 */
export async function openJournal(
  path: string,
  { model, settings, resume }: { model: string; settings: string; resume: boolean },
): Promise<Journal> {
  await mkdir(dirname(path), { recursive: true })
  const unlock = await lockFile(`${path}.lock`, 'results that no other process writes to')
  let file: FileHandle | undefined
  let at = 0
  let entries: Map<string, JournalEntry>
  try {
    const earlier = resume ? await readJournal(path) : undefined
    if (earlier !== undefined) requireSame(earlier, { model, settings }, path)
    entries = new Map(earlier?.entries)
    file = await open(path, earlier === undefined ? 'w' : 'r+')
    if (earlier !== undefined) {
      at = earlier.bytes
      await file.truncate(at)
    } else {
      at = await write(file, `${JSON.stringify({ schema: SCHEMA, model, settings })}\n`, 0, path)
      await syncFolder(dirname(path))
    }
  } catch (error) {
    await file?.close()
    await unlock()
    throw error
  }
  const opened = file
  let last: Promise<void> = Promise.resolve()
  return {
    entries,
    append(entry) {
      const next = last.then(async () => {
        at += await write(opened, `${JSON.stringify(entry)}\n`, at, path)
        entries.set(entry.name, entry)
      })
      last = next.catch(() => undefined)
      return next
    },
    async close() {
      await last
      await opened.close()
      await unlock()
    },
  }
}

/** Writes at a fixed place, so that a line that a full disk tore is overwritten by the next. */
async function write(file: FileHandle, text: string, at: number, path: string): Promise<number> {
  const bytes = Buffer.from(text, 'utf8')
  try {
    // A write may take a part only, as on a nearly full disk.
    for (let done = 0; done < bytes.length; )
      done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten
    await file.datasync()
  } catch (cause) {
    throw diskError(cause, path)
  }
  return bytes.length
}

export interface StoredJournal {
  model: string
  settings: string
  entries: Map<string, JournalEntry>
  /** Length of the whole lines. */
  bytes: number
}

/** Reads a journal; undefined when there is none. Throws DataError MANIFEST for a file that is no journal. */
export async function readJournal(path: string): Promise<StoredJournal | undefined> {
  const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (bytes === undefined) return undefined
  const end = bytes.lastIndexOf(0x0a) + 1
  const lines = bytes.subarray(0, end).toString('utf8').split('\n').slice(0, -1)
  // A run that was stopped before its first line was whole has finished nothing.
  if (lines.length === 0) return undefined
  const fail = (line: number) =>
    new DataError('MANIFEST', `expected ${SCHEMA}, got something else`, {
      where: `${path}:${line}`,
      fix: 'choose another folder, or run without --resume to start anew',
    })
  const parse = (text: string, n: number) => {
    try {
      return JSON.parse(text) as Record<string, unknown>
    } catch {
      throw fail(n)
    }
  }
  const head = parse(lines[0]!, 1)
  if (head['schema'] !== SCHEMA) throw fail(1)
  const entries = new Map<string, JournalEntry>()
  for (const [i, line] of lines.slice(1).entries()) {
    const entry = parse(line, i + 2) as unknown as JournalEntry
    if (typeof entry.name !== 'string' || typeof entry.result !== 'object') throw fail(i + 2)
    entries.set(entry.name, entry)
  }
  return { model: String(head['model']), settings: String(head['settings']), entries, bytes: end }
}

/** Throws UsageError ARGUMENT when results of different models or settings would be mixed. */
export function requireSame(
  earlier: Pick<StoredJournal, 'model' | 'settings'>,
  { model, settings }: { model: string; settings: string },
  path: string,
): void {
  const differs = [earlier.model === model ? [] : ['the model'], earlier.settings === settings ? [] : ['the settings']]
  if (differs.flat().length === 0) return
  throw new UsageError(
    'ARGUMENT',
    `expected to go on with the same run, got another one: ${differs.flat().join(' and ')} changed`,
    {
      where: path,
      fix: 'choose another --out, or leave out --resume to start anew',
    },
  )
}
