// Mean of a few repeats (folds, seeds) with Student's 95 % interval. It tells the spread of repeats; patients are resampled elsewhere
// (lib/evaluate/bootstrap.ts).

export interface MeanEstimate {
  /** null without values. */
  mean: number | null
  /** Sample standard deviation; null below two values. */
  deviation: number | null
  /** null below two values. */
  interval: [number, number] | null
  /** Values that were defined. */
  n: number
}

/** 0.975 quantiles of Student's t for 1 to 30 degrees of freedom. */
const STUDENT = [
  12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.306, 2.2622, 2.2281, 2.201, 2.1788, 2.1604, 2.1448, 2.1314,
  2.1199, 2.1098, 2.1009, 2.093, 2.086, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
]

/** Mean of the defined values; null and NaN are left out and show in `n`. */
export function meanInterval(values: readonly (number | null)[]): MeanEstimate {
  const known = values.filter((value) => value !== null && Number.isFinite(value)) as number[]
  const n = known.length
  if (n === 0) return { mean: null, deviation: null, interval: null, n }
  const mean = known.reduce((sum, value) => sum + value, 0) / n
  if (n === 1) return { mean, deviation: null, interval: null, n }
  const deviation = Math.sqrt(known.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1))
  // Beyond the table the normal quantile with its first correction is right to three digits.
  const t = STUDENT[n - 2] ?? 1.95996 + 2.3722 / (n - 1)
  const half = (t * deviation) / Math.sqrt(n)
  return { mean, deviation, interval: [mean - half, mean + half], n }
}
