// Looks at a whole dataset and says what is in it and what is wrong with it: counts, lesion sizes, duplicates, leaks, the
// needs of disk and memory, and a proposal per problem. Data first, a plain text table from it second; it prints nothing and
// changes nothing. Rules of single records are found by the adapters and the manifest's validation and are counted here.
import type { CacheEntry } from './cache.js'
import { cacheBytes } from './cache.js'
import { findLeaks, type Leak } from './leak.js'
import { leakImagesOf, splitImagesOf } from './prepared.js'
import { type Split, splitImages } from './split.js'
import { coverage, decodeTissue } from './tissue.js'
import type { Box, ImageRecord, Problem, ProblemLevel } from './types.js'

/** A record, with what preparation found where it has run. */
export type CheckedRecord = ImageRecord & { cache?: CacheEntry }

export interface CheckInput {
  records: readonly CheckedRecord[]
  problems: readonly Problem[]
  /** The split in use; without one, the source's own parts are checked for leaks. */
  split?: Split
}

export interface CheckOptions {
  /** Classes that are trained; default `mass`. */
  classes?: string[]
  /** Warnings fail too. */
  strict?: boolean
  /** Canvas sides are multiples of this; default 128. */
  multiple?: number
}

export interface RuleCount {
  rule: string
  level: ProblemLevel
  count: number
  /** The first one. */
  example: Pick<Problem, 'message' | 'where' | 'fix'>
}

/** Of one measure over lesions: count, minimum, 5th percentile, median, 95th percentile, maximum. */
export interface Spread {
  count: number
  min: number
  p5: number
  median: number
  p95: number
  max: number
}

export interface FixProposal {
  rule: string
  /** Image id, or `<image id>#<lesion id>`; null where the rule names none. */
  target: string | null
  action: 'exclude' | 'correct' | 'look'
  message: string
  where: string
  fix: string
}

/** Equal bins from 0: bin i covers [i * width, (i + 1) * width). */
export interface Histogram {
  width: number
  counts: number[]
}

export interface CheckReport {
  schema: 'mammo-retinanet/check@1'
  images: number
  patients: number
  /** Annotated images with and without lesions of the trained classes, and images of unknown content. */
  positive: number
  negative: number
  unannotated: number
  counts: Record<
    'view' | 'side' | 'density' | 'biRads' | 'part' | 'flag' | 'size' | 'lesionClass',
    Record<string, number>
  >
  lesionsPerImage: Record<string, number>
  /** Lesions of the trained classes. Pixels are those of the source. */
  sizesPx: { width: Spread; height: Spread; side: Spread } | null
  /** Square root of the box area, of lesions whose spacing is known. */
  sizesMm: Spread | null
  /** Of the same measure: mm where every lesion's spacing is known, else pixels of the source. */
  sizeHistogram: (Histogram & { unit: 'mm' | 'px' }) | null
  rules: RuleCount[]
  duplicates: string[][]
  leaks: Leak[]
  plan: {
    /** Uncropped and, as measured on film, cropped; of a prepared folder the real size twice. */
    cacheBytes: { maximum: number; expected: number }
    largestImage: { id: string; width: number; height: number; canvas: [number, number]; inputBytes: number } | null
  }
  fixes: FixProposal[]
  /** 3 when a rule of level error fired (or any, when strict), else 0. */
  exitCode: 0 | 3
}

const EXPECTED_SHARE = 0.67

