// Run folders as `train` leaves them, without training: for tests of what reads runs.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { writeFileAtomic } from '../../lib/atomic-write.js'
import type { Config } from '../../lib/config/schema.js'
import type { Detection, ImageTruth } from '../../lib/evaluate/types.js'
import { writePredictions } from '../../lib/train/predictions.js'
import { resultColumns } from '../../lib/train/results.js'
import { RUN_SCHEMA, type RunRecord, writeRunRecord } from '../../lib/train/run-folder.js'

/** Writes a finished (or other) run; `ap50` is its history. */
export async function fakeRun(
  folder: string,
  config: Config,
  options: { ap50?: readonly number[]; status?: RunRecord['status']; splitHash?: string } = {},
): Promise<void> {
  await mkdir(folder, { recursive: true })
  const { ap50 = [0.1], status = 'finished', splitHash = 'split' } = options
  const dataset = { splitHash, fold: config.data.fold }
  await writeRunRecord(folder, {
    schema: RUN_SCHEMA,
    name: 'fake',
    status,
    dataset,
    host: {},
    parents: [],
  } as unknown as RunRecord)
  await writeFileAtomic(join(folder, 'config.resolved.yaml'), stringify(config, { lineWidth: 0 }))
  const columns = resultColumns(config.evaluate.fppi)
  const rows = ap50.map((value, i) =>
    columns.map((name) => (name === 'epoch' ? i + 1 : name.includes('loss') ? 1 - value : value)),
  )
  await writeFileAtomic(join(folder, 'results.csv'), [columns, ...rows].map((row) => `${row.join(',')}\n`).join(''))
}

/** A detection on every lesion, its score falling with the image; beside it a false one on every second image. */
export function fakeDetections(truth: readonly ImageTruth[], quality: number): Map<string, Detection[]> {
  return new Map(
    truth.map(({ id, boxes }, i) => [
      id,
      [
        ...boxes
          .filter((_, k) => (i + k) % 10 < quality * 10)
          .map(({ box, label }) => ({ box, label, score: 0.9 - i / 100 })),
        ...(i % 2 === 0
          ? [{ box: [1, 1, 9, 9] as [number, number, number, number], label: 0, score: 0.3 + i / 100 }]
          : []),
      ],
    ]),
  )
}

export async function storeDetections(
  path: string,
  truth: readonly ImageTruth[],
  quality: number,
  split = 'val',
): Promise<void> {
  await writePredictions(path, { info: { split, scoreThreshold: 0.01 }, detections: fakeDetections(truth, quality) }, [
    'mass',
  ])
}
