// Reads detections as a yes-or-no question per image, breast or patient: the score of a unit is that of its best detection, a unit is positive
// when it holds a lesion. Area under the ROC curve, and sensitivity and specificity at a threshold. It does not look where a detection is.
import type { DetectionsByImage, Groups, ImageTruth } from './types.js'

export type ReadingUnit = 'image' | 'breast' | 'patient'

export interface Reading {
  unit: ReadingUnit
  names: string[]
  /** Best score; -Infinity without detections. */
  score: Float64Array
  positive: Uint8Array
  /** Patient of each unit, for resampling. */
  patient: Int32Array
}

export function readUnits(
  truth: readonly ImageTruth[],
  detections: DetectionsByImage,
  groups: Groups,
  unit: ReadingUnit,
): Reading {
  const of =
    unit === 'patient' ? groups.patient : unit === 'breast' ? groups.breast : Int32Array.from(truth, (_, i) => i)
  const names =
    unit === 'patient' ? groups.patients : unit === 'breast' ? groups.breasts : truth.map((image) => image.id)
  const score = new Float64Array(names.length).fill(Number.NEGATIVE_INFINITY)
  const positive = new Uint8Array(names.length)
  const patient = new Int32Array(names.length)
  for (const [i, image] of truth.entries()) {
    const at = of[i]!
    patient[at] = groups.patient[i]!
    for (const d of detections.get(image.id) ?? []) if (d.score > score[at]!) score[at] = d.score
    if (image.boxes.some((box) => !box.ignore)) positive[at] = 1
  }
  return { unit, names, score, positive, patient }
}

/** Prepares `weights of the units -> area under the ROC curve`, ties counting half; NaN when a side is empty. */
export function weightedAuc(reading: Reading): (patientWeights: Float64Array) => number {
  const order = Int32Array.from(reading.score, (_, i) => i).sort((a, b) =>
    reading.score[a]! < reading.score[b]! ? -1 : reading.score[a]! > reading.score[b]! ? 1 : a - b,
  )
  return (patientWeights) => {
    let negatives = 0
    let positives = 0
    let pairs = 0
    let p = 0
    while (p < order.length) {
      const score = reading.score[order[p]!]!
      let tiedNegatives = 0
      let tiedPositives = 0
      while (p < order.length && reading.score[order[p]!] === score) {
        const unit = order[p++]!
        const weight = patientWeights[reading.patient[unit]!]!
        if (reading.positive[unit]) tiedPositives += weight
        else tiedNegatives += weight
      }
      pairs += tiedPositives * (negatives + tiedNegatives / 2)
      negatives += tiedNegatives
      positives += tiedPositives
    }
    return pairs / (positives * negatives)
  }
}

export interface ReadingPoint {
  /** null without positive units. */
  sensitivity: number | null
  /** null without negative units. */
  specificity: number | null
}

/** Units with score >= threshold are called positive. */
export function readAt(reading: Reading, threshold: number): ReadingPoint {
  const n = [0, 0]
  const called = [0, 0]
  reading.positive.forEach((truth, i) => {
    n[truth]! += 1
    if (reading.score[i]! >= threshold) called[truth]! += 1
  })
  return {
    sensitivity: n[1] === 0 ? null : called[1]! / n[1]!,
    specificity: n[0] === 0 ? null : 1 - called[0]! / n[0]!,
  }
}
