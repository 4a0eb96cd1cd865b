// Preparing images from files to the uint16 cache: all of `data prepare` but the reading of annotations. Real files lie in the folder
// of MAMMO_DATA, else in ../shared/data beside the package.
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { readImageInfo } from '../../lib/data/image.js'
import { prepareRecords } from '../../lib/data/prepare.js'
import type { Box, ImageRecord } from '../../lib/data/types.js'
import { packageRoot } from '../../lib/package-root.js'
import { median, timed } from '../statistics.js'
import type { Measurement } from '../trials.js'
import { residentBytes } from './model.js'

export interface DataSetting {
  /** In the data folder. */
  folder: string
  ending: string
  threads: number
  count?: number
  /** Each file becomes this many images, so that starting the workers counts as little as in a real set. */
  repeat?: number
}

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const setting = options as unknown as DataSetting
  const out = await mkdtemp(join(tmpdir(), 'mammo-bench-'))
  try {
    const { root, records } = await readRecords(setting)
    const baseBytes = residentBytes('VmRSS')
    let run = 0
    const once = () => prepare(root, records, join(out, String(run++)), setting.threads)
    const seconds = await timed(once, 1, setting.count ?? 3)
    const extra = { images: records.length, 'images/s': records.length / median(seconds) }
    return { seconds, peakBytes: residentBytes('VmHWM'), baseBytes, extra }
  } finally {
    await rm(out, { recursive: true })
  }
}

/** One record per file, a patient each, with one lesion in the middle that takes a tenth of each side. */
export async function readRecords({
  folder,
  ending,
  repeat = 1,
}: DataSetting): Promise<{ root: string; records: ImageRecord[] }> {
  const data = process.env['MAMMO_DATA'] ?? join(packageRoot(), '..', 'shared', 'data')
  const root = join(resolve(data), folder)
  const files = (await readdir(root)).filter((name) => name.endsWith(ending)).sort()
  const names = Array.from({ length: repeat }, () => files).flat()
  const records = names.map(async (path, n): Promise<ImageRecord> => {
    const { width, height, transferSyntax, fileSize } = await readImageInfo(join(root, path), { assumeMammogram: true })
    const box: Box = [0.45, 0.45, 0.55, 0.55].map((share, i) => Math.round(share * (i % 2 ? height : width))) as Box
    const source = { file: path, index: 0, name: 'bench' }
    return {
      ...{ v: 1, id: `bench/${n}`, path, frame: 0, patient: `p${n}`, laterality: null, view: null, width, height },
      ...{ spacingMm: null, spacingSource: null, split: null, density: null, biRads: null, annotated: true, flags: [] },
      lesions: [
        { id: '0', class: 'mass', box, pathology: 'unknown', biRads: null, ignore: false, clipped: false, source },
      ],
      source: { adapter: 'bench', adapterVersion: 1, annotationFile: null, transferSyntax, fileSize },
    }
  })
  return { root, records: await Promise.all(records) }
}

/** Everything goes to the training part. */
export async function prepare(root: string, records: ImageRecord[], out: string, workers: number): Promise<void> {
  const input = { root, adapter: 'bench', tool: 'bench', labelRules: {}, records, headerLine: '{}' }
  await prepareRecords(input, { out, workers, split: { ratio: [1, 0, 0] } })
}
