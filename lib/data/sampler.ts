// Decides, as a pure function of (seed, epoch, index), what the network sees: which image, which window of it, one affine,
// one change of intensity, and where the lesions lie then. It reads no pixel; loader.ts does. Resuming needs a number only.
// Rules: datasets spec 4.4 and 4.5; `msc` repeats the MSc project's placement, its unlabelled second mass included.
import type { Config } from '../config/schema.js'
import { ConfigError } from '../errors.js'
import { type Affine, applyToPoint, compose, determinant, invert, scaling, translation } from '../geometry/affine.js'
import type { Elastic } from '../geometry/elastic.js'
import { type RandomStream, randomStream } from '../random.js'
import { type Augmentation, type AugmentOptions, drawAugmentation, NO_AUGMENTATION } from './augment.js'
import { type LabelledLesion, lesionTargets, type TargetRules, type Targets } from './targets.js'
import { coverage, type TissueMask } from './tissue.js'
import type { Rect } from './types.js'

/** An image as the sampler knows it: the cached crop, lesions in the crop's pixels. */
export interface SamplerImage {
  id: string
  /** Size of the cached crop. */
  width: number
  height: number
  /** Top left corner of the crop in the full image. */
  origin: [number, number]
  laterality: 'L' | 'R' | null
  /** Row spacing of the source pixels in mm. */
  spacingMm: number | null
  lesions: LabelledLesion[]
  /** Breast mask in the crop's pixels. */
  tissue: TissueMask
  /** Mean and standard deviation for normalisation. */
  normalise: [number, number]
}

export interface SamplerOptions {
  strategy: 'full' | 'resized' | 'crops'
  seed: number
  /** Canvas sides are multiples of this: the coarsest stride. */
  multiple: number
  data: Pick<Config['data'], 'patch' | 'resize' | 'antialias' | 'minVisible' | 'minSidePx'>
  /** Null: images as they are, for validation and test. */
  augment: AugmentOptions | null
  /** Whole images only: all of them mirrored left to right, or larger than the strategy makes them by a factor. For test-time views. */
  view?: { mirrored: boolean; scale: number }
}

/** Everything that turns one window into one network input with its ground truth. */
export interface SamplePlan {
  /** Position in the sampler's list of images. */
  image: number
  id: string
  /** Pixels to read, in the cached crop; inside it and never empty. */
  window: Rect
  /** Output pixel to window pixel, edge coordinates. */
  affine: Affine
  /** Displaces output places before `affine`; null: nothing moves. */
  elastic: Elastic | null
  /** Output pixel to full-resolution pixel of the whole source image, without the elastic displacement. */
  toImage: Affine
  /** Height and width of the output. */
  size: [number, number]
  reduce: number
  normalise: [number, number]
  intensity: [number, number, number, number]
  noiseSeed: number
  targets: Targets
  /** What was unusual: `scaled-lesion`, `little-breast`, `mirrored`. */
  notes: string[]
}

export interface PlannedBatch {
  /** Height and width of the canvas, multiples of `multiple`. */
  canvas: [number, number]
  /** Sample indices; `Sampler.plan(epoch, index)` gives each. */
  indices: number[]
}

export interface Sampler {
  /** Samples per epoch. */
  length: number
  counts: {
    images: number
    positive: number
    negative: number
    hard: number
    scaledLesions: number
    skippedLesions: number
  }
  images: readonly SamplerImage[]
  plan(epoch: number, index: number): SamplePlan
  /** Batches of one epoch. Samples of one batch share a canvas; shuffled by (seed, epoch), or in index order. */
  batches(epoch: number, batchSize: number, shuffle: boolean): PlannedBatch[]
}

type Item =
  | { kind: 'image'; image: number }
  | { kind: 'positive'; image: number; lesion: number }
  | { kind: 'negative' | 'hard'; image: number }

/** Batches of unequal images are formed among those whose canvases agree in steps of this many pixels. */
const BUCKET_PX = 512
/** Random positions tried before the exhaustive search for a window with enough breast. */
const TRIES = 64
/** Smallest share of a negative window that must be breast. */
const MIN_BREAST = 0.5
/** A lesion larger than the window gets a window of this many times its longer side. */
const LARGE_LESION_FACTOR = 1.25

