// Our own checker of a structured report, run on every one before it is handed out: order and number of items, value types,
// relationships, context groups, references that resolve, the decision table, complete evidence, coordinates inside the matrix. It
// reads the data set only, so that it checks a file as well as a fresh report. External tools accept by-value references where
// the standard wants by-reference ones; this does not. Inference spec 3.4, 3.7.
import { type DicomJson, firstText, itemsIn } from '../../data/dicom/dataset.js'
import { CODES, type Code, INTENTS, SUCCESS, SUMMARIES, sameCode } from './codes.js'
import { fromDicom, type Item, type Relation } from './content.js'
import { RESULT_CLASSES } from './header.js'
import { type Row, TID_1500, TID_4000 } from './templates.js'

/** Rows and columns of the images, by SOP instance UID. */
export type Matrices = ReadonlyMap<string, { rows: number; columns: number }>

/** Relationships that may point to another item of the tree (PS3.3 A.35.5.3.1.2). */
const BY_REFERENCE = new Set<Relation | null>(['HAS PROPERTIES', 'INFERRED FROM', 'SELECTED FROM'])

/** Value types that each relationship may lead to in these documents. */
const TARGETS: Record<Relation, readonly Item['value']['type'][]> = {
  CONTAINS: ['CONTAINER', 'CODE', 'TEXT', 'NUM', 'IMAGE', 'SCOORD'],
  'HAS OBS CONTEXT': ['TEXT', 'CODE', 'UIDREF', 'DATE', 'TIME', 'NUM'],
  'HAS ACQ CONTEXT': ['TEXT', 'CODE', 'UIDREF', 'DATE', 'TIME', 'NUM'],
  'HAS CONCEPT MOD': ['TEXT', 'CODE'],
  'HAS PROPERTIES': ['TEXT', 'CODE', 'NUM', 'SCOORD', 'IMAGE', 'UIDREF', 'DATE', 'TIME', 'CONTAINER', 'REFERENCE'],
  'INFERRED FROM': ['CONTAINER', 'TEXT', 'CODE', 'NUM', 'SCOORD', 'IMAGE', 'REFERENCE'],
  'SELECTED FROM': ['IMAGE', 'REFERENCE'],
}

const HEADER: readonly (readonly [tag: string, name: string, value: string | null])[] = [
  ['00080005', 'SpecificCharacterSet', 'ISO_IR 192'],
  ['00080018', 'SOPInstanceUID', null],
  ['00080060', 'Modality', 'SR'],
  ['0020000D', 'StudyInstanceUID', null],
  ['0020000E', 'SeriesInstanceUID', null],
  ['00080023', 'ContentDate', null],
  ['00080033', 'ContentTime', null],
  ['00080201', 'TimezoneOffsetFromUTC', null],
  ['0040A491', 'CompletionFlag', 'COMPLETE'],
  ['0040A493', 'VerificationFlag', 'UNVERIFIED'],
]

/** Faults of a Mammography CAD SR or Comprehensive 3D SR; empty for a good one. No fault quotes a patient attribute. */
export function checkReport(dataset: DicomJson, matrices: Matrices): string[] {
  const sopClass = firstText(dataset, '00080016')
  const template =
    sopClass === RESULT_CLASSES['cad-sr'] ? TID_4000 : sopClass === RESULT_CLASSES.tid1500 ? TID_1500 : undefined
  if (template === undefined) return ['SOPClassUID: expected Mammography CAD SR or Comprehensive 3D SR']
  const root = fromDicom(dataset)
  if (root === null) return ['content: an item whose value type is not one of ours or has no value']
  const faults: string[] = []
  checkHeader(dataset, faults)
  checkRow(root, template, '1', faults)
  walk(root, [1], (item, path) => checkItem(item, path, root, faults))
  const images = collect(root, ({ value }) => (value.type === 'IMAGE' ? value : undefined))
  checkEvidence(dataset, new Set(images.map(({ instance }) => instance)), new Set(matrices.keys()), faults)
  checkCoordinates(root, matrices, faults)
  checkUnique(root, faults)
  if (template === TID_4000) checkDecision(root, faults)
  else checkEvaluation(root, faults)
  return faults
}

