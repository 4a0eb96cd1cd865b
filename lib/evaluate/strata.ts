// Sensitivity within groups of lesions: by size in mm, breast density, view, class. The thresholds come from all images together, so that the
// groups are read at one common operating point. It computes no new curve.
import type { FrocEvents } from './froc.js'
import type { ImageTruth, Interval, TruthBox } from './types.js'

export interface Stratum {
  name: string
  lesions: number
  images: number
  /** One per threshold: share of the stratum's lesions found; null without lesions. */
  sensitivity: (number | null)[]
  /** Of the sensitivities, at the same thresholds; null where not asked for or undefined. */
  intervals: (Interval | null)[]
  found: number[]
  /** False positives per image of the images of the stratum; null for groups of lesions rather than of images. */
  falsePositivesPerImage: (number | null)[] | null
}

export type StratumOf = (image: ImageTruth, lesion: TruthBox) => string

/** Names such as `10-20 mm` for the longest side; `unknown` without pixel spacing. */
export function sizeStratum(edgesMm: readonly number[]): StratumOf {
  return (_, { sizeMm }) => {
    if (sizeMm === undefined || sizeMm === null) return 'unknown'
    const above = edgesMm.filter((edge) => sizeMm >= edge).length
    if (above === 0) return `under ${edgesMm[0]} mm`
    if (above === edgesMm.length) return `from ${edgesMm.at(-1)} mm`
    return `${edgesMm[above - 1]}-${edgesMm[above]} mm`
  }
}

/** Lesions grouped by `of`, in order of first appearance after `order`. A null threshold finds nothing. */
export function strata(
  truth: readonly ImageTruth[],
  events: FrocEvents,
  thresholds: readonly (number | null)[],
  of: StratumOf,
  order: readonly string[] = [],
): Stratum[] {
  const groups = new Map<string, { scores: number[]; images: Set<number> }>(
    order.map((name) => [name, { scores: [], images: new Set() }]),
  )
  events.lesionScore.forEach((score, i) => {
    const position = events.lesionImage[i]!
    const image = truth[position]!
    const name = of(image, image.boxes[events.lesionBox[i]!]!)
    const group = groups.get(name) ?? { scores: [], images: new Set() }
    groups.set(name, group)
    group.scores.push(score)
    group.images.add(position)
  })
  return [...groups].map(([name, { scores, images }]): Stratum => {
    const found = thresholds.map((threshold) =>
      threshold === null ? 0 : scores.filter((score) => score >= threshold).length,
    )
    return {
      name,
      lesions: scores.length,
      images: images.size,
      found,
      sensitivity: found.map((n) => (scores.length === 0 ? null : n / scores.length)),
      intervals: found.map(() => null),
      falsePositivesPerImage: null,
    }
  })
}

/**
 * Prepares `weights of the images -> sensitivities` of named groups, [names][thresholds]: an image of weight w counts w times. The thresholds stay those
 * that were read from the whole data. NaN where a group has no (weighted) lesion.
 */
export function weightedStrata(
  truth: readonly ImageTruth[],
  events: FrocEvents,
  thresholds: readonly (number | null)[],
  of: StratumOf,
  names: readonly string[],
): (weights: Float64Array) => Float64Array {
  const group = Int32Array.from(events.lesionImage, (position, i) => {
    const image = truth[position]!
    return names.indexOf(of(image, image.boxes[events.lesionBox[i]!]!))
  })
  const columns = thresholds.length
  return (weights) => {
    const found = new Float64Array(names.length * columns)
    const lesions = new Float64Array(names.length)
    events.lesionScore.forEach((score, i) => {
      const at = group[i]!
      const weight = weights[events.lesionImage[i]!]!
      lesions[at]! += weight
      thresholds.forEach((threshold, k) => {
        if (threshold !== null && score >= threshold) found[at * columns + k]! += weight
      })
    })
    return found.map((value, k) => value / lesions[Math.floor(k / columns)]!)
  }
}

/** Groups of images (view, density): their lesions and their false positives per image. */
export function imageStrata(
  truth: readonly ImageTruth[],
  events: FrocEvents,
  thresholds: readonly (number | null)[],
  of: (image: ImageTruth) => string,
): Stratum[] {
  const names = truth.map(of)
  const order = [...new Set(names)].sort()
  return strata(truth, events, thresholds, of, order).map((stratum) => {
    const images = names.filter((name) => name === stratum.name).length
    const falsePositivesPerImage = thresholds.map((threshold) => {
      if (threshold === null) return 0
      let count = 0
      events.falseScore.forEach((score, i) => {
        if (score >= threshold && names[events.falseImage[i]!] === stratum.name) count++
      })
      return count / images
    })
    return { ...stratum, images, falsePositivesPerImage }
  })
}