/** Throws ConfigError for options that cannot be planned: the spacing rule without a known spacing. */
export function createSampler(images: readonly SamplerImage[], options: SamplerOptions): Sampler {
  const { strategy, seed, multiple, data, augment } = options
  const view = options.view ?? { mirrored: false, scale: 1 }
  const rules: TargetRules = {
    boxRule: augment?.boxRule ?? 'ellipse',
    minVisible: data.minVisible,
    minSidePx: data.minSidePx,
  }
  const scales = images.map((image) => view.scale * (strategy === 'resized' ? scaleOf(image, data.resize) : 1))
  const { items, counts } = strategy === 'crops' ? patchItems(images, data.patch) : wholeItems(images)

  const sizeOf = (item: Item): [number, number] => {
    if (item.kind !== 'image') return [data.patch.size, data.patch.size]
    const image = images[item.image]!
    const scale = scales[item.image]!
    return [Math.max(1, Math.round(image.height * scale)), Math.max(1, Math.round(image.width * scale))]
  }

  const plan = (epoch: number, index: number): SamplePlan => {
    const item = items[index]!
    const image = images[item.image]!
    const size = sizeOf(item)
    const [height, width] = size
    const notes: string[] = []
    const placed = placeItem(item, image, scales[item.image]!, epoch, index)
    notes.push(...placed.notes)
    const change: Augmentation =
      augment === null
        ? NO_AUGMENTATION
        : drawAugmentation(augment, width, height, randomStream(seed, 'augment', epoch, index))
    if (change.mirrored) notes.push('mirrored')
    const forward = compose(change.matrix, placed.forward)
    const backward = invert(forward)
    const shrink = 1 / Math.sqrt(Math.abs(determinant(forward)))
    const reduce = data.antialias && shrink > 2 ? Math.floor(Math.log2(shrink)) : 0
    const window = readWindow(backward, width, height, image, reduce, change.elastic?.amplitude ?? 0)
    const targets = lesionTargets(placed.lesions, forward, width, height, { ...rules, elastic: change.elastic })
    return {
      image: item.image,
      id: image.id,
      window,
      affine: compose(translation(-window[0], -window[1]), backward),
      elastic: change.elastic,
      toImage: compose(translation(...image.origin), backward),
      size,
      reduce,
      normalise: image.normalise,
      intensity: change.intensity,
      noiseSeed: change.noiseSeed,
      targets,
      notes,
    }
  }

  /** The unaugmented view: crop pixels to output pixels, and the lesions that may be labelled. */
  function placeItem(
    item: Item,
    image: SamplerImage,
    scale: number,
    epoch: number,
    index: number,
  ): { forward: Affine; lesions: readonly LabelledLesion[]; notes: string[] } {
    if (item.kind === 'image') {
      const [, width] = sizeOf(item)
      const forward = view.mirrored ? compose(translation(width, 0), scaling(-scale, scale)) : scaling(scale, scale)
      return { forward, lesions: image.lesions, notes: [] }
    }
    const random = randomStream(seed, 'window', data.patch.fresh ? epoch : 0, index)
    const place = data.patch.rule === 'msc' ? placeMsc : placeOurs
    const { x, y, side, lesions, notes } = place(item, image, data.patch.size, random)
    const s = data.patch.size / side
    return { forward: compose(scaling(s, s), translation(-x, -y)), lesions, notes }
  }

  const batches = (epoch: number, batchSize: number, shuffle: boolean): PlannedBatch[] => {
    const order = items.map((_, index) => index)
    if (shuffle) randomStream(seed, 'order', epoch).shuffle(order)
    const open = new Map<string, PlannedBatch>()
    const done: PlannedBatch[] = []
    for (const index of order) {
      const [height, width] = sizeOf(items[index]!)
      const canvas: [number, number] = [roundUp(height, multiple), roundUp(width, multiple)]
      const step = Math.max(BUCKET_PX, multiple)
      const key = `${Math.ceil(canvas[0] / step)}x${Math.ceil(canvas[1] / step)}`
      const batch = open.get(key) ?? { canvas: [0, 0], indices: [] }
      open.set(key, batch)
      batch.canvas = [Math.max(batch.canvas[0], canvas[0]), Math.max(batch.canvas[1], canvas[1])]
      batch.indices.push(index)
      if (batch.indices.length < batchSize) continue
      done.push(batch)
      open.delete(key)
    }
    return [...done, ...open.values()]
  }

  return { length: items.length, counts: { images: images.length, ...counts }, images, plan, batches }
}

