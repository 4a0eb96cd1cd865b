// What all result objects have in common: patient and study taken over from the images, series, equipment, references to the images.
// Modules: DICOM PS3.3 C.7, C.12.1, C.17.2. The content of an object is made elsewhere.
import { type DicomJson, firstText } from '../../data/dicom/dataset.js'
import { CODES } from './codes.js'
import { codeItem, referenceItem, sequence } from './content.js'
import type { AnalysedImage, Reference, Report } from './report.js'
import { resultUid } from './uid.js'

const CLASSES = '1.2.840.10008.5.1.4.1.1'
export const RESULT_CLASSES = {
  'cad-sr': `${CLASSES}.88.50`,
  tid1500: `${CLASSES}.88.34`,
  gsps: `${CLASSES}.11.1`,
  sc: `${CLASSES}.7`,
} as const
export type ResultKind = keyof typeof RESULT_CLASSES

const SERIES: Record<ResultKind, { number: number; modality: string; name: string }> = {
  'cad-sr': { number: 9001, modality: 'SR', name: 'Mass CAD' },
  tid1500: { number: 9002, modality: 'SR', name: 'Mass report' },
  gsps: { number: 9003, modality: 'PR', name: 'Mass marks' },
  sc: { number: 9004, modality: 'OT', name: 'Mass picture' },
}

/** Within the 64 characters of a description. */
export const RESEARCH_USE = 'Research use only – not for diagnosis'
export const PRODUCT = 'mammo-retinanet'

export interface ObjectIdentity {
  kind: ResultKind
  instance: string
  series: string
}

/** UIDs of an object; `part` tells the images of a series apart. */
export function objectIdentity(report: Report, kind: ResultKind, part = ''): ObjectIdentity {
  return {
    kind,
    instance: resultUid(report.identity, `${kind}${part === '' ? '' : ` ${part}`}`),
    series: resultUid(report.identity, `${kind} series`),
  }
}

/** Attributes of every object: patient, study, series, equipment, SOP common. `number` is its number in the series. */
export function commonHeader(report: Report, { kind, instance, series }: ObjectIdentity, number: number): DicomJson {
  const { settings } = report
  const { date, time, zone } = stamp(report)
  const { number: seriesNumber, modality, name } = SERIES[kind]
  const equipment = {
    '00080070': { vr: 'LO', Value: [settings.manufacturer] },
    '00081090': { vr: 'LO', Value: [PRODUCT] },
    '00181020': { vr: 'LO', Value: [settings.toolVersion, `${settings.model.name} ${settings.model.version}`] },
  }
  return {
    ...report.images[0]!.source.identity,
    '00080005': { vr: 'CS', Value: ['ISO_IR 192'] },
    '00080012': { vr: 'DA', Value: [date] },
    '00080013': { vr: 'TM', Value: [time] },
    '00080016': { vr: 'UI', Value: [RESULT_CLASSES[kind]] },
    '00080018': { vr: 'UI', Value: [instance] },
    '00080060': { vr: 'CS', Value: [modality] },
    '0008103E': { vr: 'LO', Value: [`${name}. ${RESEARCH_USE}`] },
    '00080201': { vr: 'SH', Value: [zone] },
    ...equipment,
    '00181000': { vr: 'LO', Value: [settings.model.sha256] },
    '0018A001': sequence([
      {
        ...equipment,
        '00181002': { vr: 'UI', Value: [settings.model.deviceUid] },
        '0040A170': sequence([codeItem(CODES.processingEquipment)]),
      },
    ]),
    '0020000E': { vr: 'UI', Value: [series] },
    '00200011': { vr: 'IS', Value: [seriesNumber] },
    '00200013': { vr: 'IS', Value: [number] },
  }
}

/** Attributes of a structured report besides its content. `predecessors` are earlier reports on the same study. */
export function documentHeader(report: Report, object: ObjectIdentity, predecessors: readonly Reference[]): DicomJson {
  const { date, time } = stamp(report)
  const [study] = studiesOf(report)
  const references = report.images.map(({ source }) => source)
  const current = references.filter((image) => image.study === study)
  const other = references.filter((image) => image.study !== study)
  return {
    ...commonHeader(report, object, 1),
    '00080023': { vr: 'DA', Value: [date] },
    '00080033': { vr: 'TM', Value: [time] },
    '00081111': sequence([]),
    ...(predecessors.length === 0 ? {} : { '0040A360': sequence(evidenceOf(predecessors)) }),
    '0040A372': sequence([]),
    '0040A375': sequence(evidenceOf(current)),
    ...(other.length === 0 ? {} : { '0040A385': sequence(evidenceOf(other)) }),
    '0040A491': { vr: 'CS', Value: ['COMPLETE'] },
    '0040A493': { vr: 'CS', Value: ['UNVERIFIED'] },
  }
}

/** Hierarchical references: study, series, objects. */
export function evidenceOf(references: readonly Reference[]): DicomJson[] {
  const studies = new Map<string, Map<string, Map<string, Reference>>>()
  for (const reference of references) {
    const series = studies.get(reference.study) ?? new Map<string, Map<string, Reference>>()
    studies.set(reference.study, series)
    const objects = series.get(reference.series) ?? new Map<string, Reference>()
    series.set(reference.series, objects)
    objects.set(reference.instance, reference)
  }
  return [...studies].map(([study, series]) => ({
    '00081115': sequence(
      [...series].map(([uid, objects]) => ({
        '00081199': sequence(
          [...objects.values()].map(({ sopClass, instance }) => referenceItem({ sopClass, instance, frame: null })),
        ),
        '0020000E': { vr: 'UI', Value: [uid] },
      })),
    ),
    '0020000D': { vr: 'UI', Value: [study] },
  }))
}

function studiesOf({ images }: Report): string[] {
  return [...new Set(images.map(({ source }) => source.study))]
}

/** Date and time of the report in the zone of the images, or of this machine where they name none. */
export function stamp({ images, settings: { time } }: Report): { date: string; time: string; zone: string } {
  const zone = images[0]!.source.timezone || localZone(time)
  const minutes = (zone.startsWith('-') ? -1 : 1) * (60 * Number(zone.slice(1, 3)) + Number(zone.slice(3)))
  const digits = new Date(time.getTime() + 60_000 * minutes).toISOString().replace(/[-:T]/g, '')
  return { date: digits.slice(0, 8), time: digits.slice(8, 14), zone }
}

function localZone(time: Date): string {
  const minutes = -time.getTimezoneOffset()
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0')
  return `${minutes < 0 ? '-' : '+'}${two(Math.abs(minutes) / 60)}${two(Math.abs(minutes) % 60)}`
}

/** Study date and time of an image, for its entry in an image library. */
export function studyTimeOf({ source }: AnalysedImage): { date: string; time: string } {
  const [date, time] = [firstText(source.identity, '00080020'), firstText(source.identity, '00080030')]
  return { date: /^\d{8}$/.test(date) ? date : '', time: /^\d{6}(\.\d{1,6})?$/.test(time) ? time : '' }
}
