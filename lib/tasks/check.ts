// `data check`: looks at a dataset as it was downloaded, or at a prepared folder, and says what is in it and what is wrong.
// Anchor coverage is added when a configuration is given. Nothing is changed; the caller prints and writes.
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { anchorCoverage, type Coverage } from '../anchors/coverage.js'
import { detectorConfig, padMultiple } from '../config/detector.js'
import type { Config } from '../config/schema.js'
import { type CheckInput, type CheckReport, checkDataset as checkRecords } from '../data/check.js'
import { readDataset } from '../data/formats/index.js'
import { openPrepared } from '../data/prepared.js'
import { scaleOf } from '../data/sampler.js'
import type { AdapterName, AdapterOptions } from '../data/types.js'

export { type CheckReport, exclusionList, formatCheck } from '../data/check.js'

export interface CheckDatasetOptions {
  adapter?: AdapterName
  reading?: AdapterOptions
  /** Warnings fail too. */
  strict?: boolean
  /** Adds the coverage of its anchors at the scale of its training images. */
  config?: Config
}

export async function checkDataset(
  folder: string,
  options: CheckDatasetOptions = {},
): Promise<CheckReport & { coverage: Coverage | null }> {
  const { config } = options
  const input = existsSync(join(folder, 'prepared.json'))
    ? await preparedInput(folder)
    : await sourceInput(folder, options)
  const multiple = config === undefined ? 128 : padMultiple(config)
  const report = checkRecords(input, {
    multiple,
    strict: options.strict ?? false,
    ...(config === undefined ? {} : { classes: config.data.classes }),
  })
  return { ...report, coverage: config === undefined ? null : coverageOf(input, config, multiple) }
}

async function preparedInput(folder: string): Promise<CheckInput> {
  const { records, split } = await openPrepared(folder, { verify: 'full' })
  return { records, split, problems: [] }
}

async function sourceInput(folder: string, { adapter, reading }: CheckDatasetOptions): Promise<CheckInput> {
  const { records, problems } = await readDataset(resolve(folder), {
    ...reading,
    ...(adapter === undefined ? {} : { adapter }),
  })
  return { records, problems }
}

/** Boxes at training scale: resized by `data.resize` for the resized strategy, the source's pixels otherwise. */
function coverageOf({ records }: CheckInput, config: Config, multiple: number): Coverage {
  const { model, anchors, matcher } = detectorConfig(config)
  const up = (value: number) => Math.ceil(value / multiple) * multiple
  const images = records.flatMap((record) => {
    const lesions = record.lesions.filter((lesion) => config.data.classes.includes(lesion.class) && !lesion.ignore)
    if (lesions.length === 0) return []
    const [x1, y1, x2, y2] = 'cache' in record && record.cache ? record.cache.crop : [0, 0, record.width, record.height]
    const image = { id: record.id, width: x2 - x1, height: y2 - y1, spacingMm: record.spacingMm?.[0] ?? null }
    const s = config.train.strategy === 'resized' ? scaleOf(image, config.data.resize) : 1
    const boxes = lesions.map(({ box }): [number, number, number, number] => {
      return [(box[0] - x1) * s, (box[1] - y1) * s, (box[2] - x1) * s, (box[3] - y1) * s]
    })
    return [{ height: up(image.height * s), width: up(image.width * s), boxes }]
  })
  return anchorCoverage(images, anchors, model.levels, matcher.positiveIou)
}
