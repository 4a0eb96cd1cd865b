// From the records of a dataset to a prepared folder: plans the disk need, prepares images in worker threads, keeps a journal
// so that a killed run goes on where it stopped, and puts the finished folder in place with one rename. Idempotent; inputs
// are never changed. What happens to one image is in prepare-image.ts. Method: datasets spec 4.
import { appendFile, copyFile, link, mkdir, readdir, readFile, rename, rm, stat, statfs } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { syncFolder, writeFileAtomic } from '../atomic-write.js'
import { DataError, DeviceError, type MammoError, UsageError } from '../errors.js'
import { lockFile } from '../file-lock.js'
import { type CacheEntry, cacheBytes, hashFile, sha256, verifyEntry } from './cache.js'
import { recordLine } from './manifest.js'
import type { PixelOptions, PreparedImage } from './prepare-image.js'
import { openPool } from './prepare-pool.js'
import {
  cacheHash,
  PREPARED_SCHEMA,
  type PreparedHeader,
  type PreparedRecord,
  splitImagesOf,
  writeSplit,
} from './prepared.js'
import { partCounts, type Split, type SplitOptions, splitImages } from './split.js'
import type { ImageRecord } from './types.js'

export interface PrepareOptions {
  /** Folder to write; replaced as a whole when ready. */
  out: string
  /** Default: keep the breast region only. */
  crop?: boolean
  maskBackground?: boolean
  /** Classes that the split balances; default `mass`. */
  classes?: string[]
  split?: SplitOptions
  /** Worker threads; 0 prepares in this thread. Default: one per available core, at most 4. */
  workers?: number
  /** Leave out images that cannot be read instead of failing at the end; they are counted and named. */
  skipBroken?: boolean
  /** Rebuild a folder that was prepared with other options. */
  replace?: boolean
  signal?: AbortSignal
  onPlan?: (plan: PreparePlan) => void
  onProgress?: (progress: PrepareProgress) => void
}

/** Known before work starts. */
export interface PreparePlan {
  images: number
  /** Upper bound: whole images. */
  maximumBytes: number
  /** With the breast crop, two thirds of it as measured on film; otherwise all. */
  expectedBytes: number
  freeBytes: number
}

export interface PrepareProgress {
  done: number
  total: number
  id: string
  state: 'read' | 'cached' | 'skipped'
}

export interface SkippedImage {
  id: string
  code: string
  message: string
  where: string
}

export interface PreparedSummary {
  folder: string
  images: number
  read: number
  cached: number
  skipped: SkippedImage[]
  warnings: { rule: string; id: string; message: string }[]
  bytes: number
  /** Mean share of pixels that the crop removed. */
  meanRemoved: number
  seconds: number
  sourceHash: string
  cacheHash: string
  split: Split
  counts: ReturnType<typeof partCounts>[]
  statistics: PreparedHeader['statistics']
}

/** What a reader of datasets hands over. */
export interface PrepareInput {
  root: string
  adapter: string
  tool: string
  labelRules: Record<string, unknown>
  records: readonly ImageRecord[]
  /** Header line of the manifest and one line per record, canonical. */
  headerLine: string
}

/** Share of the pixels that the breast crop keeps, for the estimate of disk need only. */
const EXPECTED_SHARE = 0.67
const JOURNAL = 'journal.jsonl'

interface Done {
  entry: CacheEntry
  warnings: PreparedImage['warnings']
}

interface JournalLine extends Done {
  /** Options and record that the entry was made for. */
  key: string
  id: string
}

/**
 * Prepares `input` into `options.out`. Throws DISK_FULL before starting when the expected size does not fit; a stale folder
 * (other options) unless `replace`; at the end the first of all unreadable images unless `skipBroken`.
 */
