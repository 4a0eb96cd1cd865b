// Records of a dataset, prepared or as it was downloaded, and their boxes at the scale at which a configuration trains. Shared by the
// tasks that look at data and anchors; it is no command.
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { CoverageImage } from '../anchors/coverage.js'
import { padMultiple } from '../config/detector.js'
import type { Config } from '../config/schema.js'
import type { CheckInput } from '../data/check.js'
import { readDataset } from '../data/formats/index.js'
import { openPrepared } from '../data/prepared.js'
import { scaleOf } from '../data/sampler.js'
import type { AdapterName, AdapterOptions, Box } from '../data/types.js'

export interface SourceOptions {
  adapter?: AdapterName
  reading?: AdapterOptions
  /** Of a prepared folder: `full` hashes every pixel file. */
  verify?: 'quick' | 'full'
}

/** A prepared folder with its split, or a dataset with the problems of reading it. */
export async function readRecords(folder: string, options: SourceOptions = {}): Promise<CheckInput> {
  if (existsSync(join(folder, 'prepared.json'))) {
    const { records, split } = await openPrepared(folder, { verify: options.verify ?? 'quick' })
    return { records, split, problems: [] }
  }
  const { adapter, reading } = options
  const { records, problems } = await readDataset(resolve(folder), {
    ...reading,
    ...(adapter === undefined ? {} : { adapter }),
  })
  return { records, problems }
}

/** One image as the network sees it. */
export interface TrainingImage extends CoverageImage {
  id: string
  /** Factor from source pixels. */
  scale: number
  /** Square root of the area in mm, per box; null without pixel spacing. */
  sizesMm: (number | null)[]
}

/**
 * Images with lesions of the trained classes, boxes in pixels of the network's input: resized by `data.resize` for the resized
 * strategy, the source's pixels otherwise (patches and full images are not scaled). The whole image is the canvas.
 */
export function trainingImages({ records }: Pick<CheckInput, 'records'>, config: Config): TrainingImage[] {
  const multiple = padMultiple(config)
  const up = (value: number) => Math.ceil(value / multiple) * multiple
  return records.flatMap((record) => {
    const lesions = record.lesions.filter((lesion) => config.data.classes.includes(lesion.class) && !lesion.ignore)
    if (lesions.length === 0) return []
    const [x1, y1, x2, y2] = record.cache?.crop ?? [0, 0, record.width, record.height]
    const image = { id: record.id, width: x2 - x1, height: y2 - y1, spacingMm: record.spacingMm?.[0] ?? null }
    const scale = config.train.strategy === 'resized' ? scaleOf(image, config.data.resize) : 1
    const boxes = lesions.map(({ box }): Box => {
      return [(box[0] - x1) * scale, (box[1] - y1) * scale, (box[2] - x1) * scale, (box[3] - y1) * scale]
    })
    const sizesMm = lesions.map(({ box }) => {
      const spacing = record.spacingMm
      return spacing === null ? null : Math.sqrt((box[2] - box[0]) * spacing[1] * (box[3] - box[1]) * spacing[0])
    })
    return [{ id: record.id, scale, height: up(image.height * scale), width: up(image.width * scale), boxes, sizesMm }]
  })
}
