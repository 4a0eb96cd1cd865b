// Scores as probabilities: a logistic regression on the logit of the score, with the targets that Platt recommends against certainty from
// few examples. Judges nothing: it is handed the scores of hits and of false positives. Method: Platt, "Probabilistic outputs for support
// vector machines", 1999; Newton's method with halved steps as in Lin, Lin and Weng, 2007.
import type { FrocEvents } from './froc.js'

export interface LogisticCalibration {
  /** probability = 1 / (1 + exp(-(slope * logit(score) + offset))) */
  slope: number
  offset: number
  hits: number
  falsePositives: number
}

/** Scores this close to 0 or 1 count as these. */
const EDGE = 1e-7
const STEPS = 100

/**
 * The found lesions of FROC, each by its best detection, against the false positives. Null without any of the two, and where a higher
 * score does not mean a higher probability: then the scores say nothing that could be calibrated.
 */
export function calibrateEvents({ lesionScore, falseScore }: FrocEvents): LogisticCalibration | null {
  return fitLogistic(
    [...lesionScore].filter((score) => score > Number.NEGATIVE_INFINITY),
    [...falseScore],
  )
}

/** The fit of largest likelihood to scores in 0..1; null as `calibrateEvents` says. */
export function fitLogistic(hits: readonly number[], falsePositives: readonly number[]): LogisticCalibration | null {
  if (hits.length === 0 || falsePositives.length === 0) return null
  const logit = (score: number) => {
    const bounded = Math.min(Math.max(score, EDGE), 1 - EDGE)
    return Math.log(bounded / (1 - bounded))
  }
  const x = Float64Array.from([...hits, ...falsePositives], logit)
  const [high, low] = [(hits.length + 1) / (hits.length + 2), 1 / (falsePositives.length + 2)]
  const target = (i: number) => (i < hits.length ? high : low)
  /** Cross-entropy, without overflow. */
  const cost = (slope: number, offset: number) => {
    let sum = 0
    for (const [i, value] of x.entries()) {
      const z = slope * value + offset
      sum += Math.max(z, 0) - z * target(i) + Math.log1p(Math.exp(-Math.abs(z)))
    }
    return sum
  }
  let slope = 0
  let offset = Math.log((hits.length + 1) / (falsePositives.length + 1))
  let best = cost(slope, offset)
  for (let step = 0; step < STEPS; step++) {
    let [gs, go, hss, hso, hoo] = [0, 0, 1e-12, 0, 1e-12]
    for (const [i, value] of x.entries()) {
      const p = 1 / (1 + Math.exp(-(slope * value + offset)))
      const [d, w] = [p - target(i), p * (1 - p)]
      gs += d * value
      go += d
      hss += w * value * value
      hso += w * value
      hoo += w
    }
    const determinant = hss * hoo - hso * hso
    if (!(determinant > 0) || Math.hypot(gs, go) < 1e-9 * x.length) break
    const [ds, dof] = [(hoo * gs - hso * go) / determinant, (hss * go - hso * gs) / determinant]
    let part = 1
    let next = cost(slope - ds, offset - dof)
    for (; next > best && part > 1e-10; part /= 2) next = cost(slope - (part / 2) * ds, offset - (part / 2) * dof)
    if (next >= best) break
    slope -= part * ds
    offset -= part * dof
    best = next
  }
  return slope > 0 ? { slope, offset, hits: hits.length, falsePositives: falsePositives.length } : null
}