/** Scale of whole-image training: `sides`: s = min/short, limited by max/long; `spacing`: source mm / wanted mm. */
export function scaleOf(
  image: Pick<SamplerImage, 'id' | 'width' | 'height' | 'spacingMm'>,
  resize: Config['data']['resize'],
): number {
  if (resize.rule === 'none') return 1
  if (resize.rule === 'sides') {
    const short = Math.min(image.width, image.height)
    const long = Math.max(image.width, image.height)
    const s = resize.minSide / short
    return s * long > resize.maxSide ? resize.maxSide / long : s
  }
  if (image.spacingMm === null || resize.spacingMm === null) {
    const message = `data.resize.rule is spacing, but image ${image.id} has no known pixel spacing`
    throw new ConfigError([{ key: 'data.resize.rule', message }])
  }
  return image.spacingMm / resize.spacingMm
}

function wholeItems(images: readonly SamplerImage[]): { items: Item[]; counts: Omit<Sampler['counts'], 'images'> } {
  const positive = images.filter(isPositive).length
  const counts = { positive, negative: images.length - positive, hard: 0, scaledLesions: 0, skippedLesions: 0 }
  return { items: images.map((_, image) => ({ kind: 'image', image })), counts }
}

function isPositive(image: SamplerImage): boolean {
  return image.lesions.some((lesion) => !lesion.ignore)
}

function patchItems(
  images: readonly SamplerImage[],
  patch: Config['data']['patch'],
): { items: Item[]; counts: Omit<Sampler['counts'], 'images'> } {
  const items: Item[] = []
  const counts = { positive: 0, negative: 0, hard: 0, scaledLesions: 0, skippedLesions: 0 }
  const add = (item: Item, times: number, kind: 'positive' | 'negative' | 'hard') => {
    for (let n = 0; n < times; n++) items.push(item)
    counts[kind] += times
  }
  for (const [image, { lesions }] of images.entries()) {
    for (const [lesion, { box, ignore }] of lesions.entries()) {
      if (ignore) continue
      const large = longerSide(box) > patch.size
      if (large && patch.rule === 'msc') counts.skippedLesions++
      else add({ kind: 'positive', image, lesion }, patch.positivesPerLesion, 'positive')
      if (large && patch.rule === 'ours') counts.scaledLesions++
    }
    if (lesions.length === 0) add({ kind: 'negative', image }, patch.negativesPerImage, 'negative')
    else if (isPositive(images[image]!)) add({ kind: 'hard', image }, patch.hardNegatives, 'hard')
  }
  return { items, counts }
}

/** Longer side of a box rounded outwards, so that integer windows can contain it. */
function longerSide([x1, y1, x2, y2]: readonly [number, number, number, number]): number {
  return Math.max(Math.ceil(x2) - Math.floor(x1), Math.ceil(y2) - Math.floor(y1))
}

interface Placement {
  x: number
  y: number
  side: number
  lesions: readonly LabelledLesion[]
  notes: string[]
}

/** Integer in [low, high], both ends included; `low` when the range is empty. */
function between(low: number, high: number, random: RandomStream): number {
  return low + random.integer(Math.max(low, high) - low + 1)
}

