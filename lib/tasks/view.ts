// `data view`: pictures of a prepared folder: images with their lesions, what the network sees with augmentation, the anchors that
// match, and stored predictions.
import { join } from 'node:path'
import { positiveAnchors } from '../anchors/coverage.js'
import { writeFileAtomic } from '../atomic-write.js'
import { backboneOf } from '../config/backbones.js'
import { detectorConfig, padMultiple } from '../config/detector.js'
import type { Config } from '../config/schema.js'
import { readPlans } from '../data/loader.js'
import { openPrepared, openReader, type PreparedRecord, readCrop, samplerImages } from '../data/prepared.js'
import { createSampler, scaleOf } from '../data/sampler.js'
import type { Box } from '../data/types.js'
import { encodePicture, renderImage, type ShownPrediction, type ShownTruth, type ViewInput } from '../data/view.js'
import { drawPlan } from '../data/view-plan.js'
import { UsageError } from '../errors.js'
import { type Criterion, frocEvents } from '../evaluate/froc.js'
import type { Detection } from '../evaluate/types.js'
import { readPredictions } from '../train/predictions.js'

export interface ViewDatasetOptions {
  out: string
  config: Config
  /** Image ids; default the first 16. */
  ids?: readonly string[]
  /** Draw planned training samples instead of images: crop, scale and augmentation as in epoch 0. */
  augment?: boolean
  /** Mark lesions by whether an anchor is positive for them, and draw those anchors. */
  anchors?: boolean
  /** Stored predictions in COCO JSON; drawn from `predict.scoreThreshold`, hits by `evaluate.hit`. Not with `augment`. */
  predictions?: string
  maxSide?: number
}

/** Writes one PNG per image (or per planned sample) and returns the paths. Throws UsageError ARGUMENT for unknown ids. */
export async function viewDataset(folder: string, options: ViewDatasetOptions): Promise<string[]> {
  const { config } = options
  if (options.augment === true && options.predictions !== undefined) {
    throw new UsageError('ARGUMENT', 'expected either --augment or --predictions: predictions belong to whole images')
  }
  const set = await openPrepared(folder)
  const ids = new Set(options.ids ?? set.records.slice(0, 16).map((record) => record.id))
  const records = set.records.filter((record) => ids.has(record.id))
  for (const { id } of records) ids.delete(id)
  if (ids.size > 0) {
    const some = set.records.slice(0, 3).map((record) => record.id)
    throw new UsageError('ARGUMENT', `expected ids of prepared images, got ${[...ids].join(', ')}`, {
      where: folder,
      fix: `ids look like ${some.join(', ')}`,
    })
  }
  const { classes } = config.data
  const size = options.maxSide === undefined ? {} : { maxSide: options.maxSide }
  const reader = openReader(set)
  const paths: string[] = []
  const write = async (name: string, png: Uint8Array) => {
    const path = join(options.out, `${name.replaceAll('/', '_')}.png`)
    await writeFileAtomic(path, png)
    paths.push(path)
  }
  try {
    if (options.augment === true) {
      const statistics = set.header.statistics[config.data.fold ?? 0]!
      const drawn = records.filter((record) => record.annotated).map((record) => record.id)
      const images = samplerImages(set, drawn, { classes, normalise: config.input.normalise, statistics })
      const strategy = config.train.strategy === 'twoStage' ? 'crops' : config.train.strategy
      const augment = config.augment.enabled ? config.augment : null
      const rest = { seed: config.run.seed, multiple: padMultiple(config), data: config.data, augment }
      const sampler = createSampler(images, { strategy, ...rest })
      for (let index = 0; index < sampler.length; index++) {
        const plan = sampler.plan(0, index)
        const { batch } = await readPlans([plan], plan.size, reader)
        const name = `${plan.id}_${String(index).padStart(4, '0')}`
        const shown = options.anchors === true ? anchorsOf(plan.targets.boxes, plan.size, config) : {}
        await write(name, await encodePicture(drawPlan(plan, batch.windows.pixels, { classes, ...shown, ...size })))
      }
      return paths
    }
    const stored =
      options.predictions === undefined ? null : (await readPredictions(options.predictions, classes)).detections
    for (const record of records) {
      const { pixels, width, height } = await readCrop(reader, record)
      const [x, y] = record.cache.crop
      const shift = ([x1, y1, x2, y2]: Box): Box => [x1 - x, y1 - y, x2 - x, y2 - y]
      const truth = record.lesions.map((lesion): ShownTruth & { box: Box } => {
        return { box: shift(lesion.box), label: lesion.class, ignore: lesion.ignore }
      })
      const picture: ViewInput = { pixels, width, height, truth, title: record.id, ...size }
      if (options.anchors === true) Object.assign(picture, markAnchors(truth, record, config))
      if (stored !== null) {
        const detections = (stored.get(record.id) ?? []).map((found) => ({ ...found, box: shift(found.box) }))
        Object.assign(picture, markHits(picture.truth!, detections, config))
      }
      await write(record.id, await renderImage(picture))
    }
    return paths
  } finally {
    await reader.close()
  }
}

