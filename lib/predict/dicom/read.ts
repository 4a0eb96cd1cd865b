// Reads back the result objects that this software writes: what a report or presentation state says, as numbers. For tests, for
// re-runs that look for an earlier report, and for users who compare. Other vendors' reports are not read.
import { type DicomJson, firstText, itemsIn, readDataset } from '../../data/dicom/dataset.js'
import { DataError } from '../../errors.js'
import { CODES, type Code, INTENTS, SUMMARIES, sameCode } from './codes.js'
import { fromDicom, type Item } from './content.js'
import { RESULT_CLASSES, type ResultKind } from './header.js'
import type { Reference } from './report.js'

export interface ReadFinding {
  /** SOP instance UID of the image. */
  instance: string
  box: [number, number, number, number]
  /** 0..1, to six decimals. */
  score: number
  /** Presentation required; TID 1500 and presentation states do not tell. */
  shown: boolean | null
  trackingUid: string | null
}

export interface ReadResult {
  kind: ResultKind
  reference: Reference
  /** Meaning and code of the processing summary; null in presentation states and pictures. */
  summary: Code | null
  findings: ReadFinding[]
  /** Instances that are listed as evidence, or referenced. */
  images: string[]
  /** Sentences on how the result was made. */
  statements: string[]
  predecessors: Reference[]
  dataset: DicomJson
}

/** Throws ERR_MAMMO_DICOM for files that are not results of this software. */
export function readResult(bytes: Uint8Array, where: string): ReadResult {
  const dataset = readDataset(bytes, where)
  const sopClass = firstText(dataset, '00080016')
  const kind = (Object.keys(RESULT_CLASSES) as ResultKind[]).find((name) => RESULT_CLASSES[name] === sopClass)
  const unknown = () =>
    new DataError('DICOM', 'expected a result object of this software, got another one', {
      where,
      fix: 'give a file that predict wrote',
      details: { rule: 'dicom/result' },
    })
  if (kind === undefined) throw unknown()
  const reference: Reference = {
    study: firstText(dataset, '0020000D'),
    series: firstText(dataset, '0020000E'),
    sopClass,
    instance: firstText(dataset, '00080018'),
  }
  const empty = { kind, reference, summary: null, findings: [], statements: [], predecessors: [], dataset }
  if (kind === 'gsps')
    return { ...empty, findings: marksOf(dataset), images: referencedImages(dataset, '00081115', '00081140') }
  if (kind === 'sc') return { ...empty, images: itemsIn(dataset, '00082112').map(instanceOf) }
  const root = fromDicom(dataset)
  if (root === null) throw unknown()
  const evidence = ['0040A375', '0040A385'].flatMap((tag) =>
    itemsIn(dataset, tag).flatMap((study) => referencedImages(study, '00081115', '00081199')),
  )
  return {
    ...empty,
    summary: codeOf(find(root, CODES.processingSummary)),
    findings: kind === 'cad-sr' ? cadFindings(root) : measuredFindings(root),
    images: evidence,
    statements: [...new Set(texts(root, CODES.algorithmParameters))],
    predecessors: itemsIn(dataset, '0040A360').flatMap(predecessorsIn),
  }
}

/** Whether a summary says that every image was analysed. */
export function isComplete(summary: Code): boolean {
  return sameCode(summary, SUMMARIES.allWith) || sameCode(summary, SUMMARIES.allWithout)
}

function cadFindings(root: Item): ReadFinding[] {
  const library = find(root, CODES.imageLibrary)?.children ?? []
  const summary = find(root, CODES.processingSummary)
  return (summary?.children ?? []).flatMap(({ children }) => {
    const finding = children.find(({ concept }) => sameCode(concept, CODES.singleImageFinding))
    const outline = finding === undefined ? undefined : find(finding, CODES.outline)
    const reference = outline?.children[0]?.value
    const image = reference?.type === 'REFERENCE' ? library[reference.path.at(-1)! - 1]?.value : undefined
    return finding === undefined || outline === undefined || image?.type !== 'IMAGE'
      ? []
      : [
          {
            ...findingOf(finding, outline, image.instance),
            shown: sameCode(codeOf(find(finding, CODES.renderingIntent)), INTENTS.required),
          },
        ]
  })
}

function measuredFindings(root: Item): ReadFinding[] {
  return (find(root, CODES.imagingMeasurements)?.children ?? []).flatMap((group) => {
    const region = find(group, CODES.imageRegion)
    const image = region?.children[0]?.value
    return region === undefined || image?.type !== 'IMAGE' ? [] : [findingOf(group, region, image.instance)]
  })
}

function findingOf(finding: Item, outline: Item, instance: string): ReadFinding {
  const number = (find(finding, CODES.certainty) ?? find(finding, CODES.probabilityOfCancer))?.value
  const tracking = find(finding, CODES.trackingUid)?.value
  return {
    instance,
    box: boxOf(outline.value.type === 'SCOORD' ? outline.value.points : []),
    score: number?.type === 'NUM' ? Number((number.number / 100).toFixed(6)) : Number.NaN,
    shown: null,
    trackingUid: tracking?.type === 'UIDREF' ? tracking.text : null,
  }
}

function marksOf(dataset: DicomJson): ReadFinding[] {
  return itemsIn(dataset, '00700001').flatMap((annotation) => {
    const instance = instanceOf(itemsIn(annotation, '00081140')[0] ?? {})
    const texts = itemsIn(annotation, '00700008')
    return itemsIn(annotation, '00700009').map(
      (graphic, n): ReadFinding => ({
        instance,
        box: boxOf((graphic['00700022']?.Value ?? []) as number[]),
        score: Number(firstText(texts[n] ?? {}, '00700006').replace(/^.* /, '')),
        shown: true,
        trackingUid: null,
      }),
    )
  })
}

function boxOf(points: readonly number[]): ReadFinding['box'] {
  return [points[0] ?? Number.NaN, points[1] ?? Number.NaN, points[4] ?? Number.NaN, points[5] ?? Number.NaN]
}

function predecessorsIn(study: DicomJson): Reference[] {
  return itemsIn(study, '00081115').flatMap((series) =>
    itemsIn(series, '00081199').map((object) => ({
      study: firstText(study, '0020000D'),
      series: firstText(series, '0020000E'),
      sopClass: firstText(object, '00081150'),
      instance: firstText(object, '00081155'),
    })),
  )
}

function referencedImages(dataset: DicomJson, series: string, objects: string): string[] {
  return itemsIn(dataset, series).flatMap((each) => itemsIn(each, objects).map(instanceOf))
}

function instanceOf(reference: DicomJson): string {
  return firstText(reference, '00081155')
}

function find(root: Item, concept: Code): Item | undefined {
  for (const child of root.children) {
    if (sameCode(child.concept, concept)) return child
    const deeper = find(child, concept)
    if (deeper !== undefined) return deeper
  }
  return undefined
}

function codeOf(item: Item | undefined): Code | null {
  return item?.value.type === 'CODE' ? item.value.code : null
}

function texts(root: Item, concept: Code): string[] {
  return root.children.flatMap((child) => [
    ...(sameCode(child.concept, concept) && child.value.type === 'TEXT' ? [child.value.text] : []),
    ...texts(child, concept),
  ])
}
