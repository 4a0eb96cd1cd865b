import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { defaultConfig } from '../../lib/config/load.js'
import {
  CHECKPOINT_FORMAT,
  type CheckpointMetadata,
  checkpointPath,
  METADATA_KEY,
  promoteCheckpoint,
  readCheckpointMetadata,
  resumeCandidates,
  writeCheckpoint,
} from '../../lib/train/checkpoints.js'
import type { RunEvent } from '../../lib/train/events.js'
import { freshState } from '../../lib/train/state.js'
import { writeSafetensors } from '../../lib/weights/safetensors.js'

const metadata = (step: number): CheckpointMetadata => ({
  format: CHECKPOINT_FORMAT,
  run: 'r',
  config: defaultConfig(),
  state: { ...freshState(), step },
  provenance: {
    ...{ tool: '0', commit: null, classes: ['mass'], crop: false, spacingMm: null, init: null, leak: false },
    dataset: { adapter: 'coco', hash: 'a', cacheHash: 'b', splitHash: 'c', fold: null },
    normalise: { kind: 'dataset', mean: 1, std: 2 },
  },
})

/** Writes what the engine would write, without weights. */
const session = {
  saveCheckpoint: (path: string, text: string) =>
    writeSafetensors(path, new Map([['w', { shape: [2], data: Float32Array.of(1, 2) }]]), { [METADATA_KEY]: text }),
}

async function save(
  folder: string,
  step: number,
  kinds: ('last' | 'best' | 'periodic')[] = ['last'],
): Promise<RunEvent> {
  const sha256 = await writeCheckpoint(session, folder, metadata(step))
  await promoteCheckpoint(folder, kinds, step)
  return { v: 1, t: '', type: 'checkpoint', path: 'checkpoints/last.safetensors', sha256, step, metric: null, kinds }
}

const stepOf = async (folder: string, name: string) =>
  (await readCheckpointMetadata(checkpointPath(folder, name))).state.step

t.test('last is the newest, previous the one before, best and epochs stay', async (t) => {
  const folder = t.testdir()
  await save(folder, 1, ['last', 'best'])
  await save(folder, 2, ['last', 'periodic'])
  await save(folder, 3)
  t.strictSame(readdirSync(join(folder, 'checkpoints')).sort(), [
    'best.safetensors',
    'epoch_0002.safetensors',
    'last.safetensors',
    'previous.safetensors',
  ])
  const steps = await Promise.all(['last', 'previous', 'best', 'epoch_0002'].map((name) => stepOf(folder, name)))
  t.strictSame(steps, [3, 2, 1, 2])
})

t.test('metadata is read without the addon; other files are refused', async (t) => {
  const folder = t.testdir({ 'x.safetensors': 'no' })
  await save(folder, 5)
  t.strictSame(await readCheckpointMetadata(checkpointPath(folder, 'last')), metadata(5))
  await t.rejects(readCheckpointMetadata(join(folder, 'x.safetensors')), { code: 'ERR_MAMMO_CHECKPOINT', exitCode: 4 })
  const other = join(folder, 'other.safetensors')
  await writeSafetensors(other, new Map(), { [METADATA_KEY]: '{"format":"mammo-retinanet/checkpoint@99"}' })
  await t.rejects(readCheckpointMetadata(other), { message: /checkpoint@1, got mammo-retinanet\/checkpoint@99/ })
})

t.test('a failed write leaves the earlier checkpoints as they are', async (t) => {
  const folder = t.testdir()
  await save(folder, 1)
  const before = readFileSync(checkpointPath(folder, 'last'))
  const full = { saveCheckpoint: () => Promise.reject(new Error('no space left')) }
  await t.rejects(writeCheckpoint(full, folder, metadata(2)), /no space/)
  t.ok(readFileSync(checkpointPath(folder, 'last')).equals(before))
  t.notOk(existsSync(checkpointPath(folder, 'previous')))
})

t.test('a broken last falls back to the one before it, with a sentence', async (t) => {
  const damage: Record<string, (path: string) => void> = {
    truncated: (path) => truncateSync(path, statSync(path).size - 4),
    emptied: (path) => truncateSync(path, 0),
    changed: (path) => appendFileSync(path, '!'),
  }
  for (const [name, harm] of Object.entries(damage)) {
    const folder = join(t.testdir({ [name]: {} }), name)
    const events = [await save(folder, 1), await save(folder, 2)]
    t.strictSame(
      (await resumeCandidates(folder, events)).candidates.map((c) => c.metadata.state.step),
      [2, 1],
    )
    harm(checkpointPath(folder, 'last'))
    const { candidates, broken } = await resumeCandidates(folder, events)
    t.strictSame(
      candidates.map((c) => c.metadata.state.step),
      [1],
      name,
    )
    t.equal(broken.length, 1)
    t.match(broken[0], /last\.safetensors/)
  }
})

t.test('without records of checkpoints a readable file is believed', async (t) => {
  const folder = t.testdir()
  await save(folder, 1)
  t.equal((await resumeCandidates(folder, [])).candidates.length, 1)
})

t.test('a crash between writing and naming changes nothing', async (t) => {
  const folder = t.testdir()
  const events = [await save(folder, 1)]
  await writeCheckpoint(session, folder, metadata(2))
  const { candidates } = await resumeCandidates(folder, events)
  t.strictSame(
    candidates.map((c) => c.metadata.state.step),
    [1],
  )
  await save(folder, 3)
  t.equal(await stepOf(folder, 'last'), 3)
})

t.test('an empty folder has no candidates', async (t) => {
  const folder = t.testdir()
  mkdirSync(join(folder, 'checkpoints'))
  t.strictSame(await resumeCandidates(folder, []), { candidates: [], broken: [] })
})
