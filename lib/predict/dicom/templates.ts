// The templates of the two reports as tables: which items, in which order, how many, with which values. Tighter than the standard where
// we write less than it allows. Sources: DICOM PS3.16 TID 4000, 4001, 4003, 4006, 4015, 4017, 4019, 4020, 4021, 4108 and TID 1500,
// 1600, 1410; what of it was compared is told in codes.ts. check.ts walks a report along these tables.
import { CHOICES, CODES, CONTEXT_GROUPS, type Code, SIDES } from './codes.js'
import type { ItemValue, Relation } from './content.js'

export interface Row {
  relation: Relation | null
  type: ItemValue['type']
  concept: Code | null
  /** How often in a row: least and most. */
  times: readonly [number, number]
  values?: readonly Code[]
  unit?: Code
  template?: string
  graphic?: 'POINT' | 'POLYLINE'
  /** Numbers: least and most. */
  range?: readonly [number, number]
  rows?: readonly Row[]
}

const ONE = [1, 1] as const
const OPTIONAL = [0, 1] as const
const ANY = [0, Number.POSITIVE_INFINITY] as const
const SOME = [1, Number.POSITIVE_INFINITY] as const

function row(
  relation: Relation | null,
  type: Row['type'],
  concept: Code | null,
  times: Row['times'],
  more: Partial<Row> = {},
): Row {
  return { relation, type, concept, times, ...more }
}

const language = row('HAS CONCEPT MOD', 'CODE', CODES.language, ONE, { values: [CHOICES.languageOfContent] })

function algorithm(relation: Relation): Row[] {
  return [
    row(relation, 'TEXT', CODES.algorithmName, ONE),
    row(relation, 'TEXT', CODES.algorithmVersion, ONE),
    ...(CHOICES.manufacturerAmongAlgorithmItems ? [row(relation, 'TEXT', CODES.algorithmManufacturer, ONE)] : []),
    row(relation, 'TEXT', CODES.algorithmParameters, SOME),
    row(relation, 'CODE', CODES.algorithmFamily, ONE, { values: [CODES.artificialIntelligence] }),
  ]
}

const percent = { unit: CODES.percent, range: [0, 100] as const }
function certainty(relation: Relation): Row[] {
  return [
    row(relation, 'NUM', CODES.certainty, OPTIONAL, percent),
    row(relation, 'NUM', CODES.probabilityOfCancer, OPTIONAL, percent),
  ]
}

const tracking = [
  row('HAS OBS CONTEXT', 'TEXT', CODES.trackingIdentifier, ONE),
  row('HAS OBS CONTEXT', 'UIDREF', CODES.trackingUid, ONE),
]

const context = 'HAS ACQ CONTEXT'
const libraryEntry = row('CONTAINS', 'IMAGE', null, SOME, {
  rows: [
    row(context, 'CODE', CODES.imageLaterality, OPTIONAL, { values: CONTEXT_GROUPS[6022] }),
    row(context, 'CODE', CODES.imageView, OPTIONAL, {
      values: CONTEXT_GROUPS[4014],
      rows: [row('HAS CONCEPT MOD', 'CODE', CODES.imageViewModifier, ANY, { values: CONTEXT_GROUPS[4015] })],
    }),
    row(context, 'TEXT', CODES.orientationRow, OPTIONAL),
    row(context, 'TEXT', CODES.orientationColumn, OPTIONAL),
    row(context, 'DATE', CODES.studyDate, OPTIONAL),
    row(context, 'TIME', CODES.studyTime, OPTIONAL),
    row(context, 'DATE', CODES.contentDate, OPTIONAL),
    row(context, 'TIME', CODES.contentTime, OPTIONAL),
    row(context, 'NUM', CODES.horizontalSpacing, OPTIONAL, { unit: CODES.millimetre }),
    row(context, 'NUM', CODES.verticalSpacing, OPTIONAL, { unit: CODES.millimetre }),
    row(context, 'NUM', CODES.positionerAngle, OPTIONAL, { unit: CODES.degree }),
  ],
})

const intent = row('HAS CONCEPT MOD', 'CODE', CODES.renderingIntent, ONE, { values: CONTEXT_GROUPS[6034] })
const selected = [row('SELECTED FROM', 'REFERENCE', null, ONE)]

