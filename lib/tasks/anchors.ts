// `anchors report` and `anchors optimize`: what a configuration's anchors can teach about a dataset's lesions, and a search for others
// that fit better. Puts data and lib/anchors together. A better fit is no promise of a better detector: both are shown, on the grid.
import { anchorCoverage, type Coverage } from '../anchors/coverage.js'
import type { ObjectiveName, ObjectiveOptions } from '../anchors/objective.js'
import { type AnchorFit, scoreAnchors, optimizeAnchors as searchAnchors } from '../anchors/optimize.js'
import { backboneOf } from '../config/backbones.js'
import { detectorConfig } from '../config/detector.js'
import type { Config } from '../config/schema.js'
import type { CheckInput } from '../data/check.js'
import type { Part } from '../data/split.js'
import { DataError, UsageError } from '../errors.js'
import { chooseThreads, readMachine } from '../machine.js'
import { readRecords, type SourceOptions, type TrainingImage, trainingImages } from './training-boxes.js'

export type { ObjectiveName } from '../anchors/objective.js'

/** Coverage of the boxes whose sides (square root of the area, network pixels) are in [from, to). */
export interface SizeCoverage {
  from: number
  to: number | null
  boxes: number
  /** With at least one positive anchor. */
  covered: number
  /** covered / boxes */
  recall: number
  meanBestIou: number
  minimumBestIou: number
}

export interface AnchorReport {
  images: number
  positiveIou: number
  coverage: Coverage
  sizes: SizeCoverage[]
  /** Boxes without a positive anchor, in network pixels. */
  missed: { id: string; box: number[]; bestIou: number; sizeMm: number | null }[]
}

export interface AnchorReportOptions extends SourceOptions {
  config: Config
  /** IoU that makes an anchor positive; default `matcher.positiveIou`. */
  iou?: number
}

/** Rejects with DataError ANNOTATION when the dataset has no lesion of the trained classes. */
export async function anchorReport(folder: string, options: AnchorReportOptions): Promise<AnchorReport> {
  const { iou } = options
  if (iou !== undefined && !(iou > 0 && iou <= 1)) {
    throw new UsageError('ARGUMENT', `expected --iou above 0 and at most 1, got ${iou}`)
  }
  const images = await lesionImages(folder, options)
  return reportAnchors(images, options.config, iou)
}

/** Upper ends of the size classes in pixels: the octaves of the default anchor sizes. */
const SIZE_EDGES = [32, 64, 128, 256, 512]

/** The report on images that were read already; of none, a report without boxes. */
export function reportAnchors(images: readonly TrainingImage[], config: Config, iou?: number): AnchorReport {
  const { model, anchors, matcher } = detectorConfig(config)
  const positiveIou = iou ?? matcher.positiveIou
  const coverage = anchorCoverage(images, anchors, model.levels, positiveIou, backboneOf(model.backbone).halvings)
  const side = ({ image, box }: Coverage['boxes'][number]) => {
    const [x1, y1, x2, y2] = images[image]!.boxes[box]!
    return Math.sqrt((x2 - x1) * (y2 - y1))
  }
  const sizes = [0, ...SIZE_EDGES].flatMap((from, i): SizeCoverage[] => {
    const to = SIZE_EDGES[i] ?? null
    const boxes = coverage.boxes.filter((box) => side(box) >= from && (to === null || side(box) < to))
    if (boxes.length === 0) return []
    const covered = boxes.filter((box) => box.bestIou >= positiveIou).length
    return [
      {
        ...{ from, to, boxes: boxes.length, covered, recall: covered / boxes.length },
        meanBestIou: boxes.reduce((sum, box) => sum + box.bestIou, 0) / boxes.length,
        minimumBestIou: Math.min(...boxes.map((box) => box.bestIou)),
      },
    ]
  })
  const missed = coverage.unmatched.map(({ image, box, bestIou }) => {
    const { id, boxes, sizesMm } = images[image]!
    return { id, box: [...boxes[box]!], bestIou, sizeMm: sizesMm[box]! }
  })
  return { images: images.length, positiveIou, coverage, sizes, missed }
}

/** Images that a search reads: those of a part of the split, or all. */
export type SearchPart = Part | 'all'

export interface AnchorSearchOptions extends SourceOptions {
  config: Config
  /** Default `train` for a prepared folder, `all` for a dataset without a split: anchors are part of what is trained. */
  part?: SearchPart
  /** Number of scales and ratios; default 3 and 3. */
  scales?: number
  ratios?: number
  /** Search with boxes at their places on the anchor grid instead of centred on the anchors. */
  includeGrid?: boolean
  objective?: ObjectiveName
  seed?: number
  /** Independent searches, seeds counted on from `seed`; all are returned. */
  top?: number
  onProgress?: (done: number, total: number) => void
}

