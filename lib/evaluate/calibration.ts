// How far scores are probabilities: reliability bins and the expected calibration error of detections, each judged hit or not at a named
// criterion. It recalibrates nothing. Method: Guo et al., "On calibration of modern neural networks", 2017.

export interface CalibrationBin {
  low: number
  high: number
  count: number
  /** Mean score; null in an empty bin. */
  confidence: number | null
  /** Share of hits. */
  precision: number | null
}

export interface Calibration {
  bins: CalibrationBin[]
  /** Mean |precision - confidence| weighted by count; null without detections. */
  expectedError: number | null
  maximumError: number | null
}

/** `scores` in 0..1; `hits` 1 for a true positive. Bins are equally wide; the last includes 1. */
export function calibrate(scores: ArrayLike<number>, hits: ArrayLike<number>, bins = 10): Calibration {
  const count = new Float64Array(bins)
  const score = new Float64Array(bins)
  const hit = new Float64Array(bins)
  for (let i = 0; i < scores.length; i++) {
    const s = scores[i]!
    if (!(s >= 0 && s <= 1)) throw new RangeError(`calibrate expects scores in 0..1, got ${s}`)
    const bin = Math.min(bins - 1, Math.floor(s * bins))
    count[bin]! += 1
    score[bin]! += s
    hit[bin]! += hits[i]!
  }
  const table = Array.from(
    count,
    (n, i): CalibrationBin => ({
      low: i / bins,
      high: (i + 1) / bins,
      count: n,
      confidence: n === 0 ? null : score[i]! / n,
      precision: n === 0 ? null : hit[i]! / n,
    }),
  )
  const filled = table.filter((bin) => bin.count > 0)
  const gap = (bin: CalibrationBin) => Math.abs(bin.precision! - bin.confidence!)
  return {
    bins: table,
    expectedError:
      filled.length === 0 ? null : filled.reduce((sum, bin) => sum + (bin.count / scores.length) * gap(bin), 0),
    maximumError: filled.length === 0 ? null : Math.max(...filled.map(gap)),
  }
}
