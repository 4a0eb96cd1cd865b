// Every number of an evaluation as one plain object, ready for JSON: AP of keras-retinanet, COCO's family, FROC per criterion, operating points,
// strata, readings, calibration, and intervals by resampling patients. It puts the other files of this folder together and decides no
// rule itself. Undefined numbers are null. Training uses `epochMetrics` after each epoch, which leaves everything slow out.
import type { Box } from '../geometry/boxes.js'
import { weightedAfroc } from './afroc.js'
import { type BootstrapOptions, bootstrapValues, imageWeights, percentileIntervals } from './bootstrap.js'
import { type Calibration, calibrate } from './calibration.js'
import {
  type AreaRange,
  COCO_AREAS,
  COCO_IOUS,
  COCO_LIMITS,
  type CocoDetection,
  type CocoTruth,
  cocoEvaluate,
  cocoMean,
  descending,
  judgeClass,
  linspace,
} from './coco-ap.js'
import {
  type Credit,
  type Criterion,
  type FalsePositiveImages,
  type FrocEvents,
  type FrocPoint,
  frocCurve,
  frocEvents,
  groupedEvents,
  sensitivities,
  thresholdAt,
  weightedFroc,
} from './froc.js'
import { type OperatingPoint, operatingPoints } from './operating-points.js'
import { type ReadingUnit, readUnits, weightedAuc } from './reading.js'
import { imageStrata, type Stratum, type StratumOf, sizeStratum, strata, weightedStrata } from './strata.js'
import { type DetectionsByImage, groupImages, type ImageTruth, type Interval } from './types.js'
import { type VocResult, vocAp } from './voc-ap.js'
import { definedMean, judgedClasses, weightedAp, weightedPrecision } from './weighted-ap.js'

export interface EvaluateOptions {
  /** Names by class index. */
  classes: readonly string[]
  /** IoU of keras-retinanet's AP. */
  iou: number
  /** Scores strictly above are scored. */
  scoreThreshold: number
  /** Best detections per image, all classes together. */
  maxDetections: number
  /** False positives per image at which sensitivities are reported. */
  fppi: readonly number[]
  /** The first is the main one: operating points, strata, calibration. */
  criteria: readonly Criterion[]
  credit: Credit
  /** Resampling of patients; null: no intervals. */
  bootstrap: Pick<BootstrapOptions, 'draws' | 'seed' | 'level'> | null
  /** Edges of the size strata in mm. */
  sizeEdgesMm?: readonly number[]
}

/** A number and its interval; both null where undefined. */
export interface Estimate {
  value: number | null
  interval: Interval | null
}

export interface Metrics {
  counts: {
    images: number
    massFreeImages: number
    patients: number
    breasts: number
    lesions: number
    ignored: number
    detections: number
    lesionsPerClass: Record<string, number>
  }
  options: Omit<EvaluateOptions, 'bootstrap'> & { bootstrap: EvaluateOptions['bootstrap'] }
  voc: { map: Estimate; weighted: number | null; perClass: Record<string, Estimate> }
  coco: {
    AP: Estimate
    AP50: Estimate
    AP75: Estimate
    AP10: Estimate
    /** Mean over IoU .1:.05:.5. */
    AP10to50: Estimate
    AR_1: number | null
    AR_10: number | null
    AR_100: number | null
    perIou: { iou: number; AP: number | null; AR: number | null }[]
    /** By the box's area in mm2 (edges squared); null when an image has no pixel spacing. */
    bySizeMm: { name: string; AP: number | null; AR: number | null }[] | null
  }
  froc: FrocReport[]
  /** Area under the alternative FROC curve at the main criterion, against mass-free images and against all. */
  afroc: { massFree: Estimate; all: Estimate }
  operatingPoints: OperatingPoint[]
  strata: { size: Stratum[]; view: Stratum[]; density: Stratum[]; label: Stratum[] }
  /** Area under the ROC curve of the question "is there a mass?". */
  reading: Record<ReadingUnit, Estimate>
  calibration: Calibration
  curves: {
    /** Main criterion, all images, from the highest threshold. */
    froc: FrocPoint[]
    /** Intervals along the main FROC curve, on an even grid of the logarithm. */
    frocBand: { fppi: number; interval: Interval | null }[]
    /** First class with lesions, at `iou`, one point per recall change. */
    precisionRecall: { recall: number; precision: number; score: number }[]
    /** The same class: interpolated precision (the best at this recall or above) and its interval on an even grid of recalls. */
    precisionBand: { recall: number; precision: number; interval: Interval | null }[]
  }
}

