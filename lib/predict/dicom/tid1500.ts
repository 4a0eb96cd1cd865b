// Comprehensive 3D SR (TID 1500): the same findings for general viewers, which rarely draw a CAD SR. Unlike there, algorithm items are
// concept modifiers and images are referenced by value. Without findings it says so as a qualitative evaluation. Inference spec 3.5.
import type { DicomJson } from '../../data/dicom/dataset.js'
import { algorithmItems, certaintyItem, languageItem, trackingItems } from './cad-sr.js'
import { CODES, SIDES } from './codes.js'
import { type Item, item, type Relation, toDicom } from './content.js'
import { documentHeader, objectIdentity, PRODUCT } from './header.js'
import {
  type AnalysedImage,
  failureStatements,
  outlineOf,
  type Reference,
  type Report,
  type ReportedFinding,
  situationOf,
} from './report.js'

export function tid1500(report: Report, predecessors: readonly Reference[] = []): DicomJson {
  return {
    ...documentHeader(report, objectIdentity(report, 'tid1500'), predecessors),
    ...toDicom(measurementTree(report)),
  }
}

function measurementTree(report: Report): Item {
  const { model, manufacturer } = report.settings
  const observer = (concept: (typeof CODES)[keyof typeof CODES], text: string) =>
    item('HAS OBS CONTEXT', concept, { type: 'TEXT', text })
  return item(null, CODES.imagingMeasurementReport, { type: 'CONTAINER', template: '1500' }, [
    languageItem(),
    item('HAS OBS CONTEXT', CODES.observerType, { type: 'CODE', code: CODES.device }),
    item('HAS OBS CONTEXT', CODES.deviceUid, { type: 'UIDREF', text: model.deviceUid }),
    observer(CODES.deviceName, model.name),
    observer(CODES.deviceManufacturer, manufacturer),
    observer(CODES.deviceModel, PRODUCT),
    item('HAS CONCEPT MOD', CODES.procedureReported, { type: 'CODE', code: CODES.mammography }),
    item('CONTAINS', CODES.imageLibrary, { type: 'CONTAINER' }, [
      item(
        'CONTAINS',
        CODES.imageLibraryGroup,
        { type: 'CONTAINER' },
        report.images.map((image) => imageItem('CONTAINS', image)),
      ),
    ]),
    // Readers fail on a container without content; the evaluation below says that there are no findings.
    report.findings.length === 0
      ? undefined
      : item(
          'CONTAINS',
          CODES.imagingMeasurements,
          { type: 'CONTAINER' },
          report.findings.map((finding) => measurementGroup(report, finding)),
        ),
    item('CONTAINS', CODES.qualitativeEvaluations, { type: 'CONTAINER' }, [
      item('CONTAINS', CODES.processingSummary, { type: 'CODE', code: situationOf(report).summary }),
      ...[...report.statements, ...failureStatements(report)].map((text) =>
        item('CONTAINS', CODES.algorithmParameters, { type: 'TEXT', text }),
      ),
    ]),
  ])
}

/** TID 1410. */
function measurementGroup(report: Report, finding: ReportedFinding): Item {
  const image = report.images[finding.image]!
  const { side } = image.source
  return item('CONTAINS', CODES.measurementGroup, { type: 'CONTAINER' }, [
    ...trackingItems(finding),
    item('CONTAINS', CODES.finding, { type: 'CODE', code: CODES.mass }),
    item('HAS CONCEPT MOD', CODES.findingSite, { type: 'CODE', code: CODES.breast }, [
      side === null ? undefined : item('HAS CONCEPT MOD', CODES.laterality, { type: 'CODE', code: SIDES[side] }),
    ]),
    item('CONTAINS', CODES.imageRegion, { type: 'SCOORD', graphic: 'POLYLINE', points: outlineOf(finding.box) }, [
      imageItem('SELECTED FROM', image),
    ]),
    ...algorithmItems(report, 'HAS CONCEPT MOD'),
    certaintyItem(report, 'CONTAINS', finding),
  ])
}

function imageItem(relation: Relation, { source: { sopClass, instance, frame } }: AnalysedImage): Item {
  return item(relation, null, { type: 'IMAGE', sopClass, instance, frame })
}