export async function prepareRecords(input: PrepareInput, options: PrepareOptions): Promise<PreparedSummary> {
  const started = performance.now()
  const { out } = options
  const partial = `${out}.partial`
  const pixelOptions: PixelOptions = { crop: options.crop ?? true, maskBackground: options.maskBackground ?? false }
  // Canonical records: equal content has equal bytes, whatever the adapter's order of keys.
  const records = input.records
    .map((record) => JSON.parse(recordLine(record)) as ImageRecord)
    .sort((a, b) => (a.id < b.id ? -1 : 1))
  const classes = options.classes ?? ['mass']
  await planDisk(records, pixelOptions, out, options.onPlan)

  const previous = await readPrevious(out, pixelOptions, options.replace ?? false)
  await mkdir(partial, { recursive: true })
  // Two processes must not fill one folder. `finish` drops the lock with all that does not belong.
  const unlock = await lockFile(join(partial, 'lock'), 'a folder that no other process prepares')
  try {
    const known = await readJournal(partial, pixelOptions)

    const pool = openPool(options.workers ?? Math.min(4, availableParallelism()))
    const done = new Map<string, Done>()
    const skipped: SkippedImage[] = []
    const sources = new Map<string, string>()
    const count = { read: 0, cached: 0 }
    const one = async (record: ImageRecord): Promise<void> => {
      options.signal?.throwIfAborted()
      const key = keyOf(record, pixelOptions)
      let state: PrepareProgress['state'] = 'cached'
      try {
        let result = await reuse(record, key, input.root, partial, known, out, previous)
        if (result === undefined) {
          state = 'read'
          result = await pool.run({ record, root: input.root, folder: partial, options: pixelOptions })
          const line: JournalLine = { key, id: record.id, ...result }
          await appendFile(join(partial, JOURNAL), `${JSON.stringify(line)}\n`)
        }
        count[state]++
        done.set(record.id, result)
        sources.set(record.path, result.entry.source)
      } catch (error) {
        if (!(error instanceof DataError)) throw error
        state = 'skipped'
        skipped.push({ id: record.id, code: error.code, message: error.message, where: error.where ?? record.path })
      }
      options.onProgress?.({ done: done.size + skipped.length, total: records.length, id: record.id, state })
    }
    try {
      await forEachBounded(records, pool.size, one)
      if (skipped.length > 0 && options.skipBroken !== true) throw brokenImages(skipped)
    } finally {
      await pool.close()
    }

    const prepared: PreparedRecord[] = records
      .filter((record) => done.has(record.id))
      .map((record) => ({ ...record, cache: done.get(record.id)!.entry }))
    const hash = cacheHash(prepared)
    const split = chooseSplit(prepared, classes, options.split, previous?.split)
    const bytes = prepared.reduce((sum, record) => sum + cacheBytes(record.cache.crop), 0)
    const header: PreparedHeader = {
      prepared: PREPARED_SCHEMA,
      tool: input.tool,
      adapter: input.adapter,
      labelRules: input.labelRules,
      options: pixelOptions,
      images: prepared.length,
      bytes,
      classes,
      sourceHash: await hashSources(input.root, sources),
      cacheHash: hash,
      splitHash: '',
      statistics: [],
    }
    const finished = await finish(partial, out, header, input.headerLine, prepared, split)
    const images = splitImagesOf(prepared, classes)
    return {
      folder: out,
      images: prepared.length,
      ...count,
      skipped,
      warnings: prepared.flatMap(({ id }) => done.get(id)!.warnings.map((warning) => ({ ...warning, id }))),
      bytes,
      meanRemoved: meanRemoved(prepared),
      seconds: (performance.now() - started) / 1000,
      sourceHash: header.sourceHash,
      cacheHash: hash,
      split,
      counts: split.folds.map((fold) => partCounts(fold, images)),
      statistics: finished.statistics,
    }
  } catch (error) {
    await unlock()
    throw error
  }
}