export interface FrocReport {
  criterion: Criterion
  credit: Credit
  unit: 'lesion' | 'breast' | 'patient'
  falsePositives: FalsePositiveImages
  /** Lesions, breasts or patients to find. */
  total: number
  points: { fppi: number; sensitivity: Estimate }[]
}

/** The numbers of one epoch. */
export interface EpochMetrics {
  AP50: number | null
  AP: number | null
  sensitivity: (number | null)[]
}

/** Detections as scoring sees them: above the threshold, the best `maxDetections` of each image, by descending score. */
export function scoredDetections(
  truth: readonly ImageTruth[],
  detections: DetectionsByImage,
  options: Pick<EvaluateOptions, 'scoreThreshold' | 'maxDetections'>,
): DetectionsByImage {
  return new Map(
    truth.map(({ id }) => [
      id,
      (detections.get(id) ?? [])
        .filter((d) => d.score > options.scoreThreshold)
        .sort((a, b) => b.score - a.score)
        .slice(0, options.maxDetections),
    ]),
  )
}

/** Fast numbers after an epoch: keras-retinanet's AP, COCO's AP, sensitivities at the main criterion. */
export function epochMetrics(
  truth: readonly ImageTruth[],
  detections: DetectionsByImage,
  options: Omit<EvaluateOptions, 'bootstrap' | 'sizeEdgesMm'>,
): EpochMetrics {
  const scored = scoredDetections(truth, detections, options)
  const classes = options.classes.length
  const coco = cocoEvaluate(cocoTruth(truth), cocoDetections(truth, scored), {
    images: truth.length,
    classes,
    areas: COCO_AREAS.slice(0, 1),
    maxDetections: [options.maxDetections],
  })
  const events = frocEvents(truth, scored, { criterion: options.criteria[0]!, credit: options.credit })
  return {
    AP50: vocAp(truth, scored, { ...options, classes }).map,
    AP: cocoMean(coco, 'averagePrecision', { area: 0, limit: 0 }),
    sensitivity: sensitivities(events, options.fppi),
  }
}

type Xywh = [number, number, number, number]
const xywh = ([x1, y1, x2, y2]: Readonly<Box>, scale = 1): Xywh => [
  x1 * scale,
  y1 * scale,
  (x2 - x1) * scale,
  (y2 - y1) * scale,
]

/** Truth in COCO's terms; `scale` multiplies the coordinates of an image (pixels to mm). */
export function cocoTruth(truth: readonly ImageTruth[], scale?: readonly number[]): CocoTruth[] {
  return truth.flatMap(({ boxes }, image) =>
    boxes.map(({ box, label, ignore }) => ({ image, label, box: xywh(box, scale?.[image]), crowd: ignore === true })),
  )
}

export function cocoDetections(
  truth: readonly ImageTruth[],
  detections: DetectionsByImage,
  scale?: readonly number[],
): CocoDetection[] {
  return truth.flatMap(({ id }, image) =>
    (detections.get(id) ?? []).map(({ box, label, score }) => ({
      image,
      label,
      box: xywh(box, scale?.[image]),
      score,
    })),
  )
}

const LOW_IOUS = linspace(0.1, 0.5, 9)
/** The means that are reported: AP, AP50, AP75, AP10, AP10to50. */
const COCO_MEANS: readonly (readonly number[])[] = [COCO_IOUS, [0.5], [0.75], [0.1], LOW_IOUS]
const BAND: readonly number[] = Array.from({ length: 41 }, (_, i) => 10 ** (-2 + (3 * i) / 40))

/** Recalls of the precision band. */
const RECALLS: readonly number[] = Array.from({ length: 20 }, (_, i) => (i + 1) / 20)

/** Several numbers under weights of the images, or of the patients; NaN where undefined. */
type Under = (imageWeights: Float64Array, patientWeights: Float64Array) => ArrayLike<number>

