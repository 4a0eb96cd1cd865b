// The checkpoints of a run: one self-contained .safetensors file each, written whole or not at all. `last` is where a resumed
// run goes on, `previous` the one before it for the case that `last` is broken, `best` and `epoch_NNNN` are kept on purpose.
// A file gets its final name only after its sha256 stands in events.jsonl, so a `last` without that record has been altered.
import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { copyFile, link, mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { diskError, syncFolder } from '../atomic-write.js'
import type { Session } from '../binding/session.js'
import type { Config } from '../config/schema.js'
import { TrainingError } from '../errors.js'
import { openSafetensors } from '../weights/safetensors.js'
import type { CheckpointKind, RunEvent } from './events.js'
import type { TrainingState } from './state.js'

export const CHECKPOINT_FORMAT = 'mammo-retinanet/checkpoint@1'

/** Which data: equal hashes mean the same images, boxes and parts, wherever the folder lies. */
export interface DatasetIdentity {
  adapter: string
  /** Of the source files. */
  hash: string
  /** Of the prepared pixels and records. */
  cacheHash: string
  splitHash: string
  fold: number | null
}

/** Where data and numbers of a checkpoint come from; what inference needs beside the configuration. */
export interface Provenance {
  /** Version of this software. */
  tool: string
  /** Commit of the sources, when they were a git working tree. */
  commit: string | null
  dataset: DatasetIdentity
  /** Statistics that training normalised with. */
  normalise: { kind: 'dataset' | 'image'; mean: number; std: number }
  classes: string[]
  /** Median pixel spacing of the training images in mm, [row, column]; null when the images have none. */
  spacingMm: [number, number] | null
  /** The prepared images are cut to the breast; prediction does the same. */
  crop: boolean
  /** Source of the initial weights; null for random ones. */
  init: { source: string; sha256: string } | null
  /** Patients occur in several parts of the split. */
  leak: boolean
}

/** The JSON text in the header of a checkpoint. */
export interface CheckpointMetadata {
  format: typeof CHECKPOINT_FORMAT
  run: string
  config: Config
  state: TrainingState
  provenance: Provenance
}

/** Key of `__metadata__` in the safetensors header that holds the JSON text. */
export const METADATA_KEY = 'metadata'

export function checkpointPath(folder: string, name: string): string {
  return join(folder, 'checkpoints', `${name}.safetensors`)
}

/** Writes the next checkpoint beside the others; `promoteCheckpoint` gives it its names. Resolves to its sha256. */
export async function writeCheckpoint(
  session: Pick<Session, 'saveCheckpoint'>,
  folder: string,
  metadata: CheckpointMetadata,
): Promise<string> {
  const next = checkpointPath(folder, 'next')
  await mkdir(join(folder, 'checkpoints'), { recursive: true })
  await session.saveCheckpoint(next, JSON.stringify(metadata))
  return sha256OfFile(next)
}

/** Names the written file: `last` always (the old one becomes `previous`), `best` and `epoch_NNNN` as asked. */
export async function promoteCheckpoint(
  folder: string,
  kinds: readonly CheckpointKind[],
  epoch: number,
): Promise<void> {
  const path = (name: string) => checkpointPath(folder, name)
  const next = path('next')
  if (kinds.includes('best')) await alias(next, path('best'))
  if (kinds.includes('periodic')) await alias(next, path(`epoch_${String(epoch).padStart(4, '0')}`))
  if (existsSync(path('last'))) await alias(path('last'), path('previous'))
  await rename(next, path('last'))
  await syncFolder(join(folder, 'checkpoints'))
}

/** Second name of the same bytes, or a copy where links are impossible. Checkpoints are replaced, never changed in place. */
async function alias(from: string, to: string): Promise<void> {
  const temporary = `${to}.tmp`
  await rm(temporary, { force: true })
  try {
    await link(from, temporary).catch(() => copyFile(from, temporary))
    await rename(temporary, to)
  } catch (error) {
    await rm(temporary, { force: true })
    throw diskError(error, to)
  }
}

/** Reads a checkpoint's metadata without the addon. Throws TrainingError CHECKPOINT for another format or a damaged file. */
export async function readCheckpointMetadata(path: string): Promise<CheckpointMetadata> {
  const file = await openSafetensors(path)
  try {
    return parseMetadata(file.metadata[METADATA_KEY], path)
  } finally {
    await file.close()
  }
}

export function parseMetadata(text: string | undefined, path: string): CheckpointMetadata {
  let format: unknown
  try {
    const metadata = JSON.parse(text ?? '') as CheckpointMetadata
    format = metadata.format
    if (format === CHECKPOINT_FORMAT) return metadata
  } catch {
    format = undefined
  }
  throw new TrainingError(
    'CHECKPOINT',
    `expected a checkpoint of format ${CHECKPOINT_FORMAT}, got ${format ?? 'none'}`,
    {
      where: path,
      fix: 'use a checkpoint that `train` of this version wrote',
    },
  )
}

export interface Candidate {
  path: string
  metadata: CheckpointMetadata
}

/**
 * The checkpoints that a run can go on from, best first, and a sentence for each that is unusable. `events` are the run's records:
 * a file whose sha256 none of them names is broken, unless there are no such records at all.
 */
export async function resumeCandidates(
  folder: string,
  events: readonly RunEvent[],
): Promise<{ candidates: Candidate[]; broken: string[] }> {
  const known = new Set(events.flatMap((event) => (event.type === 'checkpoint' ? [event.sha256] : [])))
  const candidates: Candidate[] = []
  const broken: string[] = []
  for (const name of ['last', 'previous']) {
    const path = checkpointPath(folder, name)
    if (!existsSync(path)) continue
    try {
      const metadata = await readCheckpointMetadata(path)
      if (known.size > 0 && !known.has(await sha256OfFile(path))) {
        broken.push(`${path}: its sha256 is none that events.jsonl records; the file was changed after it was written`)
      } else candidates.push({ path, metadata })
    } catch (error) {
      broken.push(`${path}: ${(error as Error).message}`)
    }
  }
  return { candidates, broken }
}

export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash)
  return hash.digest('hex')
}
