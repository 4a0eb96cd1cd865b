// The sections of a report that show one evaluation: FROC and precision-recall with intervals, operating points, calibration, strata, readings. Is
// handed the numbers of lib/evaluate and computes none.
import type { Estimate, FrocReport, Metrics } from '../evaluate/evaluate.js'
import type { Stratum } from '../evaluate/strata.js'
import { columns, figure, type Html, paragraph, type Section, table } from './page.js'
import { type Band, type LinePlot, linePlotSvg } from './plots.js'

/** An evaluation and what it was made on. */
export interface ShownEvaluation {
  /** Such as "the val part of the run, best epoch". */
  about: string
  metrics: Metrics
}

export async function evaluationSections({ about, metrics }: ShownEvaluation): Promise<Section[]> {
  return [
    { title: 'FROC', body: await froc(about, metrics) },
    { title: 'Precision and recall', body: await precisionRecall(metrics) },
    { title: 'Operating points', body: operating(metrics) },
    { title: 'Calibration', body: await calibration(metrics) },
    { title: 'Sizes, views, densities', body: strata(metrics) },
  ]
}

/** `0.812 [0.71, 0.90]` */
export function estimateText({ value, interval }: Estimate, digits = 3): string {
  if (value === null) return 'undefined'
  const range = interval === null ? '' : ` [${interval.low.toFixed(digits)}, ${interval.high.toFixed(digits)}]`
  return value.toFixed(digits) + range
}

const number = (value: number | null, digits = 3) => (value === null ? 'undefined' : value.toFixed(digits))

/** How the intervals came about, in words. */
function intervalRemark({ options }: Metrics): string {
  const { bootstrap } = options
  if (bootstrap === null) return 'No intervals were asked for.'
  return `Bands and brackets: 95 % intervals from ${bootstrap.draws} resamples of patients, seed ${bootstrap.seed}.`
}

/** Lowest number of false positives per image that the FROC plot shows. */
const LEAST_FPPI = 0.02

/** The FROC curve as a plot: a step function on a logarithmic axis; what lies left of the axis enters at its start. */
export function frocPlot(metrics: Metrics): LinePlot {
  const { images, lesions } = metrics.counts
  const name = `all ${images} images`
  const points = metrics.curves.froc.map(({ falsePositives, found }) => {
    return { x: Math.max(LEAST_FPPI, falsePositives / images), y: found / lesions }
  })
  // Of points at one place the last, the highest, is the curve.
  const shown = points.filter((point, i) => point.x !== points[i + 1]?.x)
  const band = metrics.curves.frocBand.filter(({ fppi, interval }) => interval !== null && fppi >= LEAST_FPPI)
  const last = shown.at(-1)
  const bands: Band[] =
    band.length === 0
      ? []
      : [
          {
            name,
            x: band.map(({ fppi }) => fppi),
            low: band.map(({ interval }) => interval!.low),
            high: band.map(({ interval }) => interval!.high),
          },
        ]
  return {
    title: 'FROC',
    xTitle: 'false positives per image (logarithmic)',
    yTitle: 'share of lesions found',
    yDomain: [0, 1],
    xDomain: [LEAST_FPPI, 8],
    xLog: true,
    interpolate: 'step-after',
    points: false,
    series: [
      {
        name,
        x: [...shown.map(({ x }) => x), ...(last === undefined ? [] : [Math.max(8, last.x)])],
        y: [...shown.map(({ y }) => y), ...(last === undefined ? [] : [last.y])],
      },
    ],
    bands,
  }
}

async function froc(about: string, metrics: Metrics): Promise<Html[]> {
  const { counts, options } = metrics
  const facts = `${about}: ${counts.images} images of ${counts.patients} patients, ${counts.lesions} lesions, ${counts.massFreeImages} images without a lesion.`
  if (counts.lesions === 0) return [paragraph(facts), paragraph('Without lesions there is no curve.')]
  const rule = `A detection hits by ${options.criteria[0]}, credit ${options.credit}; a hit of a lesion that is found already is neither right nor wrong. ${intervalRemark(metrics)}`
  const { massFreeImages } = counts
  const none =
    massFreeImages === 0
      ? [paragraph('No image is without a lesion: false positives of such images cannot be counted.')]
      : []
  const name = (f: FrocReport) =>
    `${f.criterion}, ${f.unit}s (${f.total}), false positives of ${f.falsePositives} images`
  return [
    paragraph(facts),
    figure(await linePlotSvg(frocPlot(metrics)), 'Share of lesions found against false positives per image.'),
    paragraph(rule),
    table(
      'Sensitivity at false positives per image',
      ['what is found', ...options.fppi.map((fppi) => `at ${fppi}`)],
      metrics.froc
        .filter((f) => massFreeImages > 0 || f.falsePositives === 'all')
        .map((f) => [name(f), ...f.points.map(({ sensitivity }) => estimateText(sensitivity))]),
    ),
    ...none,
  ]
}

/** Precision against recall as a plot: the interpolated curve that AP is the area of. */
export function precisionRecallPlot({ curves, options }: Metrics): LinePlot {
  const name = `IoU ${options.iou}`
  let best = 0
  const corners = curves.precisionRecall
    .toReversed()
    .map(({ recall, precision }) => {
      best = Math.max(best, precision)
      return { x: recall, y: best }
    })
    .reverse()
  const last = corners.at(-1)
  const shown = [
    ...(corners.length === 0 ? [] : [{ x: 0, y: corners[0]!.y }]),
    ...corners,
    ...(last === undefined ? [] : [{ x: last.x, y: 0 }]),
  ]
  const band = curves.precisionBand.filter(({ interval }) => interval !== null)
  const bands = [
    {
      name,
      x: band.map(({ recall }) => recall),
      low: band.map(({ interval }) => interval!.low),
      high: band.map(({ interval }) => interval!.high),
    },
  ]
  return {
    title: 'Precision and recall',
    xTitle: 'recall',
    yTitle: 'precision',
    yDomain: [0, 1],
    xDomain: [0, 1],
    interpolate: 'step-before',
    points: false,
    series: [{ name, x: shown.map(({ x }) => x), y: shown.map(({ y }) => y) }],
    bands: band.length === 0 ? [] : bands,
  }
}