/** Everything. Costs seconds with intervals; see `epochMetrics` for the fast numbers. */
export function evaluateDetections(
  truth: readonly ImageTruth[],
  detections: DetectionsByImage,
  options: EvaluateOptions,
): Metrics {
  const sizeEdgesMm = options.sizeEdgesMm ?? [10, 20, 30]
  const scored = scoredDetections(truth, detections, options)
  const groups = groupImages(truth)
  const classes = options.classes.length
  const voc = vocAp(truth, scored, { ...options, classes })
  const cocoBoxes = { truth: cocoTruth(truth), detections: cocoDetections(truth, scored) }
  const coco = cocoNumbers(cocoBoxes, truth.length, classes)
  const main = frocEvents(truth, scored, { criterion: options.criteria[0]!, credit: options.credit })
  const readings = (['image', 'breast', 'patient'] as const).map((unit) => readUnits(truth, scored, groups, unit))

  // Every estimate joins one list, so that one pass of resampling serves all and their draws are the same.
  const slots: Estimate[] = []
  const statistics: Under[] = []
  const estimates = (values: readonly (number | null)[], under: Under): Estimate[] => {
    const own = values.map((value): Estimate => ({ value, interval: null }))
    slots.push(...own)
    statistics.push(under)
    return own
  }

  const judged = judgedClasses(truth, voc)
  const vocParts = judged.map((one) => weightedAp(one, 'every-recall'))
  const [map, ...perClass] = estimates([voc.map, ...voc.classes.map((c) => c.ap)], (weights) => {
    const values = vocParts.map((part) => part(weights))
    return [definedMean(values), ...values]
  })

  const [AP, AP50, AP75, AP10, AP10to50] = estimates(
    COCO_MEANS.map((ious) => coco.mean(ious)),
    (weights) => coco.weightedMeans(weights),
  )

  const froc: FrocReport[] = []
  for (const criterion of options.criteria) {
    const events =
      criterion === options.criteria[0] ? main : frocEvents(truth, scored, { criterion, credit: options.credit })
    for (const unit of ['lesion', 'breast', 'patient'] as const) {
      const units = unit === 'lesion' ? events : groupedEvents(events, groups[unit])
      for (const falsePositives of ['all', 'mass-free'] as const) {
        const values = sensitivities(units, options.fppi, falsePositives)
        const found = estimates(values, weightedFroc(units, options.fppi, falsePositives))
        const points = options.fppi.map((fppi, i) => ({ fppi, sensitivity: found[i]! }))
        froc.push({ criterion, credit: options.credit, unit, falsePositives, total: units.lesionScore.length, points })
      }
    }
  }

  const afrocs = [weightedAfroc(main, 'mass-free'), weightedAfroc(main, 'all')]
  const alike = new Float64Array(truth.length).fill(1)
  const [afrocMassFree, afrocAll] = estimates(
    afrocs.map((area) => defined(area(alike))),
    (weights) => afrocs.map((area) => area(weights)),
  )

  const thresholds = options.fppi.map((limit) => thresholdAt(main, limit))
  const view = (image: ImageTruth) => image.view ?? 'unknown'
  const density = (image: ImageTruth) => image.density ?? 'unknown'
  const size = sizeStratum(sizeEdgesMm)
  const label: StratumOf = (_, lesion) => options.classes[lesion.label]!
  const intervalsLater: (() => void)[] = []
  const stratified = (groups: Stratum[], of: StratumOf): Stratum[] => {
    const names = groups.map((group) => group.name)
    const found = estimates(
      groups.flatMap((group) => group.sensitivity),
      weightedStrata(truth, main, thresholds, of, names),
    )
    intervalsLater.push(() => {
      groups.forEach((group, i) => {
        group.intervals = thresholds.map((_, k) => found[i * thresholds.length + k]!.interval)
      })
    })
    return groups
  }
  const byStratum = {
    size: stratified(strata(truth, main, thresholds, size, sizeNames(sizeEdgesMm)), size),
    view: stratified(imageStrata(truth, main, thresholds, view), view),
    density: stratified(imageStrata(truth, main, thresholds, density), density),
    label: stratified(strata(truth, main, thresholds, label, options.classes), label),
  }

  const aucs = readings.map(weightedAuc)
  const equal = new Float64Array(groups.patients.length).fill(1)
  const [byImage, byBreast, byPatient] = estimates(
    aucs.map((auc) => defined(auc(equal))),
    (_, patientWeights) => aucs.map((auc) => auc(patientWeights)),
  )

  const band = estimates(
    BAND.map(() => null),
    weightedFroc(main, BAND),
  )

  const shown = judged[voc.classes.findIndex((c) => c.instances > 0)]
  const precisionAt = shown === undefined ? undefined : weightedPrecision(shown, RECALLS)
  const even = new Float64Array(truth.length).fill(1)
  const precisionBand = precisionAt === undefined ? [] : estimates([...precisionAt(even)], precisionAt)

  if (options.bootstrap !== null) {
    const intervals = resample(statistics, groups.patient, groups.patients.length, main, options.bootstrap)
    slots.forEach((slot, i) => {
      slot.interval = intervals[i] ?? null
    })
    for (const fill of intervalsLater) fill()
  }

  const { seen, hits } = calibrationPairs(truth, scored, options)
  const { bootstrap, ...rules } = options
  return {
    counts: {
      images: truth.length,
      massFreeImages: main.massFreeImages,
      patients: groups.patients.length,
      breasts: groups.breasts.length,
      lesions: main.lesionScore.length,
      ignored: truth.reduce((sum, image) => sum + image.boxes.filter((box) => box.ignore).length, 0),
      detections: [...scored.values()].reduce((sum, found) => sum + found.length, 0),
      lesionsPerClass: Object.fromEntries(options.classes.map((name, k) => [name, voc.classes[k]!.instances])),
    },
    options: { ...rules, bootstrap },
    voc: {
      map: map!,
      weighted: voc.weighted,
      perClass: Object.fromEntries(options.classes.map((name, k) => [name, perClass[k]!])),
    },
    coco: {
      AP: AP!,
      AP50: AP50!,
      AP75: AP75!,
      AP10: AP10!,
      AP10to50: AP10to50!,
      AR_1: coco.recall(0),
      AR_10: coco.recall(1),
      AR_100: coco.recall(2),
      perIou: coco.perIou,
      bySizeMm: cocoBySize(truth, scored, classes, sizeEdgesMm),
    },
    froc,
    afroc: { massFree: afrocMassFree!, all: afrocAll! },
    operatingPoints: operatingPoints(main, options.fppi, readings),
    strata: byStratum,
    reading: { image: byImage!, breast: byBreast!, patient: byPatient! },
    calibration: calibrate(seen, hits),
    curves: {
      froc: frocCurve(main),
      frocBand: BAND.map((fppi, i) => ({ fppi, interval: band[i]!.interval })),
      precisionRecall: precisionRecallCurve(voc),
      precisionBand: precisionBand.map(({ value, interval }, i) => {
        return { recall: RECALLS[i]!, precision: value!, interval }
      }),
    },
  }
}

