// What one report says about one study, before it takes any form: images in a fixed order, findings by score and cut to a limit, which
// of them are shown, and the sentences that state how they were made. Pure; every object of a study is written from the same plan.
import { createHash } from 'node:crypto'
import type { SourceImage } from '../../data/dicom/source.js'
import { UsageError } from '../../errors.js'
import { CALIBRATION_METHODS, type ModelManifest } from '../../onnx/manifest.js'
import { INTENTS, SUCCESS, SUMMARIES } from './codes.js'
import { type ResultIdentity, resultUid } from './uid.js'

export interface Finding {
  /** x1, y1, x2, y2 in pixel edges of the whole stored image. */
  box: readonly [number, number, number, number]
  /** 0..1, as the network gives it. */
  score: number
}

export interface AnalysedImage {
  source: SourceImage
  findings: readonly Finding[]
  /** Error code of an image that could not be analysed. */
  failure: string | null
}

export interface Reference {
  study: string
  series: string
  sopClass: string
  instance: string
}

export interface ReportSettings {
  model: { name: string; version: string; sha256: string; deviceUid: string }
  manufacturer: string
  toolVersion: string
  /** Lowest score that is stored, and that is shown. */
  threshold: number
  displayThreshold: number
  /** Findings of one study beyond which the lowest scores are left out. */
  maxFindings: number
  /** How images were prepared and results combined; one sentence each. */
  pipeline: readonly string[]
  /** What else of the preparation may change a result, for the UIDs only. */
  fingerprint?: string
  /** `malignancy` needs a calibration for it in the model's manifest. */
  scoreMeaning: 'certainty' | 'malignancy'
  calibration: ModelManifest['calibration']
  /** When the report is made. */
  time: Date
}

export interface ReportedFinding {
  /** Index in `Report.images`. */
  image: number
  box: readonly [number, number, number, number]
  /** Score in percent, calibrated where the model is, to four decimals. */
  percent: number
  shown: boolean
  trackingId: string
  trackingUid: string
}

export interface Report {
  images: readonly AnalysedImage[]
  /** By image, then falling score. */
  findings: readonly ReportedFinding[]
  /** Findings left out by the limit. */
  cut: number
  identity: ResultIdentity
  /** Sentences on threshold, pipeline, model, calibration, cut. */
  statements: readonly string[]
  settings: ReportSettings
}

/** Throws UsageError when the model names no malignancy calibration but one is asked for, or no images are given. */
export function planReport(given: readonly AnalysedImage[], settings: ReportSettings): Report {
  if (given.length === 0) throw new UsageError('ARGUMENT', 'expected at least one image for a report, got none')
  const { model, threshold, displayThreshold, maxFindings } = settings
  const percentOf = calibrated(settings)
  const images = [...given].sort((a, b) => compare(keyOf(a.source), keyOf(b.source)))
  const sorted = images
    .flatMap(({ findings, source, failure }, image) =>
      failure === null
        ? findings.filter(({ score }) => score >= threshold).map((finding) => ({ ...finding, image, source }))
        : [],
    )
    .sort((a, b) => b.score - a.score || a.image - b.image)
  const kept = sorted.slice(0, maxFindings)
  const cut = sorted.length - kept.length
  const statements = [
    `storage threshold ${threshold}; display threshold ${displayThreshold}`,
    ...settings.pipeline,
    `model sha256 ${model.sha256}`,
    settings.calibration === 'none' ? 'scores are uncalibrated' : `scores calibrated on ${settings.calibration.data}`,
    ...(cut === 0
      ? []
      : [`${cut} of ${sorted.length} findings with the lowest scores are left out: limit ${maxFindings}`]),
  ]
  const identity: ResultIdentity = {
    instances: images.map(({ source }) => keyOf(source)),
    modelSha256: model.sha256,
    threshold,
    pipelineHash: hashOf([
      statements,
      settings.fingerprint ?? '',
      settings.toolVersion,
      settings.manufacturer,
      settings.scoreMeaning,
      model.name,
      model.version,
      images.map(({ failure }) => failure),
    ]),
  }
  const perImage = new Map<number, number>()
  const findings = kept
    .sort((a, b) => a.image - b.image || b.score - a.score)
    .map(({ image, box, score, source }): ReportedFinding => {
      const n = (perImage.get(image) ?? 0) + 1
      perImage.set(image, n)
      return {
        image,
        box: inside(box, source),
        percent: percentOf(score),
        shown: score >= displayThreshold,
        trackingId: `mass ${image + 1}.${n}`,
        trackingUid: resultUid(identity, `finding ${image + 1}.${n}`),
      }
    })
  return { images, findings, cut, identity, statements, settings }
}

