// A prepared folder made of a few small synthetic images with one bright disc each, for tests of training and evaluation that need
// data of the real layout. Written with lib/data's own functions; the same arguments give the same bytes.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from '../../lib/atomic-write.js'
import { cacheBytes, cacheFile, writePixels } from '../../lib/data/cache.js'
import { differenceHash } from '../../lib/data/leak.js'
import {
  cacheHash,
  PREPARED_SCHEMA,
  type PreparedHeader,
  type PreparedRecord,
  writeSplit,
} from '../../lib/data/prepared.js'
import { pixelSums } from '../../lib/data/statistics.js'
import { randomStream } from '../../lib/random.js'

export interface FixtureOptions {
  train?: number
  val?: number
  test?: number
  width?: number
  height?: number
  /** Every n-th image has no lesion; 0: none. */
  negativeEvery?: number
}

/** Writes the folder and resolves to its path. */
export async function preparedFixture(folder: string, options: FixtureOptions = {}): Promise<string> {
  const { train = 6, val = 2, test = 2, width = 128, height = 96, negativeEvery = 4 } = options
  await mkdir(folder, { recursive: true })
  const parts = { train, val, test }
  const ids = { train: [] as string[], val: [] as string[], test: [] as string[] }
  const records: PreparedRecord[] = []
  for (const part of ['train', 'val', 'test'] as const) {
    for (let n = 0; n < parts[part]; n++) {
      const index = records.length
      const id = `synth/${String(index).padStart(3, '0')}`
      ids[part].push(id)
      const negative = negativeEvery > 0 && index % negativeEvery === negativeEvery - 1
      records.push(await oneImage(folder, id, `p${index}`, index, width, height, negative))
    }
  }
  const header: PreparedHeader = {
    prepared: PREPARED_SCHEMA,
    ...{
      tool: '0',
      adapter: 'coco',
      labelRules: {},
      options: { crop: false, maskBackground: false },
      images: records.length,
    },
    bytes: records.reduce((sum, record) => sum + cacheBytes(record.cache.crop), 0),
    ...{ classes: ['mass'], sourceHash: 'synthetic', cacheHash: cacheHash(records), splitHash: '', statistics: [] },
  }
  await writeFileAtomic(
    join(folder, 'manifest.jsonl'),
    `${['{}', ...records.map((r) => JSON.stringify(r))].join('\n')}\n`,
  )
  await writeSplit(folder, header, records, {
    schema: 'mammo-retinanet/split@1',
    ...{ method: 'holdout', seed: 0, ratio: [0.6, 0.2, 0.2], folds: [ids], unused: [] },
  })
  return folder
}

async function oneImage(
  folder: string,
  id: string,
  patient: string,
  index: number,
  width: number,
  height: number,
  negative: boolean,
): Promise<PreparedRecord> {
  const random = randomStream(7, 'fixture', index)
  const radius = random.uniform(12, 20)
  const [cx, cy] = [random.uniform(radius, width - radius), random.uniform(radius, height - radius)]
  const pixels = new Uint16Array(width * height)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const inside = !negative && Math.hypot(x + 0.5 - cx, y + 0.5 - cy) < radius
      pixels[y * width + x] = Math.round(random.uniform(800, 1200) + (inside ? 1500 : 0) + 3 * x)
    }
  }
  const box: [number, number, number, number] = [cx - radius, cy - radius, cx + radius, cy + radius]
  const file = cacheFile(id)
  await mkdir(join(folder, 'pixels', 'synth'), { recursive: true })
  const sha256 = await writePixels(folder, file, pixels)
  const cell = 32
  const [rows, columns] = [Math.ceil(height / cell), Math.ceil(width / cell)]
  const lesion = {
    ...{ id: 'l0', class: 'mass', box, pathology: 'unknown' as const, biRads: null, ignore: false, clipped: false },
    source: { file: 'synthetic', index: 0, name: 'mass' },
  }
  return {
    ...{
      v: 1,
      id,
      path: `${id}.png`,
      frame: 0,
      patient,
      laterality: index % 2 === 0 ? 'L' : 'R',
      view: 'CC',
      width,
      height,
    },
    ...{ spacingMm: [0.1, 0.1], spacingSource: 'synthetic', split: null, density: 'B', biRads: null, annotated: true },
    lesions: negative ? [] : [lesion],
    flags: ['synthetic'],
    source: { adapter: 'coco', adapterVersion: 1, annotationFile: null, transferSyntax: 'none', fileSize: 0 },
    cache: {
      ...{ file, crop: [0, 0, width, height], sha256, source: sha256, instance: id, ...pixelSums(pixels) },
      ...differenceHash(pixels, width, height),
      tissue: { cell, rows, columns, runs: [0, rows * columns] },
    },
  }
}