async function planDisk(
  records: readonly ImageRecord[],
  pixelOptions: PixelOptions,
  out: string,
  onPlan: PrepareOptions['onPlan'],
): Promise<void> {
  await mkdir(dirname(out), { recursive: true })
  const { bavail, bsize } = await statfs(dirname(out))
  const maximumBytes = records.reduce((sum, record) => sum + cacheBytes([0, 0, record.width, record.height]), 0)
  const expectedBytes = Math.round(maximumBytes * (pixelOptions.crop ? EXPECTED_SHARE : 1))
  const freeBytes = bavail * bsize
  onPlan?.({ images: records.length, maximumBytes, expectedBytes, freeBytes })
  const present = await folderBytes(`${out}.partial`)
  if (expectedBytes - present > freeBytes) {
    const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(2)} MiB`
    throw new DeviceError(
      'DISK_FULL',
      `expected ${mib(expectedBytes)} for ${records.length} images, got ${mib(freeBytes)} free`,
      {
        where: out,
        fix: 'free disk space or choose another --out',
      },
    )
  }
}

async function folderBytes(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  let sum = 0
  for (const entry of names) if (entry.isFile()) sum += (await stat(join(entry.parentPath, entry.name))).size
  return sum
}

/** Identity of an entry: the record it was made for and the options. */
function keyOf(record: ImageRecord, pixelOptions: PixelOptions): string {
  return sha256(JSON.stringify([PREPARED_SCHEMA, pixelOptions, record]))
}

interface Previous {
  /** Entries by key. */
  entries: Map<string, CacheEntry>
  split: Split | undefined
}

/** What a finished folder offers for reuse. Refuses a folder of other options unless it is to be replaced. */
async function readPrevious(out: string, pixelOptions: PixelOptions, replace: boolean): Promise<Previous | undefined> {
  if ((await stat(out).catch(() => undefined))?.isDirectory() === false) {
    throw new UsageError('ARGUMENT', 'expected a folder or a new name for --out, got a file', {
      where: out,
      fix: 'choose another --out',
    })
  }
  const text = await readFile(join(out, 'prepared.json'), 'utf8').catch(() => undefined)
  if (text === undefined) {
    const names = await readdir(out).catch(() => [])
    if (names.length === 0) return undefined
    throw new DataError(
      'MANIFEST',
      'expected a prepared folder or a new name for --out, got a folder with other files',
      {
        where: out,
        fix: 'choose another --out',
        details: { rule: 'cache/foreign' },
      },
    )
  }
  const header = parseJson(text) as Partial<PreparedHeader> | undefined
  const same = header?.prepared === PREPARED_SCHEMA && JSON.stringify(header.options) === JSON.stringify(pixelOptions)
  if (!same) {
    if (replace) return undefined
    throw new DataError('MANIFEST', 'expected a folder prepared with the same options and version, got other ones', {
      where: out,
      fix: 'choose another --out, or pass --replace to rebuild it',
      details: { rule: 'cache/stale' },
    })
  }
  const split = parseJson(await readFile(join(out, 'split.json'), 'utf8').catch(() => '')) as Split | undefined
  return { entries: await manifestEntries(out, pixelOptions), split }
}

async function manifestEntries(folder: string, pixelOptions: PixelOptions): Promise<Map<string, CacheEntry>> {
  const entries = new Map<string, CacheEntry>()
  const text = await readFile(join(folder, 'manifest.jsonl'), 'utf8').catch(() => '')
  for (const line of text.split('\n').slice(1)) {
    const record = parseJson(line) as PreparedRecord | undefined
    if (record?.cache === undefined) continue
    const { cache, ...plain } = record
    entries.set(keyOf(plain as ImageRecord, pixelOptions), cache)
  }
  return entries
}

/** Images that an interrupted run finished. A torn last line is left out. */
async function readJournal(partial: string, pixelOptions: PixelOptions): Promise<Map<string, Done>> {
  const known = new Map<string, Done>()
  for (const [key, entry] of await manifestEntries(partial, pixelOptions)) known.set(key, { entry, warnings: [] })
  const text = await readFile(join(partial, JOURNAL), 'utf8').catch(() => '')
  for (const line of text.split('\n')) {
    const parsed = parseJson(line) as JournalLine | undefined
    if (parsed?.key !== undefined) known.set(parsed.key, { entry: parsed.entry, warnings: parsed.warnings })
  }
  // A torn line without its line end would swallow the next one.
  if (text !== '' && !text.endsWith('\n')) await appendFile(join(partial, JOURNAL), '\n')
  return known
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** An entry made before for the same record, options and source bytes, whose pixels are intact; they are then in `partial`. */
async function reuse(
  record: ImageRecord,
  key: string,
  root: string,
  partial: string,
  known: ReadonlyMap<string, Done>,
  out: string,
  previous: Previous | undefined,
): Promise<Done | undefined> {
  const own = known.get(key)
  const earlier = previous?.entries.get(key)
  const entry = own?.entry ?? earlier
  if (entry === undefined) return undefined
  if ((await hashFile(join(root, record.path)).catch(() => '')) !== entry.source) return undefined
  const folder = own !== undefined ? partial : out
  const intact = await verifyEntry(folder, record.id, entry, true).then(
    () => true,
    () => false,
  )
  if (!intact) return undefined
  if (folder === out) await shareFile(join(out, entry.file), join(partial, entry.file))
  return own ?? { entry, warnings: [] }
}

/** A hard link where the file system has them, otherwise a copy. */
async function shareFile(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  await rm(to, { force: true })
  await link(from, to).catch(() => copyFile(from, to))
}

async function forEachBounded<T>(items: readonly T[], bound: number, work: (item: T) => Promise<void>): Promise<void> {
  let next = 0
  let failed = false
  const lane = async (): Promise<void> => {
    while (next < items.length && !failed) {
      await work(items[next++]!).catch((error: unknown) => {
        failed = true
        throw error
      })
    }
  }
  const lanes = await Promise.allSettled(Array.from({ length: Math.max(1, bound) }, lane))
  for (const result of lanes) if (result.status === 'rejected') throw result.reason
}

function brokenImages(skipped: readonly SkippedImage[]): MammoError {
  const sorted = [...skipped].sort((a, b) => (a.id < b.id ? -1 : 1))
  const first = sorted[0]!
  const others =
    sorted.length > 1
      ? ` (and ${sorted.length - 1} more: ${sorted
          .slice(1, 6)
          .map((image) => image.id)
          .join(', ')}${sorted.length > 6 ? ', ...' : ''})`
      : ''
  return new DataError('IMAGE', `expected every image to be readable, got: ${first.message}${others}`, {
    where: first.where,
    fix: 'restore the files, list them under --exclude, or pass --skip-broken to leave them out; what is done is kept',
    details: { skipped: sorted },
  })
}

/** The given split, else the one the folder had when it fits the images, else a new default one. */
function chooseSplit(
  records: readonly PreparedRecord[],
  classes: readonly string[],
  options: SplitOptions | undefined,
  previous: Split | undefined,
): Split {
  const images = splitImagesOf(records, classes)
  if (options === undefined && previous !== undefined) {
    const had = previous.folds.every((fold) => {
      const ids = new Set([...fold.train, ...fold.val, ...fold.test, ...previous.unused])
      return ids.size === records.length && records.every((record) => ids.has(record.id))
    })
    if (had) return previous
  }
  return splitImages(images, options ?? {})
}

/** cli spec 4: SHA-256 over sorted lines of relative path, size and SHA-256 of each source file. */
async function hashSources(root: string, sources: ReadonlyMap<string, string>): Promise<string> {
  const lines: string[] = []
  for (const [path, hash] of sources) lines.push(`${path} ${(await stat(join(root, path))).size} ${hash}\n`)
  return sha256(lines.sort().join(''))
}

function meanRemoved(records: readonly PreparedRecord[]): number {
  if (records.length === 0) return 0
  const shares = records.map(({ width, height, cache: { crop } }) => {
    return 1 - ((crop[2] - crop[0]) * (crop[3] - crop[1])) / (width * height)
  })
  return shares.reduce((sum, share) => sum + share, 0) / shares.length
}

/** Writes the small files beside the pixels, drops what does not belong, and moves the folder into place. */
async function finish(
  partial: string,
  out: string,
  header: PreparedHeader,
  headerLine: string,
  records: readonly PreparedRecord[],
  split: Split,
): Promise<PreparedHeader> {
  const lines = records.map((record) => JSON.stringify(record))
  await writeFileAtomic(join(partial, 'manifest.jsonl'), `${[headerLine, ...lines].join('\n')}\n`)
  const written = await writeSplit(partial, header, records, split)
  const wanted = new Set(['manifest.jsonl', 'split.json', 'prepared.json', ...records.map(({ cache }) => cache.file)])
  for (const entry of await readdir(partial, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (entry.isFile() && !wanted.has(relative(partial, path).replaceAll('\\', '/'))) await rm(path)
  }
  // Between the two renames a crash leaves the complete folder under its temporary name; the next run takes it from there.
  const old = `${out}.old`
  await rm(old, { recursive: true, force: true })
  await rename(out, old).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
  await rename(partial, out)
  await syncFolder(dirname(out))
  await rm(old, { recursive: true, force: true })
  return written
}
