// `data check`: looks at a dataset as it was downloaded, or at a prepared folder, and says what is in it and what is wrong.
// Anchor coverage is added when a configuration is given. Nothing is changed; the caller prints and writes.
import { basename, resolve } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import { padMultiple } from '../config/detector.js'
import type { Config } from '../config/schema.js'
import { bytesText, type CheckReport, checkDataset as checkRecords, type Spread } from '../data/check.js'
import { type DatasetPage, datasetPageHtml } from '../report/dataset-page.js'
import { type AnchorReport, reportAnchors } from './anchors.js'
import { readRecords, type SourceOptions, trainingImages } from './training-boxes.js'

export { type CheckReport, exclusionList, fixPlan, formatCheck, parsePlan } from '../data/check.js'

export interface CheckDatasetOptions extends Omit<SourceOptions, 'verify'> {
  /** Warnings fail too. */
  strict?: boolean
  /** Adds the coverage of its anchors at the scale of its training images. */
  config?: Config
}

export type DatasetCheck = CheckReport & {
  anchors: AnchorReport | null
  /** Pixels were there to compare. */
  prepared: boolean
  /** A split was there to look for leaks in. */
  leaksChecked: boolean
  /** Headers of DICOM files were read. */
  dicomRead: boolean
}

export async function checkDataset(folder: string, options: CheckDatasetOptions = {}): Promise<DatasetCheck> {
  const { config, strict = false, ...source } = options
  const input = await readRecords(folder, { ...source, verify: 'full' })
  const report = checkRecords(input, {
    multiple: config === undefined ? 128 : padMultiple(config),
    strict,
    ...(config === undefined ? {} : { classes: config.data.classes }),
  })
  const anchors = config === undefined ? null : reportAnchors(trainingImages(input, config), config)
  const leaksChecked = input.split !== undefined || input.records.some((record) => record.split !== null)
  const prepared = input.records.every((record) => record.cache !== undefined)
  const dicomRead = !prepared && input.records.some((record) => !record.source.transferSyntax.startsWith('image/'))
  return { ...report, anchors, prepared, leaksChecked, dicomRead }
}

/** Writes the report as one HTML page. */
export async function writeCheckPage(folder: string, check: DatasetCheck, out: string): Promise<void> {
  await writeFileAtomic(out, await datasetPageHtml(pageOf(basename(resolve(folder)), check)))
}

function pageOf(name: string, check: DatasetCheck): DatasetPage {
  const { rules, counts, plan } = check
  const errors = rules.filter((rule) => rule.level === 'error')
  const say = (list: typeof rules, what: string) => {
    const n = list.reduce((sum, r) => sum + r.count, 0)
    return n === 0
      ? `No ${what}s.`
      : `${n} ${what}${n === 1 ? '' : 's'} by ${list.length} rule${list.length === 1 ? '' : 's'}.`
  }
  const warnings = rules.filter((rule) => rule.level === 'warning')
  const found = `${say(errors, 'error')} ${say(warnings, 'warning')}`
  const list = (record: Record<string, number>) => Object.entries(record)
  const largest = plan.largestImage
  return {
    title: `Dataset ${name}`,
    notice: `${found} Nothing was changed.`,
    facts: [
      ['images', String(check.images)],
      ['patients', String(check.patients)],
      ['images with lesions of the trained classes', String(check.positive)],
      ['negative: annotated, without such a lesion', String(check.negative)],
      ['not annotated: content unknown, in no part', String(check.unannotated)],
    ],
    counts: [
      { title: 'view', entries: list(counts.view) },
      { title: 'side', entries: list(counts.side) },
      { title: 'density', entries: list(counts.density) },
      { title: 'BI-RADS', entries: list(counts.biRads) },
      { title: 'part in the source', entries: list(counts.part) },
      { title: 'lesion class', entries: list(counts.lesionClass) },
      { title: 'lesions per image', entries: list(check.lesionsPerImage) },
      { title: 'flag', entries: list(counts.flag) },
      {
        title: 'rows x columns',
        entries: list(counts.size)
          .sort(([, a], [, b]) => b - a)
          .slice(0, 12),
      },
    ],
    sizes: sizeRows(check),
    histogram: check.sizeHistogram,
    coverage: check.anchors === null || check.anchors.coverage.boxes.length === 0 ? null : coverageOf(check.anchors),
    rules: rules.map(({ rule, level, count, example }) => ({ rule, level, count, ...example })),
    boxes: check.fixes.filter(({ rule }) => rule.startsWith('box/')),
    dicom: check.dicomRead ? check.fixes.filter(({ rule }) => rule.startsWith('dicom/')) : null,
    duplicates: check.prepared ? check.duplicates : null,
    leaks: check.leaks,
    leaksChecked: check.leaksChecked,
    plan: [
      ['prepared folder, expected', bytesText(plan.cacheBytes.expected)],
      ['prepared folder, at most', bytesText(plan.cacheBytes.maximum)],
      ...(largest === null
        ? []
        : ([
            ['largest image', `${largest.id}: ${largest.height} rows x ${largest.width} columns`],
            ['its canvas', `${largest.canvas[0]} x ${largest.canvas[1]}`],
            ['its network input, one channel in fp32', bytesText(largest.inputBytes)],
          ] as [string, string][])),
    ],
  }
}

function sizeRows({ sizesPx, sizesMm }: CheckReport): (string | number)[][] {
  const row = (name: string, s: Spread, digits: number) => [
    name,
    ...[s.min, s.p5, s.median, s.p95, s.max].map((value) => value.toFixed(digits)),
  ]
  if (sizesPx === null) return []
  return [
    row('width, source pixels', sizesPx.width, 0),
    row('height, source pixels', sizesPx.height, 0),
    row('square root of the area, source pixels', sizesPx.side, 0),
    ...(sizesMm === null ? [] : [row(`square root of the area, mm (${sizesMm.count} with spacing)`, sizesMm, 1)]),
  ]
}

function coverageOf({ coverage, sizes, missed, positiveIou }: AnchorReport): NonNullable<DatasetPage['coverage']> {
  const mean = coverage.meanBestIou!
  return {
    about: `An anchor is positive from IoU ${positiveIou}. Best IoU per lesion: mean ${mean.toFixed(3)}, least ${coverage.minimumBestIou!.toFixed(3)}; median of positive anchors per lesion ${coverage.medianPositives}.`,
    sizes: sizes.map((s) => [
      s.to === null ? `${s.from} and more` : `${s.from} to ${s.to}`,
      s.boxes,
      s.covered,
      s.recall.toFixed(3),
      s.meanBestIou.toFixed(3),
      s.minimumBestIou.toFixed(3),
    ]),
    levels: coverage.levels.map((l) => [
      `P${l.level}`,
      Math.round(l.anchors),
      `${(100 * l.share).toFixed(1)} %`,
      l.positives,
      l.onlyHere,
    ]),
    missed: missed.map((m) => `${m.id}: best IoU ${m.bestIou.toFixed(3)}`),
  }
}
