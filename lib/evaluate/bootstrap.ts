// Confidence intervals by resampling patients with replacement: images and breasts of one patient are never independent. Percentile method
// (Efron and Tibshirani, An Introduction to the Bootstrap, 1993). Deterministic by seed; draw d does not depend on the number of draws.
import { randomStream } from '../random.js'
import type { Interval } from './types.js'

export interface BootstrapOptions {
  /** Resamples; 0 gives no intervals. */
  draws: number
  seed: number
  /** Coverage, such as 0.95. */
  level?: number
  /** A draw with `accept` false is drawn again (such as one without masses). */
  accept?: (patientWeights: Float64Array) => boolean
}

/** Redraws of one draw before giving up: by then the data hold almost no acceptable draw. */
const MAX_REDRAWS = 1000

/**
 * Values of a statistic over resampled patients: [draws][values]. `statistic` is handed how often each patient was drawn (the array is reused)
 * and returns its values, NaN where undefined. Returns no rows when no acceptable draw exists.
 */
export function bootstrapValues(
  patients: number,
  statistic: (patientWeights: Float64Array) => Float64Array,
  options: BootstrapOptions,
): Float64Array[] {
  const rows: Float64Array[] = []
  if (patients === 0) return rows
  const weights = new Float64Array(patients)
  for (let draw = 0; draw < options.draws; draw++) {
    const random = randomStream(options.seed, 'bootstrap', draw)
    let tries = 0
    do {
      if (tries++ > MAX_REDRAWS) return []
      weights.fill(0)
      for (let i = 0; i < patients; i++) {
        const drawn = random.integer(patients)
        weights[drawn] = weights[drawn]! + 1
      }
    } while (options.accept !== undefined && !options.accept(weights))
    rows.push(Float64Array.from(statistic(weights)))
  }
  return rows
}

/** Percentile interval of each value; null where fewer than half of the draws define it. */
export function percentileIntervals(rows: readonly Float64Array[], level = 0.95): (Interval | null)[] {
  const values = rows[0]?.length ?? 0
  return Array.from({ length: values }, (_, v) => {
    const sorted = Float64Array.from(rows.map((row) => row[v]!).filter((value) => !Number.isNaN(value))).sort()
    if (sorted.length * 2 < rows.length || sorted.length < 2) return null
    return { low: quantile(sorted, (1 - level) / 2), high: quantile(sorted, (1 + level) / 2) }
  })
}

/** Quantile of ascending numbers by linear interpolation between order statistics (numpy's default). */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  const place = q * (sorted.length - 1)
  const below = Math.floor(place)
  const low = sorted[below]!
  const high = sorted[Math.min(below + 1, sorted.length - 1)]!
  return low + (high - low) * (place - below)
}

/** Spreads patient weights to images. */
export function imageWeights(
  patientWeights: Float64Array,
  patientOfImage: Int32Array,
  out: Float64Array,
): Float64Array {
  for (let i = 0; i < patientOfImage.length; i++) out[i] = patientWeights[patientOfImage[i]!]!
  return out
}
