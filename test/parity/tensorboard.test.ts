// TensorBoard's own reader reads our event files: scalars, pictures, and what a resumed run voids. Needs a Python with tensorboard.
import { execFileSync, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { EventFile } from '../../lib/train/tensorboard.js'

const python = [process.env['MAMMO_TENSORBOARD_PYTHON'], process.env['MAMMO_PEER_PYTHON']].find(
  (path) => path !== undefined && spawnSync(path, ['-c', 'import tensorboard']).status === 0,
)
const skip =
  python === undefined && 'no Python with the package tensorboard; set MAMMO_TENSORBOARD_PYTHON or MAMMO_PEER_PYTHON'

/** What the reader makes of a folder. */
interface Read {
  scalars: Record<string, [number, number][]>
  images: Record<string, [number, number, number, number][]>
}

const SCRIPT = `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
a = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0})
a.Reload()
tags = a.Tags()
print(json.dumps({
  "scalars": {t: [[e.step, e.value] for e in a.Scalars(t)] for t in tags["scalars"]},
  "images": {t: [[e.step, e.width, e.height, len(e.encoded_image_string)] for e in a.Images(t)] for t in tags["images"]},
}))`

const read = (folder: string) => JSON.parse(execFileSync(python!, ['-c', SCRIPT, folder], { encoding: 'utf8' })) as Read

const png = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==',
  'base64',
)

t.test('scalars and pictures', { skip }, async (t) => {
  const folder = t.testdir()
  const file = await EventFile.create(folder, null)
  for (let step = 1; step <= 50; step++) file.scalars(step, { 'train/loss': 1 / step, 'train/lr': 1e-4 * step })
  file.picture(50, 'samples/val_0', { height: 1, width: 1, channels: 3, png })
  await file.close()
  const { scalars, images } = read(folder)
  t.strictSame(
    scalars['train/loss'],
    Array.from({ length: 50 }, (_, i) => [i + 1, Math.fround(1 / (i + 1))]),
  )
  t.equal(scalars['train/lr']?.length, 50)
  t.strictSame(images, { 'samples/val_0': [[50, 1, 1, png.length]] })
})

t.test('a resumed run: steps that were lost are void', { skip }, async (t) => {
  const folder = t.testdir()
  let now = 1_700_000_000_000
  const first = await EventFile.create(folder, null, () => now)
  for (let step = 1; step <= 9; step++) first.scalars(step, { 'train/loss': 9 })
  await first.close()
  now += 60_000
  const second = await EventFile.create(folder, 6, () => now)
  for (let step = 6; step <= 12; step++) second.scalars(step, { 'train/loss': 6 })
  await second.close()
  t.strictSame(
    read(folder).scalars['train/loss'],
    Array.from({ length: 12 }, (_, i) => [i + 1, i < 5 ? 9 : 6]),
  )
})

const run = process.env['MAMMO_RUN']
t.test('a whole run folder', { skip: skip || (run === undefined && 'MAMMO_RUN names no run folder') }, async (t) => {
  const { scalars, images } = read(join(run!, 'tb'))
  t.comment(`${Object.keys(scalars).length} scalars, ${Object.keys(images).length} pictures`)
  for (const tag of ['train/loss', 'val/loss', 'time/step_ms', 'mem/host_bytes']) t.ok(scalars[tag]?.length, tag)
  t.ok(Object.keys(images).length > 0, 'pictures')
})
