// Thresholds one could work at, and what happens there: for each number of false positives per image the lowest threshold that keeps it, with
// sensitivity, precision and the calls per image, breast and patient. Choose the threshold on validation data, state it on test data.
import { type BootstrapOptions, bootstrapValues, percentileIntervals } from './bootstrap.js'
import { type FalsePositiveImages, type FrocEvents, falsePositiveImages, thresholdAt } from './froc.js'
import { type Reading, type ReadingPoint, type ReadingUnit, readAt } from './reading.js'
import type { Interval } from './types.js'

export interface OperatingPoint {
  /** The requested limit; null for a threshold that was given. */
  fppi: number | null
  /** null: no threshold keeps the limit. */
  threshold: number | null
  found: number
  lesions: number
  sensitivity: number | null
  falsePositives: number
  falsePositivesPerImage: number | null
  /** Found lesions over found lesions and false positives. */
  precision: number | null
  readings: Partial<Record<ReadingUnit, ReadingPoint>>
}

/** What happens at one threshold: detections with score >= threshold count. */
export function operatingPoint(
  events: FrocEvents,
  threshold: number,
  readings: readonly Reading[] = [],
  where: FalsePositiveImages = 'all',
): OperatingPoint {
  const lesions = events.lesionScore.length
  const found = events.lesionScore.filter((score) => score >= threshold).length
  let falsePositives = 0
  events.falseScore.forEach((score, i) => {
    if (score >= threshold && (where === 'all' || events.massFree[events.falseImage[i]!])) falsePositives++
  })
  const images = falsePositiveImages(events, where)
  return {
    fppi: null,
    threshold,
    found,
    lesions,
    sensitivity: lesions === 0 ? null : found / lesions,
    falsePositives,
    falsePositivesPerImage: images === 0 ? null : falsePositives / images,
    precision: found + falsePositives === 0 ? null : found / (found + falsePositives),
    readings: Object.fromEntries(readings.map((reading) => [reading.unit, readAt(reading, threshold)])),
  }
}

/** One row per limit of false positives per image. */
export function operatingPoints(
  events: FrocEvents,
  fppi: readonly number[],
  readings: readonly Reading[] = [],
  where: FalsePositiveImages = 'all',
): OperatingPoint[] {
  return fppi.map((limit) => {
    const threshold = thresholdAt(events, limit, where)
    const point = operatingPoint(events, threshold ?? Number.POSITIVE_INFINITY, readings, where)
    return { ...point, fppi: limit, threshold }
  })
}

/**
 * Intervals of the sensitivity at fixed thresholds, by resampling patients. `patientOfImage` gives the patient of each image of the events.
 * A draw without lesions is drawn again; null where there are no lesions at all.
 */
export function sensitivityIntervals(
  events: FrocEvents,
  thresholds: readonly number[],
  patientOfImage: Int32Array,
  options: Omit<BootstrapOptions, 'accept'>,
): (Interval | null)[] {
  const patients = patientOfImage.reduce((most, patient) => Math.max(most, patient + 1), 0)
  const lesions = new Float64Array(patients)
  const found = thresholds.map(() => new Float64Array(patients))
  events.lesionScore.forEach((score, i) => {
    const patient = patientOfImage[events.lesionImage[i]!]!
    lesions[patient]! += 1
    thresholds.forEach((threshold, t) => {
      if (score >= threshold) found[t]![patient]! += 1
    })
  })
  const weighted = (counts: Float64Array, weights: Float64Array) =>
    counts.reduce((sum, n, p) => sum + n * weights[p]!, 0)
  const rows = bootstrapValues(
    patients,
    (weights) => {
      const all = weighted(lesions, weights)
      return Float64Array.from(found, (counts) => weighted(counts, weights) / all)
    },
    { ...options, accept: (weights) => weighted(lesions, weights) > 0 },
  )
  const intervals = percentileIntervals(rows, options.level)
  return thresholds.map((_, t) => intervals[t] ?? null)
}
