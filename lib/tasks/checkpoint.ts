// From what a user names (run folder or checkpoint file) to a checkpoint and a session with its weights.
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { openSession, type Session } from '../binding/session.js'
import { sessionConfig } from '../config/detector.js'
import type { Config } from '../config/schema.js'
import { UsageError } from '../errors.js'
import { type CheckpointMetadata, checkpointPath, readCheckpointMetadata } from '../train/checkpoints.js'

export interface OpenedCheckpoint {
  path: string
  metadata: CheckpointMetadata
}

/** The checkpoint of a run (its best one, else the last) or the named file. Needs no addon. */
export async function findCheckpoint(target: string): Promise<OpenedCheckpoint> {
  const path = resolve(target)
  const info = await stat(path).catch(() => undefined)
  if (info === undefined) {
    throw new UsageError('ARGUMENT', 'expected a run folder or a checkpoint, nothing exists there', {
      where: target,
      fix: 'give the folder that `train` printed, or a .safetensors file of it',
    })
  }
  if (info.isFile()) return { path, metadata: await readCheckpointMetadata(path) }
  const found = ['best', 'last'].map((name) => checkpointPath(path, name)).find((file) => existsSync(file))
  if (found === undefined) {
    throw new UsageError('ARGUMENT', 'expected a run folder with checkpoints, found none', {
      where: join(path, 'checkpoints'),
      fix: 'give the folder that `train` printed, or a .safetensors file of it',
    })
  }
  return { path: found, metadata: await readCheckpointMetadata(found) }
}

/** A session with the checkpoint's configuration and weights; `change` edits the configuration first (device, thresholds). */
export async function openCheckpointSession(
  checkpoint: OpenedCheckpoint,
  change: (config: Config) => void = () => {},
): Promise<Session> {
  const config = structuredClone(checkpoint.metadata.config)
  change(config)
  const session = await openSession(sessionConfig(config))
  try {
    await session.loadCheckpoint(checkpoint.path, 'weights')
    return session
  } catch (error) {
    await session.dispose()
    throw error
  }
}