export function checkDataset(input: CheckInput, options: CheckOptions = {}): CheckReport {
  const classes = options.classes ?? ['mass']
  const { records } = input
  const trained = (record: CheckedRecord) => record.lesions.filter((lesion) => classes.includes(lesion.class))
  const annotated = records.filter((record) => record.annotated)
  const positive = annotated.filter((record) => trained(record).length > 0).length
  const duplicates = equalPixels(records)
  const leaks = leaksOf(input, classes)
  const problems = [
    ...input.problems,
    ...duplicates.map(duplicateProblem),
    ...leaks.map(leakProblem),
    ...records.flatMap(sideProblem),
  ]
  const lesions = records.flatMap((record) => trained(record).map((lesion) => ({ record, lesion })))
  const millimetres = sizesMm(lesions)
  const rules = countRules(problems)
  const failing = rules.some(({ level }) => level === 'error' || options.strict === true)
  return {
    schema: 'mammo-retinanet/check@1',
    images: records.length,
    patients: new Set(records.map((record) => record.patient)).size,
    positive,
    negative: annotated.length - positive,
    unannotated: records.length - annotated.length,
    counts: {
      view: tally(records.map((record) => record.view ?? 'unknown')),
      side: tally(records.map((record) => record.laterality ?? 'unknown')),
      density: tally(records.map((record) => record.density ?? 'unknown')),
      biRads: tally(records.map((record) => record.biRads ?? 'unknown')),
      part: tally(records.map((record) => record.split ?? 'none')),
      flag: tally(records.flatMap((record) => record.flags)),
      size: tally(records.map((record) => `${record.height}x${record.width}`)),
      lesionClass: tally(records.flatMap((record) => record.lesions.map((lesion) => lesion.class))),
    },
    lesionsPerImage: tally(annotated.map((record) => String(trained(record).length))),
    sizesPx:
      lesions.length === 0
        ? null
        : {
            width: spread(lesions.map(({ lesion: { box } }) => box[2] - box[0])),
            height: spread(lesions.map(({ lesion: { box } }) => box[3] - box[1])),
            side: spread(lesions.map(({ lesion: { box } }) => boxSide(box))),
          },
    sizesMm: millimetres.length === 0 ? null : spread(millimetres),
    sizeHistogram:
      lesions.length === 0
        ? null
        : millimetres.length === lesions.length
          ? { unit: 'mm', ...histogram(millimetres) }
          : { unit: 'px', ...histogram(lesions.map(({ lesion: { box } }) => boxSide(box))) },
    rules,
    duplicates,
    leaks,
    plan: planOf(records, options.multiple ?? 128),
    fixes: problems.map(proposal),
    exitCode: failing ? 3 : 0,
  }
}

function equalPixels(records: readonly CheckedRecord[]): string[][] {
  const groups = new Map<string, string[]>()
  for (const { id, cache } of records) {
    if (cache === undefined) continue
    const group = groups.get(cache.sha256)
    if (group === undefined) groups.set(cache.sha256, [id])
    else group.push(id)
  }
  return [...groups.values()].filter((group) => group.length > 1)
}

function leaksOf({ records, split }: CheckInput, classes: readonly string[]): Leak[] {
  const hasParts =
    records.some((record) => record.split === 'train') && records.some((record) => record.split === 'test')
  if (split === undefined && !hasParts) return []
  const ids = (part: 'train' | 'val' | 'test') => records.filter((r) => r.split === part).map((r) => r.id)
  const folds = split?.folds ?? [{ train: ids('train'), val: ids('val'), test: ids('test') }]
  const images = leakImagesOf(records)
  const known = new Set(records.map((record) => record.id))
  const present = (list: string[]) => list.filter((id) => known.has(id))
  const found = new Map<string, Leak>()
  for (const fold of folds) {
    const own = { train: present(fold.train), val: present(fold.val), test: present(fold.test) }
    for (const leak of findLeaks(own, images)) found.set(`${leak.rule} ${leak.key}`, leak)
  }
  // Parts of the source are advice: what the splitter would make of them decides whether a shared patient is harmful.
  if (split === undefined && found.size > 0) {
    const mended = splitImages(splitImagesOf(records, classes)).folds[0]!
    const still = new Set(findLeaks(mended, images).map((leak) => `${leak.rule} ${leak.key}`))
    return [...found].map(([key, leak]) => (still.has(key) ? leak : { ...leak, level: 'warning' }))
  }
  return [...found.values()]
}

function duplicateProblem(ids: string[]): Problem {
  return {
    rule: 'image/duplicate',
    level: 'warning',
    message: `${ids.length} images have equal pixels: ${ids.join(', ')}`,
    where: ids[0]!,
    fix: 'keep one and list the others in --exclude',
    details: { target: ids[1] },
  }
}

function leakProblem(leak: Leak): Problem {
  return {
    rule: leak.rule,
    level: leak.level,
    message: `${leak.parts.join(' and ')} share ${leak.key} (${leak.ids.length} images)`,
    where: leak.ids.slice(0, 4).join(', '),
    fix: 'run `mammo-retinanet data split` (groups by patient)',
  }
}