/** Our windows: inside the image, the whole lesion in them, every lesion labelled; negatives on at least half breast. */
function placeOurs(item: Item, image: SamplerImage, size: number, random: RandomStream): Placement {
  const { lesions } = image
  if (item.kind === 'positive') {
    const { box } = lesions[item.lesion]!
    const longer = longerSide(box)
    const side = longer > size ? Math.ceil(LARGE_LESION_FACTOR * longer) : size
    const x = between(Math.max(0, Math.ceil(box[2]) - side), Math.min(Math.floor(box[0]), image.width - side), random)
    const y = between(Math.max(0, Math.ceil(box[3]) - side), Math.min(Math.floor(box[1]), image.height - side), random)
    return { x, y, side, lesions, notes: side > size ? ['scaled-lesion'] : [] }
  }
  const maxX = Math.max(0, image.width - size)
  const maxY = Math.max(0, image.height - size)
  const meets = (x: number, y: number) =>
    lesions.some(({ box }) => box[0] < x + size && box[2] > x && box[1] < y + size && box[3] > y)
  for (let n = 0; n < TRIES; n++) {
    const x = between(0, maxX, random)
    const y = between(0, maxY, random)
    if (coverage(image.tissue, x, y, size) >= MIN_BREAST && !meets(x, y))
      return { x, y, side: size, lesions, notes: [] }
  }
  // No luck: the position with most breast, lesion-free ones first, on a grid of the mask's cells.
  let best = { x: 0, y: 0, free: false, breast: -1 }
  const step = image.tissue.cell
  for (let y = 0; y <= maxY; y = y < maxY ? Math.min(maxY, y + step) : maxY + 1) {
    for (let x = 0; x <= maxX; x = x < maxX ? Math.min(maxX, x + step) : maxX + 1) {
      const breast = coverage(image.tissue, x, y, size)
      const free = !meets(x, y)
      if (free === best.free ? breast > best.breast : free) best = { x, y, free, breast }
    }
  }
  const notes = best.breast < MIN_BREAST ? ['little-breast'] : []
  return { x: best.x, y: best.y, side: size, lesions, notes }
}

/**
 * The MSc project's windows: corner uniform in [0,x1] x [0,y1] until the mass is inside, zeros beyond the border, only that
 * mass labelled; negatives at fixed places on the breast's side (retinanet spec 4).
 */
function placeMsc(item: Item, image: SamplerImage, size: number, random: RandomStream): Placement {
  if (item.kind === 'positive') {
    const lesion = image.lesions[item.lesion]!
    const [x1, y1, x2, y2] = lesion.box
    // Redrawing until x + size >= x2 is the same as drawing from the positions that satisfy it.
    const x = between(Math.max(0, Math.ceil(x2) - size), Math.floor(x1), random)
    const y = between(Math.max(0, Math.ceil(y2) - size), Math.floor(y1), random)
    return { x, y, side: size, lesions: [lesion], notes: [] }
  }
  const right = (image.laterality ?? heavierSide(image)) === 'R'
  const { width, height } = image
  const x = right ? between(width - 50, width, random) - size : between(0, 500, random)
  const y = right ? between(height - 1000, height - 500, random) - size : between(600, Math.floor(height / 2), random)
  return { x, y, side: size, lesions: [], notes: [] }
}

/** The side of the image where the breast touches the edge: R breasts lie at the right edge. */
function heavierSide(image: SamplerImage): 'L' | 'R' {
  const { width, height, tissue } = image
  const strip = width / 10
  return coverage(tissue, 0, 0, strip, height) >= coverage(tissue, width - strip, 0, strip, height) ? 'L' : 'R'
}

/**
 * Pixels of the image that an output of `width` x `height` touches when its places move by up to `reach` pixels, with the neighbours
 * that bilinear sampling needs;
 * corners at multiples of the averaging block, so that the blocks are those of the whole image.
 */
function readWindow(
  backward: Affine,
  width: number,
  height: number,
  image: SamplerImage,
  reduce: number,
  reach: number,
): Rect {
  const block = 2 ** reduce
  const corners = [
    applyToPoint(backward, -reach, -reach),
    applyToPoint(backward, width + reach, -reach),
    applyToPoint(backward, -reach, height + reach),
    applyToPoint(backward, width + reach, height + reach),
  ]
  const xs = corners.map(([x]) => x)
  const ys = corners.map(([, y]) => y)
  const low = (values: number[], limit: number) =>
    Math.max(0, Math.min(limit - 1, (Math.floor(Math.min(...values) / block) - 1) * block))
  const high = (values: number[], limit: number, from: number) =>
    Math.max(from + 1, Math.min(limit, (Math.ceil(Math.max(...values) / block) + 1) * block))
  const x1 = low(xs, image.width)
  const y1 = low(ys, image.height)
  return [x1, y1, high(xs, image.width, x1), high(ys, image.height, y1)]
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple
}