export interface AnchorSetting {
  ratios: number[]
  scales: number[]
  /** The objective, smaller is better. */
  value: number
  /** By the objective's own rule. */
  meanIou: number
  unmatched: number
  /** On the real grid at `matcher.positiveIou`, whatever the objective is. */
  grid: { meanBestIou: number; minimumBestIou: number; unmatched: number; medianPositives: number }
}

export interface AnchorSearch {
  boxes: number
  part: SearchPart
  objective: ObjectiveName
  includeGrid: boolean
  /** The configuration's own anchors. */
  configured: AnchorSetting
  /** Best first. */
  optimised: (AnchorSetting & { seed: number; evaluations: number; cpuSeconds: number })[]
  /** YAML that uses the best one. */
  fragment: string
}

/** Rejects with DataError ANNOTATION without lesions, UsageError ARGUMENT for counts below 1 and a part that is not one set of images. */
export async function optimizeAnchors(folder: string, options: AnchorSearchOptions): Promise<AnchorSearch> {
  const { config, objective = 'focal', includeGrid = false, seed = 0, top = 1 } = options
  if (!Number.isInteger(top) || top < 1) {
    throw new UsageError('ARGUMENT', `expected --top as an integer of at least 1, got ${top}`)
  }
  const source = await readRecords(folder, options)
  const part = options.part ?? (source.split === undefined ? 'all' : 'train')
  const images = withLesions({ records: partOf(source, part, config) }, folder, config)
  const boxes = Float64Array.from(images.flatMap((image) => image.boxes.flat()))
  const rules: ObjectiveOptions = {
    ...{ objective, grid: includeGrid, inclusive: false },
    ...{ sizes: config.anchors.sizes, strides: config.anchors.strides },
    ...{ positiveIou: config.matcher.positiveIou, negativeIou: config.matcher.negativeIou },
  }
  const setting = (ratios: number[], scales: number[], fit?: AnchorFit): AnchorSetting => {
    const { coverage } = reportAnchors(images, { ...config, anchors: { ...config.anchors, ratios, scales } })
    const { value, meanIou, unmatched } = fit ?? scoreAnchors(boxes, rules, ratios, scales)
    const grid = {
      meanBestIou: coverage.meanBestIou!,
      minimumBestIou: coverage.minimumBestIou!,
      unmatched: coverage.unmatched.length,
      medianPositives: coverage.medianPositives!,
    }
    return { ratios, scales, value, meanIou, unmatched, grid }
  }
  const threads = chooseThreads(readMachine()).intraOp
  const optimised: AnchorSearch['optimised'] = []
  for (let n = 0; n < top; n++) {
    const fit = await searchAnchors(boxes, {
      ...{ ...rules, threads, seed: seed + n, ratios: options.ratios ?? 3, scales: options.scales ?? 3 },
      onProgress: (done, runs) => options.onProgress?.(n * runs + done, top * runs),
    })
    const { evaluations, cpuSeconds } = fit
    optimised.push({ ...setting(fit.ratios, fit.scales, fit), seed: seed + n, evaluations, cpuSeconds })
  }
  optimised.sort((a, b) => a.value - b.value || a.seed - b.seed)
  const configured = setting(config.anchors.ratios, config.anchors.scales)
  const fragment = fragmentOf(optimised[0]!)
  return { boxes: boxes.length / 4, part, objective, includeGrid, configured, optimised, fragment }
}

function fragmentOf({ ratios, scales }: AnchorSetting): string {
  const list = (values: number[]) => `[${values.map((v) => Number(v.toPrecision(6))).join(', ')}]`
  return `anchors:\n  ratios: ${list(ratios)}\n  scales: ${list(scales)}\n`
}

async function lesionImages(folder: string, options: SourceOptions & { config: Config }): Promise<TrainingImage[]> {
  return withLesions(await readRecords(folder, options), folder, options.config)
}

function withLesions(source: Pick<CheckInput, 'records'>, folder: string, config: Config): TrainingImage[] {
  const images = trainingImages(source, config)
  if (images.length > 0) return images
  throw new DataError(
    'ANNOTATION',
    `expected lesions of ${config.data.classes.join(', ')} in the dataset, found none`,
    {
      where: folder,
      fix: 'name the classes of the dataset in data.classes',
    },
  )
}

function partOf({ records, split }: CheckInput, part: SearchPart, config: Config): CheckInput['records'] {
  if (part === 'all') return records
  if (split === undefined) {
    throw new UsageError('ARGUMENT', `expected a prepared folder for --part ${part}, got a dataset without a split`, {
      fix: 'prepare it, or use --part all',
    })
  }
  const fold = config.data.fold ?? (split.folds.length === 1 ? 0 : null)
  if (fold === null || split.folds[fold] === undefined) {
    throw new UsageError('ARGUMENT', `expected one of the ${split.folds.length} folds, got data.fold ${fold}`, {
      fix: 'add --set data.fold=K, or --part all where nothing is scored afterwards',
    })
  }
  const ids = new Set(split.folds[fold][part])
  return records.filter((record) => ids.has(record.id))
}