async function precisionRecall(metrics: Metrics): Promise<Html[]> {
  const { voc, coco, curves } = metrics
  const rows: [string, Estimate][] = [
    ['AP50 (keras-retinanet)', voc.map],
    ['COCO AP, IoU .50 to .95', coco.AP],
    ['COCO AP50', coco.AP50],
    ['COCO AP75', coco.AP75],
    ['COCO AP10', coco.AP10],
    ['AP, IoU .10 to .50', coco.AP10to50],
  ]
  const body = [
    table(
      'Average precision',
      ['metric', 'value and 95 % interval'],
      rows.map(([name, estimate]) => [name, estimateText(estimate)]),
    ),
  ]
  if (curves.precisionRecall.length > 0) {
    const text = 'Best precision at this recall or above; AP is the area under it.'
    body.unshift(figure(await linePlotSvg(precisionRecallPlot(metrics)), text))
  }
  return body
}

function operating(metrics: Metrics): Html[] {
  const head = ['FP per image, at most', 'threshold', 'lesions found', 'sensitivity', 'FP per image', 'precision']
  const units = ['image', 'breast', 'patient'] as const
  const rows = metrics.operatingPoints.map((point) => [
    ...[point.fppi ?? '', number(point.threshold), `${point.found} of ${point.lesions}`, number(point.sensitivity)],
    ...[number(point.falsePositivesPerImage), number(point.precision)],
  ])
  return [
    paragraph(
      'The lowest threshold that keeps the stated number of false positives on these images. Choose one on validation images; state results on others.',
    ),
    table('Thresholds', head, rows),
    table(
      'Is there a mass? Area under the ROC curve of the highest score',
      ['unit', 'value and 95 % interval'],
      units.map((unit) => [unit, estimateText(metrics.reading[unit])]),
    ),
    table(
      'Alternative FROC: how often a lesion scores higher than every false positive of an image',
      ['images', 'area and 95 % interval'],
      [
        ['without masses', estimateText(metrics.afroc.massFree)],
        ['all', estimateText(metrics.afroc.all)],
      ],
    ),
  ]
}

/** Mean score against the share that is right, in classes of the score that are not empty. */
export function calibrationPlot({ bins }: Metrics['calibration']): LinePlot {
  const filled = bins.filter((bin) => bin.count > 0)
  return {
    title: 'Calibration',
    xTitle: 'mean score',
    yTitle: 'share that is right',
    ...{ xDomain: [0, 1], yDomain: [0, 1], width: 320, height: 260 },
    series: [
      { name: 'detections', x: filled.map((bin) => bin.confidence!), y: filled.map((bin) => bin.precision!) },
      { name: 'perfect', x: [0, 1], y: [0, 1] },
    ],
  }
}

async function calibration({ calibration }: Metrics): Promise<Html[]> {
  const { bins, expectedError, maximumError } = calibration
  const filled = bins.filter((bin) => bin.count > 0)
  const rows = bins.map((bin) => [
    `${bin.low.toFixed(1)} to ${bin.high.toFixed(1)}`,
    bin.count,
    number(bin.confidence),
    number(bin.precision),
  ])
  const body = [
    table('Scores as probabilities', ['score', 'detections', 'mean score', 'share that is right'], rows),
    paragraph(
      `Expected calibration error ${number(expectedError)}, largest ${number(maximumError)}. A score is no probability unless the curve follows the diagonal.`,
    ),
  ]
  if (filled.length === 0) return body
  const plot = calibrationPlot(calibration)
  return [figure(await linePlotSvg(plot), 'Share of right detections in ten classes of score.'), ...body]
}

function strata(metrics: Metrics): Html[] {
  const { fppi } = metrics.options
  const all: [string, Stratum[]][] = [
    ['size', metrics.strata.size],
    ['view', metrics.strata.view],
    ['density', metrics.strata.density],
    ['class', metrics.strata.label],
  ]
  const known = (groups: readonly Stratum[]) => groups.some(({ name, lesions }) => name !== 'unknown' && lesions > 0)
  const parts = all
    .filter(([, groups]) => known(groups))
    .map(([name, groups]) => [name, groups.filter(({ lesions }) => lesions > 0)] as const)
  const unknown = all.filter(([, groups]) => !known(groups)).map(([name]) => name)
  return [
    paragraph(
      `Lesions found in groups, at the thresholds of all images together (false positives per image at most ${fppi.join(', ')}). Small groups say little: read the counts. ${intervalRemark(metrics)}`,
    ),
    columns(
      parts.map(([name, groups]) =>
        table(
          `By ${name}`,
          [name, 'lesions', ...fppi.map((limit) => `at ${limit}`)],
          groups.map((group) => [
            group.name,
            group.lesions,
            ...group.sensitivity.map((value, k) => estimateText({ value, interval: group.intervals[k]! }, 2)),
          ]),
        ),
      ),
    ),
    ...(unknown.length === 0 ? [] : [paragraph(`The data do not say of these lesions: ${unknown.join(', ')}.`)]),
  ]
}