/** A breast that lies at the other edge than its side says: left breasts lie at the left edge. Film may be mirrored: a look. */
function sideProblem(record: CheckedRecord): Problem[] {
  if (record.cache === undefined || record.laterality === null) return []
  const { width, height } = record
  const mask = decodeTissue(record.cache.tissue, [0, 0, width, height])
  // Breast along the two edges: strips of a tenth of the width, since film has a frame there.
  const strip = width / 10
  const [left, right] = [coverage(mask, 0, 0, strip, height), coverage(mask, width - strip, 0, strip, height)]
  if (Math.max(left, right) < 2 * Math.min(left, right) || left === right) return []
  const found = left > right ? 'L' : 'R'
  if (found === record.laterality) return []
  return [
    {
      rule: 'image/side',
      level: 'warning',
      message: `the breast lies at the ${found === 'L' ? 'left' : 'right'} edge, the record says ${record.laterality}`,
      where: record.id,
      fix: 'look at the image; the record is used as it is and nothing is flipped',
      details: { target: record.id },
    },
  ]
}

function countRules(problems: readonly Problem[]): RuleCount[] {
  const rules = new Map<string, RuleCount>()
  for (const { rule, level, message, where, fix } of problems) {
    const key = `${level} ${rule}`
    const known = rules.get(key)
    if (known === undefined) rules.set(key, { rule, level, count: 1, example: { message, where, fix } })
    else known.count++
  }
  const rank = ({ level }: RuleCount) => (level === 'error' ? 0 : 1)
  return [...rules.values()].sort((a, b) => rank(a) - rank(b) || (a.rule < b.rule ? -1 : 1))
}

function tally(values: readonly string[]): Record<string, number> {
  const counts = new Map<string, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** Quantiles are the values at floor(q * (n - 1)) of the sorted list. */
export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))]!
  return { count: sorted.length, min: at(0), p5: at(0.05), median: at(0.5), p95: at(0.95), max: at(1) }
}

function sizesMm(lesions: readonly { record: ImageRecord; lesion: ImageRecord['lesions'][number] }[]): number[] {
  return lesions.flatMap(({ record: { spacingMm }, lesion: { box } }) =>
    spacingMm === null ? [] : [Math.sqrt((box[2] - box[0]) * spacingMm[1] * (box[3] - box[1]) * spacingMm[0])],
  )
}

/** Square root of the area. */
function boxSide([x1, y1, x2, y2]: Readonly<Box>): number {
  return Math.sqrt((x2 - x1) * (y2 - y1))
}

const MAX_BINS = 24

/** At most 24 bins of a round width, for values of at least 0. */
export function histogram(values: readonly number[]): Histogram {
  const most = Math.max(...values)
  const widths = [1, 10, 100, 1000, 10_000, 100_000].flatMap((decade) => [1, 2, 5].map((step) => step * decade))
  const width = widths.find((candidate) => most / candidate < MAX_BINS) ?? most
  const counts = new Array<number>(Math.floor(most / width) + 1).fill(0)
  for (const value of values) counts[Math.floor(value / width)]!++
  return { width, counts }
}

function planOf(records: readonly CheckedRecord[], multiple: number): CheckReport['plan'] {
  const real = records.every((record) => record.cache !== undefined)
  const bytes = (record: CheckedRecord) => cacheBytes(record.cache?.crop ?? [0, 0, record.width, record.height])
  const maximum = records.reduce((sum, record) => sum + bytes(record), 0)
  const largest = [...records].sort((a, b) => b.width * b.height - a.width * a.height)[0]
  const up = (value: number) => Math.ceil(value / multiple) * multiple
  return {
    cacheBytes: { maximum, expected: real ? maximum : Math.round(maximum * EXPECTED_SHARE) },
    largestImage:
      largest === undefined
        ? null
        : {
            id: largest.id,
            width: largest.width,
            height: largest.height,
            canvas: [up(largest.height), up(largest.width)],
            inputBytes: up(largest.height) * up(largest.width) * 4,
          },
  }
}