function checkHeader(dataset: DicomJson, faults: string[]): void {
  for (const [tag, name, value] of HEADER) {
    const got = firstText(dataset, tag)
    if (value === null ? got === '' : got !== value) faults.push(`${name}: expected ${value ?? 'a value'}`)
  }
  for (const tag of ['00081111', '0040A372', '00100010', '00100020', '00100030', '00100040', '00080090', '00080050']) {
    if (dataset[tag] === undefined)
      faults.push(`(${tag.slice(0, 4)},${tag.slice(4)}): expected to be present, even empty`)
  }
}

/** One item against its row, and its children against the rows below, in their order. */
function checkRow(item: Item, row: Row, path: string, faults: string[]): void {
  const { value } = item
  const wrong = (what: string) => faults.push(`${path}: ${what}`)
  if (value.type === 'CODE' && row.values !== undefined && !row.values.some((code) => sameCode(code, value.code))) {
    wrong(`expected a code of its context group, got ${value.code.value} ${value.code.scheme}`)
  }
  if (value.type === 'NUM') {
    if (!sameCode(value.unit, row.unit)) wrong(`expected the unit ${row.unit?.value}, got ${value.unit.value}`)
    const [least, most] = row.range ?? [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]
    if (!(value.number >= least && value.number <= most)) wrong(`expected a number of ${least} to ${most}`)
  }
  if (value.type === 'CONTAINER' && value.template !== row.template) {
    wrong(`expected template ${row.template ?? 'none'}, got ${value.template ?? 'none'}`)
  }
  if (value.type === 'SCOORD' && value.graphic !== row.graphic)
    wrong(`expected a ${row.graphic}, got a ${value.graphic}`)
  let at = 0
  for (const below of row.rows ?? []) {
    const first = at
    while (at < item.children.length && matches(item.children[at]!, below)) {
      checkRow(item.children[at]!, below, `${path}.${at + 1}`, faults)
      at++
    }
    const count = at - first
    const [least, most] = below.times
    if (count < least || count > most) {
      wrong(
        `expected ${least === most ? least : `${least} to ${most}`} of ${nameOf(below)} at this place, got ${count}`,
      )
    }
  }
  if (at < item.children.length) {
    const { relation, concept, value } = item.children[at]!
    wrong(`${nameOf({ relation, concept, type: value.type })} has no place as item ${at + 1}`)
  }
}

function matches({ relation, concept, value }: Item, row: Row): boolean {
  return relation === row.relation && value.type === row.type && sameCode(concept, row.concept)
}

function nameOf({ relation, concept, type }: Pick<Row, 'relation' | 'concept' | 'type'>): string {
  return [relation, type, concept?.meaning].filter(Boolean).join(' ')
}

/** What holds for any item, whatever its template. */
function checkItem(item: Item, path: readonly number[], root: Item, faults: string[]): void {
  const { relation, value, concept } = item
  const wrong = (what: string) => faults.push(`${path.join('.')}: ${what}`)
  if (relation !== null && !TARGETS[relation]?.includes(value.type)) wrong(`${relation} cannot lead to ${value.type}`)
  for (const code of [concept, value.type === 'CODE' ? value.code : null, value.type === 'NUM' ? value.unit : null]) {
    if (code !== null) checkCode(code, wrong)
  }
  if (value.type === 'REFERENCE') {
    if (!BY_REFERENCE.has(relation)) wrong(`${relation} must not be by reference`)
    if (item.children.length > 0 || concept !== null) wrong('a reference has no concept and no content')
    if (at(root, value.path)?.value.type !== 'IMAGE') wrong(`reference ${value.path.join('\\')} leads to no image`)
  }
  if (value.type === 'UIDREF' && !isUid(value.text)) wrong('expected a UID')
  if (value.type === 'TEXT' && value.text.trim() === '') wrong('expected a text that is not empty')
  if (value.type === 'IMAGE' && !(isUid(value.instance) && isUid(value.sopClass)))
    wrong('expected the UIDs of an image')
  if (value.type === 'SCOORD') {
    const points = value.points.length / 2
    const closed = points === 5 && value.points[0] === value.points[8] && value.points[1] === value.points[9]
    if (value.graphic === 'POINT' ? points !== 1 : !closed) wrong(`expected one point, or five that end at the first`)
  }
}