/** The decision table of inference spec 3.4. */
export function situationOf(report: Report): {
  summary: (typeof SUMMARIES)[keyof typeof SUMMARIES]
  detections: (typeof SUCCESS)[keyof typeof SUCCESS]
} {
  const failed = report.images.filter(({ failure }) => failure !== null).length
  const found = report.findings.length > 0
  if (failed === report.images.length) return { summary: SUMMARIES.none, detections: SUCCESS.failed }
  if (failed > 0) {
    return { summary: found ? SUMMARIES.someWith : SUMMARIES.someWithout, detections: SUCCESS.partially }
  }
  return { summary: found ? SUMMARIES.allWith : SUMMARIES.allWithout, detections: SUCCESS.succeeded }
}

export function intentOf(finding: ReportedFinding): (typeof INTENTS)[keyof typeof INTENTS] {
  return finding.shown ? INTENTS.required : INTENTS.optional
}

/** The five points of a box outline, column before row. */
export function outlineOf([x1, y1, x2, y2]: ReportedFinding['box']): number[] {
  return [x1, y1, x2, y1, x2, y2, x1, y2, x1, y1]
}

/** Texts of the algorithm parameters of images that failed: which one and why. */
export function failureStatements(report: Report): string[] {
  return report.images.flatMap(({ failure }, n) => (failure === null ? [] : [`image ${n + 1}: ${failure}`]))
}

function calibrated({ scoreMeaning, calibration }: ReportSettings): (score: number) => number {
  const percent = (score: number) => Number((100 * score).toFixed(4))
  if (calibration === 'none') {
    if (scoreMeaning === 'certainty') return percent
  } else if (calibration.method === CALIBRATION_METHODS[scoreMeaning] && calibration.parameters.length === 2) {
    const [slope, offset] = calibration.parameters as [number, number]
    return (score) => {
      const bounded = Math.min(Math.max(score, 1e-7), 1 - 1e-7)
      return percent(1 / (1 + Math.exp(-(slope * Math.log(bounded / (1 - bounded)) + offset))))
    }
  }
  throw new UsageError(
    'ARGUMENT',
    `expected a model with a calibration "${CALIBRATION_METHODS[scoreMeaning]}", got ${calibration === 'none' ? 'none' : `"${calibration.method}"`}`,
    {
      fix:
        scoreMeaning === 'malignancy'
          ? 'report the certainty of finding: a probability of cancer needs a model calibrated on it'
          : 'export the model again without this calibration',
    },
  )
}

/** Within the matrix, in the precision in which coordinates are written. */
function inside([x1, y1, x2, y2]: Finding['box'], { rows, columns }: SourceImage): ReportedFinding['box'] {
  const x = (value: number) => Math.fround(Math.min(Math.max(value, 0), columns))
  const y = (value: number) => Math.fround(Math.min(Math.max(value, 0), rows))
  return [x(x1), y(y1), x(x2), y(y2)]
}

function keyOf({ instance, frame }: SourceImage): string {
  return frame === null ? instance : `${instance} ${frame}`
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function hashOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex')
}
