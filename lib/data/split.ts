// Divides images into train, val and test, or into k folds, so that no patient is in two parts and masses, images and
// density are balanced (datasets spec 4.6). Pure and deterministic by seed; it does not look for copies (leak.ts does).
import { createHash } from 'node:crypto'
import { UsageError } from '../errors.js'
import { SPLITS, type SplitHint } from './types.js'

export const PARTS = SPLITS
export type Part = SplitHint

/** Image ids of each part, sorted. */
export type Fold = Record<Part, string[]>

/** What a split needs to know of an image. */
export interface SplitImage {
  id: string
  patient: string
  split: Part | null
  density: string | null
  /** Number of lesions of the trained classes. */
  lesions: number
  /** False: unknown content, in no part. */
  annotated: boolean
}

export type SplitMethod = 'holdout' | 'kfold' | 'official' | 'image-wise'

export interface Split {
  schema: 'mammo-retinanet/split@1'
  method: SplitMethod
  seed: number
  /** Shares of train, val, test; of a k-fold split null. */
  ratio: [number, number, number] | null
  folds: Fold[]
  /** Images in no part: without annotation, or excluded. */
  unused: string[]
}

export interface SplitOptions {
  /** `official` keeps the source's parts and cuts a missing val from train; default when the source has parts. */
  method?: SplitMethod
  seed?: number
  /** Train, val, test; default 0.7, 0.15, 0.15. */
  ratio?: [number, number, number]
  /** K of kfold; default 5. */
  folds?: number
  /** Properties that are balanced beside the number of images; default both. */
  stratify?: ('mass' | 'density')[]
  /** Ids of images that shall be in no part. */
  exclude?: ReadonlySet<string>
}

interface Group {
  key: string
  hash: string
  images: SplitImage[]
  lesions: number
  densities: Map<string, number>
}

/** Splits the images. Throws UsageError ARGUMENT on impossible ratios, too few patients for k, or an official split without parts. */
export function splitImages(images: readonly SplitImage[], options: SplitOptions = {}): Split {
  const method = options.method ?? (images.some((image) => image.split !== null) ? 'official' : 'holdout')
  const seed = options.seed ?? 0
  const ratio = options.ratio ?? [0.7, 0.15, 0.15]
  if (
    ratio.length !== 3 ||
    ratio.some((share) => !(share >= 0)) ||
    Math.abs(ratio[0] + ratio[1] + ratio[2] - 1) > 1e-6
  ) {
    throw new UsageError('ARGUMENT', `expected --ratio as three shares >= 0 that add up to 1, got ${ratio.join(',')}`)
  }
  const stratify = options.stratify ?? ['mass', 'density']
  const out = (image: SplitImage) => !image.annotated || options.exclude?.has(image.id) === true
  const used = images.filter((image) => !out(image))
  const folds = makeFolds(method, used, seed, ratio, options.folds ?? 5, stratify)
  const unused = images.filter(out).map((image) => image.id)
  return {
    schema: 'mammo-retinanet/split@1',
    method,
    seed,
    ratio: method === 'kfold' ? null : ratio,
    folds: folds.map(sortFold),
    unused: unused.sort(),
  }
}

function makeFolds(
  method: SplitMethod,
  images: readonly SplitImage[],
  seed: number,
  ratio: [number, number, number],
  k: number,
  stratify: readonly string[],
): Fold[] {
  if (method === 'kfold') {
    const groups = groupByPatient(images, seed)
    // One fold is for the test, the next for validation: with two, nothing would be left to train on.
    if (!Number.isInteger(k) || k < 3 || groups.length < k) {
      const range = groups.length < 3 ? 'at least 3 patients for a k-fold split' : `3 to ${groups.length} folds`
      throw new UsageError('ARGUMENT', `expected ${range} (each at least one patient), got ${k} folds`)
    }
    const parts = distribute(groups, new Array<number>(k).fill(1 / k), stratify)
    return parts.map((_, fold) => {
      const val = (fold + 1) % k
      const train = parts.flatMap((ids, part) => (part === fold || part === val ? [] : ids))
      return { train, val: [...parts[val]!], test: [...parts[fold]!] }
    })
  }
  if (method === 'image-wise') return [splitImageWise(images, seed, ratio)]
  if (method === 'official') return [splitOfficial(images, seed, ratio, stratify)]
  const [train, val, test] = distribute(groupByPatient(images, seed), ratio, stratify)
  return [{ train: train!, val: val!, test: test! }]
}