/** For boxes on a canvas (height, width): which have a positive anchor, and those anchors. */
function anchorsOf(
  boxes: readonly Box[],
  canvas: readonly [number, number],
  config: Config,
): { matched: boolean[]; anchors: Box[] } {
  const { anchors, matcher, model } = detectorConfig(config)
  const { halvings } = backboneOf(model.backbone)
  const found = boxes.map((box) => positiveAnchors(box, canvas, anchors, model.levels, matcher.positiveIou, halvings))
  return { matched: found.map((list) => list.length > 0), anchors: found.flat() }
}

/** The same for the lesions of an image in the crop's pixels, judged at the scale of training. */
function markAnchors(
  truth: readonly ShownTruth[],
  record: PreparedRecord,
  config: Config,
): Pick<ViewInput, 'truth' | 'anchors'> {
  const [x1, y1, x2, y2] = record.cache.crop
  const image = { id: record.id, width: x2 - x1, height: y2 - y1, spacingMm: record.spacingMm?.[0] ?? null }
  const scale = config.train.strategy === 'resized' ? scaleOf(image, config.data.resize) : 1
  const multiple = padMultiple(config)
  const up = (value: number) => Math.ceil((value * scale) / multiple) * multiple
  const by = (box: Box, factor: number) => box.map((value) => value * factor) as Box
  const trained = truth.filter((item) => isTrained(item, config))
  const { matched, anchors } = anchorsOf(
    trained.map(({ box }) => by(box, scale)),
    [up(image.height), up(image.width)],
    config,
  )
  const marked = truth.map((item): ShownTruth => {
    const at = trained.indexOf(item)
    if (at < 0) return item
    return matched[at] ? { ...item, matched: true } : { ...item, tag: 'NO ANCHOR' }
  })
  return { truth: marked, anchors: anchors.map((box) => by(box, 1 / scale)) }
}

/** Tags missed lesions MISS and false positives FP, by the rules of the evaluation. */
export function markHits(
  truth: readonly ShownTruth[],
  detections: readonly Detection[],
  { data, evaluate, predict }: Config,
): Pick<ViewInput, 'truth' | 'predictions'> {
  const trained = truth.filter((item) => data.classes.includes(item.label ?? '') || item.ignore === true)
  const boxes = trained.map(({ box, label, ignore }) => {
    return { box, label: data.classes.indexOf(label ?? ''), ignore: ignore === true }
  })
  const shown = detections.filter((found) => found.score > predict.scoreThreshold)
  const judge = (list: readonly Detection[]) =>
    frocEvents([{ id: 'image', patient: 'image', boxes }], new Map([['image', list]]), {
      criterion: evaluate.hit as Criterion,
      credit: evaluate.frocCredit,
    })
  const { lesionScore, lesionBox } = judge(shown)
  const missed = new Set([...lesionBox].filter((_, n) => lesionScore[n] === Number.NEGATIVE_INFINITY))
  return {
    truth: truth.map((item) => {
      const at = trained.indexOf(item)
      if (!missed.has(at)) return item
      return { ...item, tag: [item.tag, 'MISS'].filter(Boolean).join(' ') }
    }),
    predictions: shown.map((found): ShownPrediction => {
      const { box, score, label } = found
      const alone = judge([found]).falseScore.length > 0
      return { box, score, label: data.classes[label] ?? 'lesion', ...(alone ? { tag: 'FP' } : {}) }
    }),
  }
}

function isTrained({ label, ignore }: ShownTruth, { data }: Config): boolean {
  return ignore !== true && data.classes.includes(label ?? '')
}