const impression = row('INFERRED FROM', 'CONTAINER', CODES.impression, ANY, {
  rows: [
    intent,
    row('CONTAINS', 'CODE', CODES.singleImageFinding, ONE, {
      values: [CODES.density],
      rows: [
        intent,
        ...tracking,
        ...algorithm('HAS PROPERTIES'),
        ...certainty('HAS PROPERTIES'),
        row('HAS PROPERTIES', 'SCOORD', CODES.center, ONE, { graphic: 'POINT', rows: selected }),
        row('HAS PROPERTIES', 'SCOORD', CODES.outline, ONE, { graphic: 'POLYLINE', rows: selected }),
      ],
    }),
  ],
})

function performed(concept: Code): Row {
  return row('INFERRED FROM', 'CONTAINER', concept, OPTIONAL, {
    rows: [
      row('CONTAINS', 'CODE', CODES.detectionPerformed, ONE, {
        values: [CODES.density],
        rows: [...algorithm('HAS PROPERTIES'), row('HAS PROPERTIES', 'REFERENCE', null, SOME)],
      }),
    ],
  })
}

export const TID_4000: Row = row(null, 'CONTAINER', CODES.mammographyCadReport, ONE, {
  template: '4000',
  rows: [
    language,
    row('CONTAINS', 'CONTAINER', CODES.imageLibrary, ONE, { rows: [libraryEntry] }),
    row('CONTAINS', 'CODE', CODES.processingSummary, ONE, { values: CONTEXT_GROUPS[6047], rows: [impression] }),
    row('CONTAINS', 'CODE', CODES.summaryOfDetections, ONE, {
      values: CONTEXT_GROUPS[6042],
      rows: [performed(CODES.successfulDetections), performed(CODES.failedDetections)],
    }),
    row('CONTAINS', 'CODE', CODES.summaryOfAnalyses, ONE, { values: CONTEXT_GROUPS[6042] }),
  ],
})

const measurementGroup = row('CONTAINS', 'CONTAINER', CODES.measurementGroup, SOME, {
  rows: [
    ...tracking,
    row('CONTAINS', 'CODE', CODES.finding, ONE, { values: [CODES.mass] }),
    row('HAS CONCEPT MOD', 'CODE', CODES.findingSite, ONE, {
      values: [CODES.breast],
      rows: [row('HAS CONCEPT MOD', 'CODE', CODES.laterality, OPTIONAL, { values: Object.values(SIDES) })],
    }),
    row('CONTAINS', 'SCOORD', CODES.imageRegion, ONE, {
      graphic: 'POLYLINE',
      rows: [row('SELECTED FROM', 'IMAGE', null, ONE)],
    }),
    ...algorithm('HAS CONCEPT MOD'),
    ...certainty('CONTAINS'),
  ],
})

export const TID_1500: Row = row(null, 'CONTAINER', CODES.imagingMeasurementReport, ONE, {
  template: '1500',
  rows: [
    language,
    row('HAS OBS CONTEXT', 'CODE', CODES.observerType, ONE, { values: [CODES.device] }),
    row('HAS OBS CONTEXT', 'UIDREF', CODES.deviceUid, ONE),
    row('HAS OBS CONTEXT', 'TEXT', CODES.deviceName, ONE),
    row('HAS OBS CONTEXT', 'TEXT', CODES.deviceManufacturer, ONE),
    row('HAS OBS CONTEXT', 'TEXT', CODES.deviceModel, ONE),
    row('HAS CONCEPT MOD', 'CODE', CODES.procedureReported, ONE, { values: [CODES.mammography] }),
    row('CONTAINS', 'CONTAINER', CODES.imageLibrary, ONE, {
      rows: [
        row('CONTAINS', 'CONTAINER', CODES.imageLibraryGroup, ONE, { rows: [row('CONTAINS', 'IMAGE', null, SOME)] }),
      ],
    }),
    row('CONTAINS', 'CONTAINER', CODES.imagingMeasurements, OPTIONAL, { rows: [measurementGroup] }),
    row('CONTAINS', 'CONTAINER', CODES.qualitativeEvaluations, ONE, {
      rows: [
        row('CONTAINS', 'CODE', CODES.processingSummary, ONE, { values: CONTEXT_GROUPS[6047] }),
        row('CONTAINS', 'TEXT', CODES.algorithmParameters, SOME),
      ],
    }),
  ],
})