function checkCode({ value, scheme, meaning }: Code, wrong: (what: string) => void): void {
  if (value === '' || value.length > 16 || scheme === '' || scheme.length > 16) {
    wrong('expected a code value and scheme of 1 to 16 characters')
  }
  if (meaning === '' || meaning.length > 64) wrong('expected a code meaning of 1 to 64 characters')
  if (/\u200b/.test(meaning)) wrong('a zero-width space in a code meaning')
}

function checkEvidence(
  dataset: DicomJson,
  mentioned: ReadonlySet<string>,
  analysed: ReadonlySet<string>,
  faults: string[],
): void {
  const listed = new Set<string>()
  const own = firstText(dataset, '0020000D')
  for (const [tag, isOwn] of [
    ['0040A375', true],
    ['0040A385', false],
  ] as const) {
    for (const study of itemsIn(dataset, tag)) {
      if ((firstText(study, '0020000D') === own) !== isOwn) faults.push(`evidence: a study in the wrong list ${tag}`)
      for (const series of itemsIn(study, '00081115')) {
        for (const object of itemsIn(series, '00081199')) listed.add(firstText(object, '00081155'))
      }
    }
  }
  const missing = [...new Set([...mentioned, ...analysed])].filter((instance) => !listed.has(instance)).length
  if (missing > 0) faults.push(`evidence: ${missing} analysed images are not listed`)
  const absent = [...analysed].filter((instance) => !mentioned.has(instance)).length
  if (absent > 0) faults.push(`image library: ${absent} analysed images are not in it`)
  if (itemsIn(dataset, '0040A375').length === 0) faults.push('evidence: (0040,A375) is empty')
}

function checkCoordinates(root: Item, matrices: Matrices, faults: string[]): void {
  walk(root, [1], ({ value, children }, path) => {
    if (value.type !== 'SCOORD') return
    const source = children.find(({ relation }) => relation === 'SELECTED FROM')
    const target = source?.value.type === 'REFERENCE' ? at(root, source.value.path)?.value : source?.value
    if (target?.type !== 'IMAGE') return
    const matrix = matrices.get(target.instance)
    const inside = (n: number, limit: number) => n >= 0 && n <= limit
    const good = value.points.every((n, i) => inside(n, i % 2 === 0 ? (matrix?.columns ?? -1) : (matrix?.rows ?? -1)))
    if (!good) faults.push(`${path.join('.')}: coordinates outside the matrix of its image`)
  })
}

/** Viewers merge findings with equal tracking UIDs. */
function checkUnique(root: Item, faults: string[]): void {
  const uids = collect(root, ({ concept, value }) =>
    value.type === 'UIDREF' && sameCode(concept, CODES.trackingUid) ? value.text : undefined,
  )
  if (new Set(uids).size !== uids.length) faults.push('tracking: two findings with one UID')
}