function proposal(problem: Problem): FixProposal {
  const target = problem.details?.['target'] ?? problem.details?.['id']
  const name = typeof target === 'string' ? target : null
  const { rule, level, message, where, fix } = problem
  // Of the warnings only a copy is left out: a clipped or tiny lesion is still a lesion, and would become background.
  const harmful = level === 'error' || rule === 'image/duplicate'
  const action = !harmful ? 'look' : name === null ? 'correct' : 'exclude'
  return { rule, target: name, action, message, where, fix }
}

/** Targets of all proposals to exclude, sorted: the content of `--exclude`. */
export function exclusionList(report: CheckReport): string[] {
  const targets = report.fixes.flatMap((fix) => (fix.action === 'exclude' && fix.target !== null ? [fix.target] : []))
  return [...new Set(targets)].sort()
}

/**
 * The proposals as a text to edit: one image or lesion to leave out per line, the reason above it; everything else is a comment.
 * `parsePlan` reads it back.
 */
export function fixPlan(report: CheckReport): string {
  const lines = [
    '# Proposals of `data check`. Lines without # are left out by `data prepare --exclude-from` this file.',
  ]
  const listed = new Set<string>()
  for (const { rule, target, action, message, where, fix } of report.fixes) {
    lines.push(`# ${action} ${rule}: ${message} (${where}) -> ${fix}`.replaceAll(/\s+/g, ' '))
    if (action !== 'exclude' || target === null || listed.has(target)) continue
    listed.add(target)
    lines.push(target)
  }
  return `${lines.join('\n')}\n`
}

/** Ids that a plan, or any list with one id per line, leaves out. */
export function parsePlan(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
}

/** Bytes for people: MiB below one GiB. */
export function bytesText(bytes: number): string {
  return bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(2)} GiB`
}

/** The report as plain text: rules, counts, sizes, plan. Extra sections (anchor coverage) may be appended by the caller. */
export function formatCheck(report: CheckReport): string {
  const lines = [
    `${report.images} images of ${report.patients} patients: ${report.positive} positive, ${report.negative} negative, ${report.unannotated} not annotated`,
  ]
  const names = {
    view: 'view',
    side: 'side',
    density: 'density',
    biRads: 'BI-RADS',
    part: 'part',
    lesionClass: 'lesions',
  } as const
  for (const [key, title] of Object.entries(names) as [keyof typeof names, string][]) {
    const entries = Object.entries(report.counts[key])
    if (entries.length > 0) lines.push(`  ${title.padEnd(9)} ${entries.map(([name, n]) => `${name} ${n}`).join(', ')}`)
  }
  const sizes = Object.entries(report.counts.size)
  lines.push(
    `  size      ${sizes.length > 4 ? `${sizes.length} different` : sizes.map(([name, n]) => `${name} ${n}`).join(', ')}`,
  )
  const show = (title: string, s: Spread, digits: number) => {
    const value = (v: number) => v.toFixed(digits)
    lines.push(
      `  ${title.padEnd(12)} ${value(s.min)} / ${value(s.p5)} / ${value(s.median)} / ${value(s.p95)} / ${value(s.max)}`,
    )
  }
  if (report.sizesPx !== null) {
    lines.push('lesions: minimum / 5 % / median / 95 % / maximum')
    show('width px', report.sizesPx.width, 0)
    show('height px', report.sizesPx.height, 0)
    if (report.sizesMm === null) lines.push('  size mm      unknown: no pixel spacing')
    else show('size mm', report.sizesMm, 1)
  }
  lines.push(report.rules.length === 0 ? 'rules: nothing found' : 'rules:')
  for (const { rule, level, count, example } of report.rules) {
    lines.push(`  ${level.padEnd(7)} ${rule.padEnd(22)} ${String(count).padStart(6)}  ${example.message}`)
    lines.push(`          ${example.where} -> ${example.fix}`)
  }
  const { cacheBytes: bytes, largestImage } = report.plan
  lines.push(`plan: prepared folder about ${bytesText(bytes.expected)}, at most ${bytesText(bytes.maximum)}`)
  if (largestImage !== null) {
    const [h, w] = largestImage.canvas
    lines.push(
      `  largest image ${largestImage.height}x${largestImage.width}, canvas ${h}x${w}, network input ${bytesText(largestImage.inputBytes)}`,
    )
  }
  return `${lines.join('\n')}\n`
}
