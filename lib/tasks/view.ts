// `data view`: pictures of a prepared folder: images with their lesions, or what the network sees with augmentation.
import { join } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import { padMultiple } from '../config/detector.js'
import type { Config } from '../config/schema.js'
import { readPlans } from '../data/loader.js'
import { openPrepared, openReader, readCrop, samplerImages } from '../data/prepared.js'
import { createSampler } from '../data/sampler.js'
import { encodePicture, renderImage } from '../data/view.js'
import { drawPlan } from '../data/view-plan.js'

export interface ViewDatasetOptions {
  out: string
  /** Image ids; default the first 16. */
  ids?: readonly string[]
  /** Draw planned training samples of this configuration instead of images: crop, scale and augmentation as in epoch 0. */
  config?: Config
  maxSide?: number
}

/** Writes one PNG per image (or per planned sample) and returns the paths. */
export async function viewDataset(folder: string, options: ViewDatasetOptions): Promise<string[]> {
  const set = await openPrepared(folder)
  const reader = openReader(set)
  const ids = new Set(options.ids ?? set.records.slice(0, 16).map((record) => record.id))
  const records = set.records.filter((record) => ids.has(record.id))
  const size = options.maxSide === undefined ? {} : { maxSide: options.maxSide }
  const paths: string[] = []
  const write = async (name: string, png: Uint8Array) => {
    const path = join(options.out, `${name.replaceAll('/', '_')}.png`)
    await writeFileAtomic(path, png)
    paths.push(path)
  }
  try {
    const { config } = options
    if (config !== undefined) {
      const { classes } = config.data
      const statistics = set.header.statistics[config.data.fold ?? 0]!
      const images = samplerImages(set, ids, { classes, normalise: config.input.normalise, statistics })
      const strategy = config.train.strategy === 'twoStage' ? 'crops' : config.train.strategy
      const augment = config.augment.enabled ? config.augment : null
      const rest = { seed: config.run.seed, multiple: padMultiple(config), data: config.data, augment }
      const sampler = createSampler(images, { strategy, ...rest })
      for (let index = 0; index < sampler.length; index++) {
        const plan = sampler.plan(0, index)
        const { batch } = await readPlans([plan], plan.size, reader)
        const name = `${plan.id}_${String(index).padStart(4, '0')}`
        await write(name, await encodePicture(drawPlan(plan, batch.windows.pixels, { classes, ...size })))
      }
      return paths
    }
    for (const record of records) {
      const { pixels, width, height } = await readCrop(reader, record)
      const [x, y] = record.cache.crop
      const truth = record.lesions.map((lesion) => ({
        box: [lesion.box[0] - x, lesion.box[1] - y, lesion.box[2] - x, lesion.box[3] - y] as typeof lesion.box,
        label: lesion.class,
        ignore: lesion.ignore,
      }))
      await write(record.id, await renderImage({ pixels, width, height, truth, title: record.id, ...size }))
    }
    return paths
  } finally {
    await reader.close()
  }
}