function sizeNames(edges: readonly number[]): string[] {
  const of = sizeStratum(edges)
  const middle = [0, ...edges].map((edge) => of({} as ImageTruth, { box: [0, 0, 0, 0], label: 0, sizeMm: edge }))
  return [...new Set(middle)]
}

const defined = (value: number) => (Number.isNaN(value) ? null : value)

function resample(
  statistics: readonly Under[],
  patientOfImage: Int32Array,
  patients: number,
  events: FrocEvents,
  options: NonNullable<EvaluateOptions['bootstrap']>,
): (Interval | null)[] {
  const positive = new Uint8Array(patients)
  for (const image of events.lesionImage) positive[patientOfImage[image]!] = 1
  const weights = new Float64Array(patientOfImage.length)
  const statistic = (patientWeights: Float64Array) => {
    imageWeights(patientWeights, patientOfImage, weights)
    return Float64Array.from(statistics.flatMap((under) => Array.from(under(weights, patientWeights))))
  }
  const accept = (patientWeights: Float64Array) => patientWeights.some((weight, p) => weight > 0 && positive[p] === 1)
  return percentileIntervals(bootstrapValues(patients, statistic, { ...options, accept }), options.level)
}

interface CocoBoxes {
  truth: CocoTruth[]
  detections: CocoDetection[]
}

const sameIou = (a: number, b: number) => Math.abs(a - b) < 1e-9

