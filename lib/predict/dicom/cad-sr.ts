// Mammography CAD SR (TID 4000): the report that mammography workstations draw. Every analysed view stands in the image library, and
// findings refer to it by reference. Shape, margin and density are not estimated, hence not written. Inference spec 3.4.
import type { DicomJson } from '../../data/dicom/dataset.js'
import { BREASTS, CHOICES, CODES, type Code, modifierCodesOf, SUCCESS, viewCodeOf } from './codes.js'
import { type Item, item, type Relation, toDicom } from './content.js'
import { documentHeader, objectIdentity, studyTimeOf } from './header.js'
import {
  type AnalysedImage,
  failureStatements,
  intentOf,
  outlineOf,
  type Reference,
  type Report,
  type ReportedFinding,
  situationOf,
} from './report.js'

/** Path of the first image of the library, but its last number: root, library. */
const LIBRARY = [1, 2] as const

export function cadSr(report: Report, predecessors: readonly Reference[] = []): DicomJson {
  return { ...documentHeader(report, objectIdentity(report, 'cad-sr'), predecessors), ...toDicom(cadTree(report)) }
}

function cadTree(report: Report): Item {
  const { summary, detections } = situationOf(report)
  const all = report.images.map((image, n) => ({ n, failed: image.failure !== null }))
  const performed = (concept: Code, failed: boolean) => {
    const images = all.filter((image) => image.failed === failed)
    if (images.length === 0) return undefined
    const reasons = failed ? failureStatements(report) : []
    return item('INFERRED FROM', concept, { type: 'CONTAINER' }, [
      item('CONTAINS', CODES.detectionPerformed, { type: 'CODE', code: CODES.density }, [
        ...algorithmItems(report, 'HAS PROPERTIES', reasons),
        ...images.map(({ n }) => imageReference('HAS PROPERTIES', n)),
      ]),
    ])
  }
  return item(null, CODES.mammographyCadReport, { type: 'CONTAINER', template: '4000' }, [
    languageItem(),
    item('CONTAINS', CODES.imageLibrary, { type: 'CONTAINER' }, report.images.map(libraryEntry)),
    item(
      'CONTAINS',
      CODES.processingSummary,
      { type: 'CODE', code: summary },
      report.findings.map((finding) => impression(report, finding)),
    ),
    item('CONTAINS', CODES.summaryOfDetections, { type: 'CODE', code: detections }, [
      performed(CODES.successfulDetections, false),
      performed(CODES.failedDetections, true),
    ]),
    item('CONTAINS', CODES.summaryOfAnalyses, { type: 'CODE', code: SUCCESS.notAttempted }),
  ])
}

export function languageItem(): Item {
  return item('HAS CONCEPT MOD', CODES.language, { type: 'CODE', code: CHOICES.languageOfContent })
}

/** TID 4019: what found it and how. */
export function algorithmItems(report: Report, relation: Relation, more: readonly string[] = []): Item[] {
  const { model, manufacturer } = report.settings
  const text = (concept: Code, value: string) => item(relation, concept, { type: 'TEXT', text: value })
  return [
    text(CODES.algorithmName, model.name),
    text(CODES.algorithmVersion, model.version),
    ...(CHOICES.manufacturerAmongAlgorithmItems ? [text(CODES.algorithmManufacturer, manufacturer)] : []),
    ...[...report.statements, ...more].map((statement) => text(CODES.algorithmParameters, statement)),
    item(relation, CODES.algorithmFamily, { type: 'CODE', code: CODES.artificialIntelligence }),
  ]
}

export function certaintyItem(report: Report, relation: Relation, finding: ReportedFinding): Item {
  const concept = report.settings.scoreMeaning === 'malignancy' ? CODES.probabilityOfCancer : CODES.certainty
  return item(relation, concept, { type: 'NUM', number: finding.percent, unit: CODES.percent })
}

/** TID 4003 with one finding of TID 4006. Marks without this intent on both levels stay hidden. */
function impression(report: Report, finding: ReportedFinding): Item {
  const intent = item('HAS CONCEPT MOD', CODES.renderingIntent, { type: 'CODE', code: intentOf(finding) })
  const [x1, y1, x2, y2] = finding.box
  const selected = [imageReference('SELECTED FROM', finding.image)]
  const center = [Math.fround((x1 + x2) / 2), Math.fround((y1 + y2) / 2)]
  return item('INFERRED FROM', CODES.impression, { type: 'CONTAINER' }, [
    intent,
    item('CONTAINS', CODES.singleImageFinding, { type: 'CODE', code: CODES.density }, [
      intent,
      ...trackingItems(finding),
      ...algorithmItems(report, 'HAS PROPERTIES'),
      certaintyItem(report, 'HAS PROPERTIES', finding),
      item('HAS PROPERTIES', CODES.center, { type: 'SCOORD', graphic: 'POINT', points: center }, selected),
      item(
        'HAS PROPERTIES',
        CODES.outline,
        { type: 'SCOORD', graphic: 'POLYLINE', points: outlineOf(finding.box) },
        selected,
      ),
    ]),
  ])
}

export function trackingItems({ trackingId, trackingUid }: ReportedFinding): Item[] {
  return [
    item('HAS OBS CONTEXT', CODES.trackingIdentifier, { type: 'TEXT', text: trackingId }),
    item('HAS OBS CONTEXT', CODES.trackingUid, { type: 'UIDREF', text: trackingUid }),
  ]
}

function imageReference(relation: Relation, image: number): Item {
  return item(relation, null, { type: 'REFERENCE', path: [...LIBRARY, image + 1] })
}

/** TID 4020: an image and what of its header a reader needs. Unknown attributes are left out. */
function libraryEntry(image: AnalysedImage): Item {
  const { source } = image
  const { side, patientOrientation, spacingMm, positionerAngle } = source
  const context = 'HAS ACQ CONTEXT'
  const text = (concept: Code, type: 'TEXT' | 'DATE' | 'TIME', value: string | undefined) =>
    value === undefined || value === '' ? undefined : item(context, concept, { type, text: value })
  const number = (concept: Code, value: number | null | undefined, unit: Code) =>
    value === null || value === undefined ? undefined : item(context, concept, { type: 'NUM', number: value, unit })
  const view = viewCodeOf(source.viewCodes, source.view)
  const modifiers = modifierCodesOf(source.modifierCodes)
  const study = studyTimeOf(image)
  const { sopClass, instance, frame } = source
  return item('CONTAINS', null, { type: 'IMAGE', sopClass, instance, frame }, [
    side === null ? undefined : item(context, CODES.imageLaterality, { type: 'CODE', code: BREASTS[side] }),
    view === undefined
      ? undefined
      : item(
          context,
          CODES.imageView,
          { type: 'CODE', code: view },
          modifiers.map((code) => item('HAS CONCEPT MOD', CODES.imageViewModifier, { type: 'CODE', code })),
        ),
    text(CODES.orientationRow, 'TEXT', patientOrientation?.[0]),
    text(CODES.orientationColumn, 'TEXT', patientOrientation?.[1]),
    text(CODES.studyDate, 'DATE', study.date),
    text(CODES.studyTime, 'TIME', study.time),
    text(CODES.contentDate, 'DATE', source.contentDate),
    text(CODES.contentTime, 'TIME', source.contentTime),
    number(CODES.horizontalSpacing, spacingMm?.[1], CODES.millimetre),
    number(CODES.verticalSpacing, spacingMm?.[0], CODES.millimetre),
    number(CODES.positionerAngle, positionerAngle, CODES.degree),
  ])
}
