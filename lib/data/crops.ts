// The fixed patch set of a prepared folder on the disk: 16-bit PNG files and one COCO file, for tools that take patches as images. Windows are
// those of the sampler with `fresh` off and without augmentation, so training on the folder itself with the same rule sees the same ones.
// Values are those of the cache; a patch beyond the border is filled with 0. Rules: datasets spec 4.4, retinanet spec 4.
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { syncFolder, writeFileAtomic } from '../atomic-write.js'
import type { Config } from '../config/schema.js'
import { warpWindow } from '../geometry/warp.js'
import { openReader, type PreparedSet, samplerImages } from './prepared.js'
import { encodeGrey16Png } from './raster.js'
import { createSampler, type SamplePlan } from './sampler.js'

export interface CropOptions {
  /** `msc`: as the MSc project placed and labelled them; `ours`: the corrected rules. */
  rule: 'msc' | 'ours'
  classes: readonly string[]
  data: Pick<Config['data'], 'patch' | 'resize' | 'antialias' | 'minVisible' | 'minSidePx'>
  seed: number
  onProgress?: (done: number, total: number) => void
}

export interface CropSummary {
  folder: string
  patches: number
  positive: number
  negative: number
  /** Lesions that the msc rule judges too large. */
  skippedLesions: number
  boxes: number
}

/**
 * Writes `folder` anew: `images/<image id>/<n>.png` and `annotations.json` (COCO), of every annotated image whatever its part: a patch belongs to
 * the part of its image, whose id is its path. Same prepared folder, rule and seed: same bytes.
 */
export async function writeCrops(set: PreparedSet, folder: string, options: CropOptions): Promise<CropSummary> {
  const { rule, classes, data, seed } = options
  const annotated = set.records.filter((record) => record.annotated)
  const view = { classes, normalise: 'dataset' as const, statistics: { mean: 0, std: 1 } }
  const images = samplerImages(
    set,
    annotated.map((record) => record.id),
    view,
  )
  const patch = { ...data.patch, rule, fresh: false }
  const sampler = createSampler(images, {
    ...{ strategy: 'crops', seed, multiple: 1, augment: null },
    data: { ...data, patch },
  })
  const partial = `${folder}.partial`
  await rm(partial, { recursive: true, force: true })
  await mkdir(partial, { recursive: true })
  const reader = openReader(set)
  const file = {
    images: [] as object[],
    annotations: [] as object[],
    categories: classes.map((name, id) => ({ id, name })),
  }
  const numbers = new Map<string, number>()
  try {
    for (let index = 0; index < sampler.length; index++) {
      const plan = sampler.plan(0, index)
      const n = numbers.get(plan.id) ?? 0
      numbers.set(plan.id, n + 1)
      const name = `images/${plan.id}/${n}.png`
      const [height, width] = plan.size
      const [x1, y1, x2, y2] = plan.window
      const pixels = new Uint16Array((x2 - x1) * (y2 - y1))
      await reader.read(plan.id, plan.window, pixels)
      await mkdir(dirname(join(partial, name)), { recursive: true })
      await writeFile(join(partial, name), await encodeGrey16Png(patchPixels(plan, pixels), width, height))
      const [, , left, , , top] = plan.toImage
      const patient = annotated.find((record) => record.id === plan.id)!.patient
      file.images.push({ id: index, file_name: name, width, height, source: plan.id, patient, left, top })
      const add = ([bx1, by1, bx2, by2]: readonly number[], category: number, iscrowd: 0 | 1) => {
        const [w, h] = [bx2! - bx1!, by2! - by1!]
        const id = file.annotations.length
        file.annotations.push({
          id,
          image_id: index,
          category_id: category,
          bbox: [bx1, by1, w, h],
          area: w * h,
          iscrowd,
        })
      }
      for (const [k, box] of plan.targets.boxes.entries()) add(box, plan.targets.labels[k]!, 0)
      for (const box of plan.targets.ignore) add(box, 0, 1)
      options.onProgress?.(index + 1, sampler.length)
    }
  } finally {
    await reader.close()
  }
  await writeFileAtomic(join(partial, 'annotations.json'), `${JSON.stringify(file)}\n`)
  await rm(folder, { recursive: true, force: true })
  await rename(partial, folder)
  await syncFolder(dirname(folder))
  const { positive, negative, skippedLesions } = sampler.counts
  return { folder, patches: sampler.length, positive, negative, skippedLesions, boxes: file.annotations.length }
}

/** Raw values of a patch: of the window itself where the map is a shift by whole pixels, rounded where it scales. */
function patchPixels(plan: SamplePlan, pixels: Uint16Array): Uint16Array {
  const [height, width] = plan.size
  const [x1, y1, x2, y2] = plan.window
  const { affine } = plan
  const result = new Uint16Array(height * width)
  const shifts = affine[0] === 1 && affine[1] === 0 && affine[3] === 0 && affine[4] === 1
  if (shifts && Number.isInteger(affine[2]) && Number.isInteger(affine[5])) {
    const stride = x2 - x1
    const [dx, dy] = [affine[2], affine[5]]
    const [from, to] = [Math.max(0, -dx), Math.min(width, stride - dx)]
    for (let y = Math.max(0, -dy); y < Math.min(height, y2 - y1 - dy); y++) {
      const row = (y + dy) * stride + dx
      if (to > from) result.set(pixels.subarray(row + from, row + to), y * width + from)
    }
    return result
  }
  const window = { pixels, height: y2 - y1, width: x2 - x1, affine, reduce: plan.reduce, mean: 0, std: 1 }
  const values = warpWindow({ ...window, intensity: [1, 0, 1] }, plan.size, plan.size)
  for (let at = 0; at < result.length; at++) result[at] = Math.round(values[at]!)
  return result
}
