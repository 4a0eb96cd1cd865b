// Grayscale softcopy presentation state of one image: outlines and scores over the image, drawn by nearly every viewer. The image's own
// grey window is kept. Modules: DICOM PS3.3 A.33.1, C.10.4, C.10.5, C.10.7, C.11. Inference spec 3.6.
import type { DicomElement, DicomJson } from '../../data/dicom/dataset.js'
import type { SourceImage } from '../../data/dicom/source.js'
import { referenceItem, sequence } from './content.js'
import { commonHeader, objectIdentity, PRODUCT, stamp } from './header.js'
import { outlineOf, type Report } from './report.js'

const LAYER = 'MASSES'
/** Blue as PCS-Values of CIELab (PS3.3 C.10.7.1.1): the colour of predictions in the pictures of this software. */
const BLUE = [25000, 45000, 6000]

/** Object for image `n` of the report: its shown findings. Undefined when it has none. */
export function gsps(report: Report, n: number): DicomJson | undefined {
  const { source } = report.images[n]!
  const shown = report.findings.filter(({ image, shown }) => image === n && shown)
  if (shown.length === 0) return undefined
  const object = objectIdentity(report, 'gsps', String(n + 1))
  const { date, time } = stamp(report)
  const reference = referenceItem(source)
  const text = (tag: string, vr: string, value: string): DicomJson => ({ [tag]: { vr, Value: [value] } })
  return {
    ...commonHeader(report, object, n + 1),
    '00200060': { vr: 'CS', ...(source.side === null || source.side === 'B' ? {} : { Value: [source.side] }) },
    // Identification
    ...text('00700080', 'CS', LAYER),
    ...text('00700081', 'LO', `Masses with a score of at least ${report.settings.displayThreshold}`),
    ...text('00700082', 'DA', date),
    ...text('00700083', 'TM', time),
    ...text('00700084', 'PN', PRODUCT),
    // Relationship
    '00081115': sequence([{ '00081140': sequence([reference]), ...text('0020000E', 'UI', source.series) }]),
    // Displayed area: whole image; pixels count from 1 here, unlike in graphics.
    '0070005A': sequence([
      {
        '00081140': sequence([reference]),
        '00700052': { vr: 'SL', Value: [1, 1] },
        '00700053': { vr: 'SL', Value: [source.columns, source.rows] },
        '00700100': { vr: 'CS', Value: ['SCALE TO FIT'] },
        ...aspect(source),
      },
    ]),
    // Annotation
    '00700001': sequence([
      {
        '00081140': sequence([reference]),
        ...text('00700002', 'CS', LAYER),
        '00700008': sequence(
          shown.map(({ percent, box: [, , x2, y1] }) => ({
            ...text('00700004', 'CS', 'PIXEL'),
            ...text('00700006', 'ST', `mass ${(percent / 100).toFixed(2)}`),
            '00700014': { vr: 'FL', Value: [x2, y1] },
            ...text('00700015', 'CS', 'Y'),
          })),
        ),
        '00700009': sequence(
          shown.map(({ box }) => ({
            ...text('00700005', 'CS', 'PIXEL'),
            '00700020': { vr: 'US', Value: [2] },
            '00700021': { vr: 'US', Value: [5] },
            '00700022': { vr: 'FL', Value: outlineOf(box) },
            ...text('00700023', 'CS', 'POLYLINE'),
            ...text('00700024', 'CS', 'N'),
          })),
        ),
      },
    ]),
    '00700060': sequence([
      {
        ...text('00700002', 'CS', LAYER),
        '00700062': { vr: 'IS', Value: [1] },
        '00700066': { vr: 'US', Value: [32768] },
        '00700401': { vr: 'US', Value: BLUE },
      },
    ]),
    ...greyScale(source, reference),
  }
}

/** Pixels are square unless the spacing says otherwise, which the reader of images refuses beyond 1 %. */
function aspect({ spacingMm }: SourceImage): DicomJson {
  return spacingMm === null
    ? { '00700102': { vr: 'IS', Value: [1, 1] } }
    : { '00700101': { vr: 'DS', Value: [...spacingMm] } }
}

/** A presentation state replaces the image's own grey pipeline, so all of it is repeated. */
function greyScale({ rescale, voi, inverted }: SourceImage, reference: DicomJson): DicomJson {
  const window: Record<string, DicomElement> = {}
  if (voi.lut !== null) {
    const { first, bits, data } = inWholeBytes(voi.lut)
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
    window['00283010'] = sequence([
      {
        '00283002': {
          vr: first < 0 ? 'SS' : 'US',
          Value: [data.length === 65536 ? 0 : asSigned(data.length, first), first, bits],
        },
        '00283006': { vr: 'OW', InlineBinary: bytes.toString('base64') },
      },
    ])
  } else if (voi.centres.length > 0) {
    window['00281050'] = { vr: 'DS', Value: voi.centres }
    window['00281051'] = { vr: 'DS', Value: voi.widths }
    if (voi.function !== '') window['00281056'] = { vr: 'CS', Value: [voi.function] }
  }
  return {
    ...(rescale === null
      ? {}
      : {
          '00281052': { vr: 'DS', Value: [rescale.intercept] },
          '00281053': { vr: 'DS', Value: [rescale.slope] },
          '00281054': { vr: 'LO', Value: [rescale.type] },
        }),
    ...(Object.keys(window).length === 0
      ? {}
      : { '00283110': sequence([{ '00081140': sequence([reference]), ...window }]) }),
    '20500020': { vr: 'CS', Value: [inverted ? 'INVERSE' : 'IDENTITY'] },
  }
}

/** Tables here have entries of 8 or 16 bits only (PS3.3 C.11.8); others are stretched to 16. */
function inWholeBytes(lut: NonNullable<SourceImage['voi']['lut']>): typeof lut {
  if (lut.bits === 8 || lut.bits === 16) return lut
  const most = 2 ** lut.bits - 1
  return { ...lut, bits: 16, data: lut.data.map((value) => Math.round((Math.min(value, most) * 65535) / most)) }
}

/** A count in a descriptor of signed numbers keeps its 16 bits. */
function asSigned(count: number, first: number): number {
  return first < 0 ? (count << 16) >> 16 : count
}