/** Inference spec 3.4: what the summaries may say, given the findings and the images that succeeded and failed. */
function checkDecision(root: Item, faults: string[]): void {
  const [, library, summary, detections, analyses] = root.children
  if (library === undefined || summary === undefined || detections === undefined || analyses === undefined) return
  const findings = summary.children.length
  const performed = (concept: Code) => {
    const container = detections.children.find((child) => sameCode(child.concept, concept))
    return (container?.children ?? []).flatMap(({ children }) =>
      children.flatMap(({ value }) => (value.type === 'REFERENCE' ? [value.path.join('\\')] : [])),
    )
  }
  const good = performed(CODES.successfulDetections)
  const failed = performed(CODES.failedDetections)
  const expected =
    failed.length === 0
      ? [findings > 0 ? SUMMARIES.allWith : SUMMARIES.allWithout, SUCCESS.succeeded]
      : good.length === 0
        ? [SUMMARIES.none, SUCCESS.failed]
        : [findings > 0 ? SUMMARIES.someWith : SUMMARIES.someWithout, SUCCESS.partially]
  const codeOf = (item: Item) => (item.value.type === 'CODE' ? item.value.code : null)
  for (const [n, item] of [summary, detections].entries()) {
    if (!sameCode(codeOf(item), expected[n]))
      faults.push(`decision table: expected ${expected[n]!.meaning} in ${item.concept?.meaning}`)
  }
  if (!sameCode(codeOf(analyses), SUCCESS.notAttempted)) faults.push('decision table: expected no analyses attempted')
  if (good.length === 0 && findings > 0) faults.push('decision table: findings although nothing was analysed')
  const all = [...good, ...failed]
  if (new Set(all).size !== all.length || all.length !== library.children.length) {
    faults.push('detections: expected every image of the library once, as successful or failed')
  }
  for (const [n, impression] of summary.children.entries()) {
    const intents = collect(impression, ({ concept, value }) =>
      sameCode(concept, CODES.renderingIntent) && value.type === 'CODE' ? value.code : undefined,
    )
    if (!intents.every((intent) => sameCode(intent, intents[0]))) {
      faults.push(`finding ${n + 1}: expected one rendering intent on both levels`)
    }
    if (sameCode(intents[0], INTENTS.hidden)) faults.push(`finding ${n + 1}: a hidden finding is not written`)
    const used = collect(impression, ({ value }) => (value.type === 'REFERENCE' ? value.path.join('\\') : undefined))
    if (new Set(used).size !== 1) faults.push(`finding ${n + 1}: expected center and outline on one image`)
    if (used.some((path) => !good.includes(path))) faults.push(`finding ${n + 1}: expected an image that was analysed`)
  }
}

/** TID 1500 says in one code what the decision table says in two. */
function checkEvaluation(root: Item, faults: string[]): void {
  const measurements = root.children.find(({ concept }) => sameCode(concept, CODES.imagingMeasurements))
  const evaluation = root.children.find(({ concept }) => sameCode(concept, CODES.qualitativeEvaluations))
  const value = evaluation?.children[0]?.value
  const code = value?.type === 'CODE' ? value.code : null
  const withFindings = [SUMMARIES.allWith, SUMMARIES.someWith].some((summary) => sameCode(summary, code))
  if (withFindings !== (measurements?.children.length ?? 0) > 0) {
    faults.push('evaluation: the summary and the measurement groups do not agree')
  }
}

function walk(item: Item, path: readonly number[], visit: (item: Item, path: readonly number[]) => void): void {
  visit(item, path)
  for (const [n, child] of item.children.entries()) walk(child, [...path, n + 1], visit)
}

function collect<T>(root: Item, pick: (item: Item) => T | undefined): T[] {
  const found: T[] = []
  walk(root, [1], (item) => {
    const value = pick(item)
    if (value !== undefined) found.push(value)
  })
  return found
}

/** The item at a path from 1 for the root. */
function at(root: Item, path: readonly number[]): Item | undefined {
  if (path[0] !== 1) return undefined
  return path.slice(1).reduce<Item | undefined>((item, n) => item?.children[n - 1], root)
}

function isUid(text: string): boolean {
  return text.length <= 64 && /^(0|[1-9]\d*)(\.(0|[1-9]\d*))+$/.test(text)
}
