// A picture of one image with its findings drawn into the pixels, as colour secondary capture: the last resort for viewers that draw
// nothing else. No patient text in the pixels. Modules: DICOM PS3.3 A.8.1, C.7.6.1, C.8.6.1. Inference spec 3.6.
import type { DicomJson } from '../../data/dicom/dataset.js'
import { drawView } from '../../data/view.js'
import { CODES } from './codes.js'
import { codeItem, referenceItem, sequence } from './content.js'
import { commonHeader, objectIdentity, stamp } from './header.js'
import type { Report } from './report.js'

export interface PictureOptions {
  /** Longer side of the picture at most. */
  maxSide: number
}

/** Object for image `n` of the report. `pixels` are those of the whole image, as the reader of images gives them. */
export function secondaryCapture(
  report: Report,
  n: number,
  pixels: Uint16Array,
  { maxSide }: PictureOptions,
): DicomJson {
  const { source } = report.images[n]!
  const shown = report.findings.filter(({ image, shown }) => image === n && shown)
  const { displayThreshold } = report.settings
  const { width, height, rgb } = drawView({
    pixels,
    width: source.columns,
    height: source.rows,
    maxSide,
    predictions: shown.map(({ box, percent }) => ({ box: [...box], score: percent / 100 })),
    title: `Research use only - not for diagnosis. Masses >= ${displayThreshold}: ${shown.length}`,
  })
  const { date, time } = stamp(report)
  return {
    ...commonHeader(report, objectIdentity(report, 'sc', String(n + 1)), n + 1),
    '00080008': { vr: 'CS', Value: ['DERIVED', 'SECONDARY'] },
    '00080023': { vr: 'DA', Value: [date] },
    '00080033': { vr: 'TM', Value: [time] },
    '00080064': { vr: 'CS', Value: ['WSD'] },
    '00082111': { vr: 'ST', Value: ['Reduced to 8 bits, findings drawn into the pixels'] },
    '00082112': sequence([{ ...referenceItem(source), '0040A170': sequence([codeItem(CODES.sourceImage)]) }]),
    '00200020': { vr: 'CS', ...(source.patientOrientation === null ? {} : { Value: source.patientOrientation }) },
    ...(source.side === null ? { '00200060': { vr: 'CS' } } : { '00200062': { vr: 'CS', Value: [source.side] } }),
    '00280002': { vr: 'US', Value: [3] },
    '00280004': { vr: 'CS', Value: ['RGB'] },
    '00280006': { vr: 'US', Value: [0] },
    '00280010': { vr: 'US', Value: [height] },
    '00280011': { vr: 'US', Value: [width] },
    '00280100': { vr: 'US', Value: [8] },
    '00280101': { vr: 'US', Value: [8] },
    '00280102': { vr: 'US', Value: [7] },
    '00280103': { vr: 'US', Value: [0] },
    '00280301': { vr: 'CS', Value: ['YES'] },
    '7FE00010': {
      vr: 'OB',
      InlineBinary: Buffer.from(rgb.buffer, rgb.byteOffset, rgb.byteLength).toString('base64'),
    },
  }
}
