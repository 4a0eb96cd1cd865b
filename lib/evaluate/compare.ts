// Is one model better than another on the same images? Lesions are compared by a paired bootstrap of patients (both models see the same draw),
// patients by McNemar's exact test on the discordant pairs. It corrects for no multiple testing.
import { type BootstrapOptions, bootstrapValues, imageWeights, percentileIntervals } from './bootstrap.js'
import { type Credit, type Criterion, frocEvents, sensitivities, thresholdAt, weightedFroc } from './froc.js'
import { type DetectionsByImage, groupImages, type ImageTruth, type Interval } from './types.js'
import { vocAp } from './voc-ap.js'
import { definedMean, judgedClasses, weightedAp } from './weighted-ap.js'

export interface PairedDifference {
  a: number | null
  b: number | null
  /** b - a */
  difference: number | null
  interval: Interval | null
  /** Two-sided, from the share of draws on either side of 0; null without draws. */
  p: number | null
}

export interface McNemar {
  /** Found by a only, by b only. */
  onlyA: number
  onlyB: number
  both: number
  neither: number
  p: number
}

export interface Comparison {
  /** keras-retinanet's mean AP. */
  ap: PairedDifference
  lesions: ({ fppi: number } & PairedDifference)[]
  /** Patients with a lesion: found at each model's own threshold for that number of false positives. */
  patients: ({ fppi: number } & McNemar)[]
}

export interface CompareOptions {
  classes: number
  iou: number
  scoreThreshold: number
  maxDetections: number
  criterion: Criterion
  credit: Credit
  fppi: readonly number[]
  bootstrap: Pick<BootstrapOptions, 'draws' | 'seed' | 'level'>
}

/** Two-sided exact McNemar test of `onlyA` against `onlyB` discordant pairs; 1 without any. */
export function mcNemarP(onlyA: number, onlyB: number): number {
  const n = onlyA + onlyB
  if (n === 0) return 1
  // Binomial(n, 1/2) tail in logarithms: n may be large.
  const smaller = Math.min(onlyA, onlyB)
  let logTerm = -n * Math.LN2
  let tail = Math.exp(logTerm)
  for (let k = 1; k <= smaller; k++) {
    logTerm += Math.log((n - k + 1) / k)
    tail += Math.exp(logTerm)
  }
  return Math.min(1, 2 * tail)
}

export function mcNemar(a: readonly boolean[], b: readonly boolean[]): McNemar {
  const count = (inA: boolean, inB: boolean) => a.filter((found, i) => found === inA && b[i] === inB).length
  const onlyA = count(true, false)
  const onlyB = count(false, true)
  return { onlyA, onlyB, both: count(true, true), neither: count(false, false), p: mcNemarP(onlyA, onlyB) }
}

/** Compares the detections of model b with those of model a. */
export function compareDetections(
  truth: readonly ImageTruth[],
  a: DetectionsByImage,
  b: DetectionsByImage,
  options: CompareOptions,
): Comparison {
  const { fppi, criterion, credit, scoreThreshold } = options
  const groups = groupImages(truth)
  const positive = new Uint8Array(groups.patients.length)
  truth.forEach((image, i) => {
    if (image.boxes.some((box) => !box.ignore)) positive[groups.patient[i]!] = 1
  })
  const models = [a, b].map((detections) => {
    const voc = vocAp(truth, detections, options)
    const events = frocEvents(truth, detections, { criterion, credit, scoreThreshold })
    const parts = judgedClasses(truth, voc).map((judged) => weightedAp(judged, 'every-recall'))
    const froc = weightedFroc(events, fppi)
    return {
      values: [voc.map, ...sensitivities(events, fppi)],
      events,
      under: (w: Float64Array) => [definedMean(parts.map((part) => part(w))), ...froc(w)],
    }
  })
  const [first, second] = [models[0]!, models[1]!]
  const weights = new Float64Array(truth.length)
  const rows = bootstrapValues(
    groups.patients.length,
    (patientWeights) => {
      imageWeights(patientWeights, groups.patient, weights)
      const before = first.under(weights)
      return Float64Array.from(second.under(weights), (value, i) => value - before[i]!)
    },
    { ...options.bootstrap, accept: (w) => w.some((weight, p) => weight > 0 && positive[p] === 1) },
  )
  const intervals = percentileIntervals(rows, options.bootstrap.level)
  const paired = (i: number): PairedDifference => {
    const [x, y] = [first.values[i]!, second.values[i]!]
    return {
      a: x,
      b: y,
      difference: x === null || y === null ? null : y - x,
      interval: intervals[i] ?? null,
      p: twoSidedP(rows.map((row) => row[i]!).filter((value) => !Number.isNaN(value))),
    }
  }
  return {
    ap: paired(0),
    lesions: fppi.map((f, i) => ({ fppi: f, ...paired(i + 1) })),
    patients: fppi.map((f) => {
      const found = models.map(({ events }) => {
        const threshold = thresholdAt(events, f) ?? Number.POSITIVE_INFINITY
        const hit = new Uint8Array(groups.patients.length)
        events.lesionScore.forEach((score, i) => {
          if (score >= threshold) hit[groups.patient[events.lesionImage[i]!]!] = 1
        })
        return Array.from(hit, Boolean).filter((_, p) => positive[p] === 1)
      })
      return { fppi: f, ...mcNemar(found[0]!, found[1]!) }
    }),
  }
}

/** Twice the smaller share of draws at or beyond 0, never 0: one more draw is counted on each side. */
function twoSidedP(differences: readonly number[]): number | null {
  if (differences.length === 0) return null
  const below = differences.filter((d) => d <= 0).length
  const above = differences.filter((d) => d >= 0).length
  return Math.min(1, (2 * (Math.min(below, above) + 1)) / (differences.length + 1))
}
