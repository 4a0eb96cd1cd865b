// A prepared folder as a whole: prepared.json, manifest.jsonl, split.json and the pixel files. Opens it after checking that
// the parts belong together, and writes its small files. Every later step (training, evaluation, view) starts here.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import { DataError } from '../errors.js'
import { type CacheEntry, damaged, openWindows, sha256, verifyEntry, type WindowReader } from './cache.js'
import type { LeakImage } from './leak.js'
import type { PixelOptions } from './prepare-image.js'
import type { SamplerImage } from './sampler.js'
import type { Fold, Part, Split, SplitImage } from './split.js'
import { combineSums, type PixelStatistics } from './statistics.js'
import { decodeTissue } from './tissue.js'
import type { ImageRecord, Lesion } from './types.js'

export const PREPARED_SCHEMA = 'mammo-retinanet/prepared@1'

/** A record of a prepared manifest; boxes stay in full-image pixels. */
export type PreparedRecord = ImageRecord & { cache: CacheEntry }

export interface PreparedHeader {
  prepared: typeof PREPARED_SCHEMA
  tool: string
  adapter: string
  labelRules: Record<string, unknown>
  options: PixelOptions
  images: number
  bytes: number
  /** Lesions are counted for these classes when images are divided. */
  classes: string[]
  /** SHA-256 over sorted lines "relative path, size, sha256" of the source files. */
  sourceHash: string
  /** SHA-256 over sorted lines "id, pixel sha256, canonical record": identifies the prepared data. */
  cacheHash: string
  /** SHA-256 of split.json. */
  splitHash: string
  /** Statistics of the training images of each fold. */
  statistics: PixelStatistics[]
}

export interface PreparedSet {
  folder: string
  header: PreparedHeader
  records: PreparedRecord[]
  split: Split
}

/** A prepared folder without its split: what `data split` starts from. */
export type PreparedRecords = Omit<PreparedSet, 'split'>

export interface OpenOptions {
  /** `full` reads and hashes every pixel; `quick`, the default, looks at sizes. */
  verify?: 'quick' | 'full'
}

/**
 * Opens a prepared folder. Always checked: schema, that manifest and split are those of prepared.json, size of every pixel
 * file; with `verify: 'full'` every pixel too. Throws ERR_MAMMO_MANIFEST with rule cache/stale or cache/damaged.
 */
export async function openPrepared(folder: string, options: OpenOptions = {}): Promise<PreparedSet> {
  const opened = await openRecords(folder, options)
  const splitPath = join(folder, 'split.json')
  const splitText = await readFile(splitPath, 'utf8').catch(() => '')
  if (sha256(splitText) !== opened.header.splitHash) {
    throw new DataError('MANIFEST', 'expected the split that the statistics of prepared.json belong to, got another', {
      where: splitPath,
      fix: 'run `mammo-retinanet data split` on this folder',
      details: { rule: 'cache/stale' },
    })
  }
  return { ...opened, split: JSON.parse(splitText) as Split }
}

/** Like openPrepared, but whatever the split is. */
export async function openRecords(folder: string, options: OpenOptions = {}): Promise<PreparedRecords> {
  const headerPath = join(folder, 'prepared.json')
  const text = await readFile(headerPath, 'utf8').catch(() => undefined)
  if (text === undefined) {
    throw new DataError('MANIFEST', 'expected a prepared folder with prepared.json, found none', {
      where: folder,
      fix: 'run `mammo-retinanet data prepare DIR --out FOLDER` and give that folder as data.root',
      details: { rule: 'cache/missing' },
    })
  }
  const header = parseHeader(text, headerPath)
  const manifestPath = join(folder, 'manifest.jsonl')
  const manifest = await readFile(manifestPath, 'utf8').catch(() => '')
  const records = parsePrepared(manifest, manifestPath)
  if (records.length !== header.images || cacheHash(records) !== header.cacheHash) {
    throw damaged(`expected the ${header.images} records that prepared.json was written with, got others`, manifestPath)
  }
  for (const record of records) await verifyEntry(folder, record.id, record.cache, options.verify === 'full')
  return { folder, header, records }
}

function parseHeader(text: string, path: string): PreparedHeader {
  let header: PreparedHeader
  try {
    header = JSON.parse(text)
  } catch {
    throw damaged('expected JSON in prepared.json, got something else', path)
  }
  if (header.prepared !== PREPARED_SCHEMA) {
    throw new DataError('MANIFEST', `expected schema ${PREPARED_SCHEMA}, got ${String(header.prepared)}`, {
      where: path,
      fix: 'run `mammo-retinanet data prepare` again with this version',
      details: { rule: 'cache/stale' },
    })
  }
  return header
}

/** Records of a prepared manifest, without its header line. */
function parsePrepared(text: string, path: string): PreparedRecord[] {
  const lines = text.split('\n').filter((line) => line !== '')
  return lines.slice(1).map((line, n) => {
    try {
      return JSON.parse(line) as PreparedRecord
    } catch {
      throw damaged('expected one JSON object per line', `${path}:${n + 2}`)
    }
  })
}

/** Identity of prepared data: equal for equal records and pixels, whatever the folder, the order or the machine. */
export function cacheHash(records: readonly PreparedRecord[]): string {
  return sha256(
    records
      .map((record) => `${record.id} ${record.cache.sha256} ${JSON.stringify(record)}\n`)
      .sort()
      .join(''),
  )
}