/** COCO's numbers at IoU .1 to .95, and the same under weights. */
function cocoNumbers(boxes: CocoBoxes, images: number, classes: number) {
  const ious = [...LOW_IOUS.filter((iou) => !sameIou(iou, 0.5)), ...COCO_IOUS]
  const areas = COCO_AREAS.slice(0, 1)
  const result = cocoEvaluate(boxes.truth, boxes.detections, { images, classes, ious, areas })
  const places = (wanted: readonly number[]) => wanted.map((iou) => ious.findIndex((known) => sameIou(known, iou)))
  const last = COCO_LIMITS.length - 1
  const mean = (wanted: readonly number[], table: 'averagePrecision' | 'recall' = 'averagePrecision', limit = last) => {
    const values = places(wanted)
      .map((t) => cocoMean(result, table, { iou: ious[t]!, area: 0, limit }))
      .filter((value) => value !== null)
    return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length
  }

  const parts: ((weights: Float64Array) => number)[][] = ious.map(() => [])
  for (let k = 0; k < classes; k++) {
    const judged = judgeClass(boxes.truth, boxes.detections, k, images, ious, areas, COCO_LIMITS[last]!)
    const n = judged.scores.length
    const order = descending(judged.scores)
    ious.forEach((_, t) => {
      const kept = order.filter((i) => judged.status[0]![t * n + i] !== 2)
      parts[t]!.push(
        weightedAp(
          {
            hits: Uint8Array.from(kept, (i) => judged.status[0]![t * n + i]!),
            images: Int32Array.from(kept, (i) => judged.image[i]!),
            lesions: judged.lesions[0]!,
          },
          '101-points',
        ),
      )
    })
  }
  const means = COCO_MEANS.map(places)
  const weightedMeans = (weights: Float64Array) => {
    const values = parts.map((of) => definedMean(of.map((part) => part(weights))))
    return means.map((at) => at.reduce((sum, t) => sum + values[t]!, 0) / at.length)
  }
  return {
    mean: (wanted: readonly number[]) => mean(wanted),
    weightedMeans,
    recall: (limit: number) => mean(COCO_IOUS, 'recall', limit),
    perIou: ious.map((iou) => ({ iou, AP: mean([iou]), AR: mean([iou], 'recall') })),
  }
}

/** AP and AR by size, boxes measured in mm; IoU does not depend on the unit. */
function cocoBySize(
  truth: readonly ImageTruth[],
  detections: DetectionsByImage,
  classes: number,
  edges: readonly number[],
): Metrics['coco']['bySizeMm'] {
  if (truth.length === 0 || truth.some(({ spacingMm }) => !spacingMm)) return null
  const scale = truth.map((image) => image.spacingMm!)
  const limits = [0, ...edges, 1e5]
  const areas = sizeNames(edges).map((name, i): AreaRange => ({ name, min: limits[i]! ** 2, max: limits[i + 1]! ** 2 }))
  const result = cocoEvaluate(cocoTruth(truth, scale), cocoDetections(truth, detections, scale), {
    images: truth.length,
    classes,
    areas,
    maxDetections: COCO_LIMITS.slice(-1),
  })
  return areas.map(({ name }, area) => ({
    name,
    AP: cocoMean(result, 'averagePrecision', { area, limit: 0 }),
    AR: cocoMean(result, 'recall', { area, limit: 0 }),
  }))
}

/** Each counted detection with whether it is right: the judgement of keras-retinanet's AP, all classes. */
function calibrationPairs(truth: readonly ImageTruth[], detections: DetectionsByImage, options: EvaluateOptions) {
  const judged = vocAp(truth, detections, { ...options, classes: options.classes.length }).classes.flatMap(
    (c) => c.judged,
  )
  return { seen: judged.map((d) => d.score), hits: judged.map((d) => Number(d.hit)) }
}

function precisionRecallCurve(voc: VocResult): Metrics['curves']['precisionRecall'] {
  const first = voc.classes.find((c) => c.instances > 0)
  if (first === undefined) return []
  let found = 0
  return first.judged.flatMap(({ hit, score }, i) => {
    if (!hit) return []
    found++
    return [{ recall: found / first.instances, precision: found / (i + 1), score }]
  })
}