/** Keeps the source's parts (test, then val, wins for a patient that has several) and cuts a missing val from train by patient. */
function splitOfficial(
  images: readonly SplitImage[],
  seed: number,
  ratio: [number, number, number],
  stratify: readonly string[],
): Fold {
  if (images.every((image) => image.split === null)) {
    throw new UsageError('ARGUMENT', 'expected a dataset that comes with its own parts for method official, got none')
  }
  const fold: Fold = { train: [], val: [], test: [] }
  const rest: Group[] = []
  for (const group of groupByPatient(images, seed)) {
    const hints = new Set(group.images.map((image) => image.split))
    const ids = group.images.map((image) => image.id)
    if (hints.has('test')) fold.test.push(...ids)
    else if (hints.has('val')) fold.val.push(...ids)
    else rest.push(group)
  }
  const parts: Part[] = ['train']
  if (fold.val.length === 0 && ratio[1] > 0) parts.push('val')
  if (fold.test.length === 0 && ratio[2] > 0) parts.push('test')
  const shares = parts.map((part) => ratio[PARTS.indexOf(part)]!)
  const total = shares.reduce((sum, share) => sum + share, 0)
  const ids = distribute(
    rest,
    shares.map((share) => share / total),
    stratify,
  )
  for (const [n, part] of parts.entries()) fold[part].push(...ids[n]!)
  return fold
}

/** The MSc project's way, for comparison only: images are shuffled one by one, so a patient's images land in several parts. */
function splitImageWise(images: readonly SplitImage[], seed: number, ratio: [number, number, number]): Fold {
  const order = images.map((image) => ({ id: image.id, hash: keyedHash(seed, image.id) }))
  order.sort((a, b) => compare(a.hash, b.hash))
  const ids = order.map((image) => image.id)
  const train = Math.round(ids.length * ratio[0])
  const val = Math.min(ids.length, train + Math.round(ids.length * ratio[1]))
  return { train: ids.slice(0, train), val: ids.slice(train, val), test: ids.slice(val) }
}

function groupByPatient(images: readonly SplitImage[], seed: number): Group[] {
  const groups = new Map<string, Group>()
  for (const image of images) {
    let group = groups.get(image.patient)
    if (group === undefined) {
      group = {
        key: image.patient,
        hash: keyedHash(seed, image.patient),
        images: [],
        lesions: 0,
        densities: new Map(),
      }
      groups.set(image.patient, group)
    }
    group.images.push(image)
    group.lesions += image.lesions
    if (image.density !== null) group.densities.set(image.density, (group.densities.get(image.density) ?? 0) + 1)
  }
  return [...groups.values()].sort(
    (a, b) => b.lesions - a.lesions || b.images.length - a.images.length || compare(a.hash, b.hash),
  )
}

/**
 * Puts each group (largest first) into the part whose relative filling would be lowest: weight 2 for lesions, 1 for images,
 * 0.5 for the group's density classes. Groups without lesions look at images and density only. Returns ids per part.
 */
function distribute(groups: readonly Group[], shares: readonly number[], stratify: readonly string[]): string[][] {
  const total = { lesions: 0, images: 0, densities: new Map<string, number>() }
  for (const group of groups) {
    total.lesions += group.lesions
    total.images += group.images.length
    for (const [density, count] of group.densities) {
      total.densities.set(density, (total.densities.get(density) ?? 0) + count)
    }
  }
  const parts = shares.map((share) => ({
    share,
    ids: [] as string[],
    lesions: 0,
    densities: new Map<string, number>(),
  }))
  for (const group of groups) {
    let best = -1
    let bestFill = Infinity
    for (const [n, part] of parts.entries()) {
      if (part.share === 0) continue
      let fill = (part.ids.length + group.images.length) / (part.share * total.images)
      if (stratify.includes('mass') && group.lesions > 0) {
        fill += (2 * (part.lesions + group.lesions)) / (part.share * total.lesions)
      }
      if (stratify.includes('density') && group.densities.size > 0) {
        let sum = 0
        for (const [density, count] of group.densities) {
          sum += ((part.densities.get(density) ?? 0) + count) / (part.share * total.densities.get(density)!)
        }
        fill += (0.5 * sum) / group.densities.size
      }
      if (fill < bestFill) {
        bestFill = fill
        best = n
      }
    }
    const part = parts[best]!
    part.ids.push(...group.images.map((image) => image.id))
    part.lesions += group.lesions
    for (const [density, count] of group.densities) {
      part.densities.set(density, (part.densities.get(density) ?? 0) + count)
    }
  }
  return parts.map((part) => part.ids)
}

/** Per part: images, patients, images with lesions, lesions. For the table that `data split` prints. */
export function partCounts(
  fold: Fold,
  images: readonly SplitImage[],
): Record<Part, { images: number; patients: number; positive: number; lesions: number }> {
  const byId = new Map(images.map((image) => [image.id, image]))
  const count = (ids: readonly string[]) => {
    const members = ids.map((id) => byId.get(id)!)
    return {
      images: ids.length,
      patients: new Set(members.map((image) => image.patient)).size,
      positive: members.filter((image) => image.lesions > 0).length,
      lesions: members.reduce((sum, image) => sum + image.lesions, 0),
    }
  }
  return { train: count(fold.train), val: count(fold.val), test: count(fold.test) }
}

function sortFold(fold: Fold): Fold {
  return { train: fold.train.sort(), val: fold.val.sort(), test: fold.test.sort() }
}

function keyedHash(seed: number, text: string): string {
  return createHash('sha256').update(`${seed}:${text}`).digest('hex')
}

/** Order by code units, the same on every machine (localeCompare is not). */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