/** Writes split.json and the statistics of its folds into prepared.json. The header is written last: it vouches for the rest. */
export async function writeSplit(
  folder: string,
  header: PreparedHeader,
  records: readonly PreparedRecord[],
  split: Split,
): Promise<PreparedHeader> {
  const text = `${JSON.stringify(split, null, 1)}\n`
  const next: PreparedHeader = {
    ...header,
    splitHash: sha256(text),
    statistics: split.folds.map((fold, n) => foldStatistics(records, fold, `fold ${n} of ${folder}`)),
  }
  await writeFileAtomic(join(folder, 'split.json'), text)
  await writeFileAtomic(join(folder, 'prepared.json'), `${JSON.stringify(next, null, 1)}\n`)
  return next
}

/** Statistics over the non-zero pixels of a fold's training images. */
export function foldStatistics(records: readonly PreparedRecord[], fold: Fold, where: string): PixelStatistics {
  const train = new Set(fold.train)
  const parts = records.filter((record) => train.has(record.id)).map((record) => record.cache)
  return combineSums(parts, where)
}

export function openReader(set: PreparedSet): WindowReader {
  return openWindows(set.folder, new Map(set.records.map((record) => [record.id, record.cache])))
}

/** The whole cached crop of an image. */
export async function readCrop(
  reader: WindowReader,
  record: PreparedRecord,
): Promise<{ pixels: Uint16Array; width: number; height: number }> {
  const [x1, y1, x2, y2] = record.cache.crop
  const [width, height] = [x2 - x1, y2 - y1]
  const pixels = new Uint16Array(width * height)
  await reader.read(record.id, [0, 0, width, height], pixels)
  return { pixels, width, height }
}

/** Records as the splitter sees them. */
export function splitImagesOf(records: readonly ImageRecord[], classes: readonly string[]): SplitImage[] {
  return records.map((record) => ({
    id: record.id,
    patient: record.patient,
    split: record.split,
    density: record.density,
    lesions: record.lesions.filter((lesion) => classes.includes(lesion.class) && !lesion.ignore).length,
    annotated: record.annotated,
  }))
}

/** Records as the leak check sees them. */
export function leakImagesOf(records: readonly (ImageRecord & { cache?: CacheEntry })[]): LeakImage[] {
  return records.map((record) => ({
    id: record.id,
    patient: record.patient,
    instance: record.cache?.instance ?? null,
    pixels: record.cache?.sha256 ?? null,
    dhash: record.cache?.dhash ?? null,
    mirrored: record.cache?.mirrored ?? null,
  }))
}

/** How images become network input. */
export interface SamplerView {
  classes: readonly string[]
  /** `dataset`: the given mean and std for all; `image`: each image's own. */
  normalise: 'dataset' | 'image'
  statistics: Pick<PixelStatistics, 'mean' | 'std'>
}

/** Records of one part as the sampler sees them, in id order, lesions of `classes` only, in the pixels of the cached crop. */
export function samplerImages(set: PreparedSet, ids: Iterable<string>, view: SamplerView): SamplerImage[] {
  const wanted = new Set(ids)
  return set.records
    .filter((record) => wanted.has(record.id))
    .map((record) => {
      const { crop } = record.cache
      const own = view.normalise === 'image' ? combineSums([record.cache], record.id) : view.statistics
      return {
        id: record.id,
        width: crop[2] - crop[0],
        height: crop[3] - crop[1],
        origin: [crop[0], crop[1]],
        laterality: record.laterality,
        spacingMm: record.spacingMm?.[0] ?? null,
        lesions: record.lesions
          .filter((lesion) => view.classes.includes(lesion.class))
          .map((lesion) => shiftLesion(lesion, view.classes, crop[0], crop[1])),
        tissue: decodeTissue(record.cache.tissue, crop),
        normalise: [own.mean, own.std],
      }
    })
}

function shiftLesion(
  lesion: Lesion,
  classes: readonly string[],
  dx: number,
  dy: number,
): SamplerImage['lesions'][number] {
  const [x1, y1, x2, y2] = lesion.box
  return {
    label: classes.indexOf(lesion.class),
    box: [x1 - dx, y1 - dy, x2 - dx, y2 - dy],
    polygon: lesion.polygon?.map(([x, y]) => [x - dx, y - dy] as const) ?? null,
    ignore: lesion.ignore === true,
  }
}

/** Ids of a part of a fold; fold null is the only one of a hold-out split. Throws ERR_MAMMO_MANIFEST when there is no such fold. */
export function partIds(set: PreparedSet, part: Part, fold: number | null): string[] {
  const found = set.split.folds[fold ?? 0]
  if (found === undefined || (fold === null && set.split.folds.length > 1)) {
    const have = set.split.folds.length
    throw new DataError(
      'MANIFEST',
      `expected fold ${fold ?? '(none)'} in split.json, got ${have} fold${have === 1 ? '' : 's'}`,
      {
        where: join(set.folder, 'split.json'),
        fix: have > 1 ? `choose data.fold from 0 to ${have - 1}` : 'run `mammo-retinanet data split --folds K`',
        details: { rule: 'split/fold' },
      },
    )
  }
  return found[part]
}
