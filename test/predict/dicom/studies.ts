// Studies for the tests of result objects: small mammograms with a full patient and study header, written to files, and reports on them.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readSourceImage, type SourceImage } from '../../../lib/data/dicom/source.js'
import { PRODUCT } from '../../../lib/predict/dicom/header.js'
import type { AnalysedImage, Finding, ReportSettings } from '../../../lib/predict/dicom/report.js'
import { randomStream } from '../../../lib/random.js'
import { buildImage, type Part } from '../../data/dicom-builder.js'

export const ROWS = 96
export const COLUMNS = 64

export interface StudyImage {
  uid: string
  side?: 'L' | 'R'
  view?: 'CC' | 'MLO'
  extra?: readonly Part[]
}

/** Everything of a header that could tell who the patient is, or where she was. */
export function identityParts(text: (name: string) => string): Part[] {
  return [
    { tag: 0x00080050, vr: 'SH', value: text('Accession') },
    { tag: 0x00080080, vr: 'LO', value: text('Institution') },
    { tag: 0x00080081, vr: 'ST', value: text('InstitutionAddress') },
    { tag: 0x00080090, vr: 'PN', value: text('Referring') },
    { tag: 0x00081010, vr: 'SH', value: text('Station') },
    { tag: 0x00081030, vr: 'LO', value: text('StudyDescription') },
    { tag: 0x0008103e, vr: 'LO', value: text('SeriesDescription') },
    { tag: 0x00081048, vr: 'PN', value: text('PhysicianOfRecord') },
    { tag: 0x00081050, vr: 'PN', value: text('Performing') },
    { tag: 0x00081070, vr: 'PN', value: text('Operator') },
    { tag: 0x00100010, vr: 'PN', value: text('Name') },
    { tag: 0x00100020, vr: 'LO', value: text('PatientId') },
    { tag: 0x00100021, vr: 'LO', value: text('Issuer') },
    { tag: 0x00101000, vr: 'LO', value: text('OtherIds') },
    { tag: 0x00101001, vr: 'PN', value: text('OtherNames') },
    { tag: 0x00101005, vr: 'PN', value: text('BirthName') },
    { tag: 0x00101040, vr: 'LO', value: text('Address') },
    { tag: 0x00102154, vr: 'SH', value: text('Phone') },
    { tag: 0x00104000, vr: 'LT', value: text('PatientComments') },
    { tag: 0x00200010, vr: 'SH', value: text('StudyId') },
    { tag: 0x00204000, vr: 'LT', value: text('ImageComments') },
    { tag: 0x00321032, vr: 'PN', value: text('Requesting') },
    { tag: 0x00321060, vr: 'LO', value: text('Procedure') },
  ]
}

export const PLAIN_PATIENT: readonly Part[] = [
  { tag: 0x00080050, vr: 'SH', value: 'A1' },
  { tag: 0x00080090, vr: 'PN', value: 'Doctor^Ann' },
  { tag: 0x00100010, vr: 'PN', value: 'Doe^Jane' },
  { tag: 0x00100020, vr: 'LO', value: 'P1' },
  { tag: 0x00200010, vr: 'SH', value: 'S1' },
]

/** A mammogram of ROWS x COLUMNS; `extra` replaces elements of the same tag. */
export function mammogram({ uid, side = 'L', view = 'CC', extra = PLAIN_PATIENT }: StudyImage): Buffer {
  const stream = randomStream(7)
  const random = () => stream.uniform()
  const values = Array.from({ length: ROWS * COLUMNS }, (_, i) => (i % COLUMNS < 40 ? 400 + random() * 800 : 0))
  const own = new Set(extra.map(({ tag }) => tag))
  const view4014 = view === 'CC' ? 'R-10242' : 'R-10226'
  const parts: Part[] = [
    { tag: 0x00080008, vr: 'CS', value: 'ORIGINAL\\PRIMARY' },
    { tag: 0x00080018, vr: 'UI', value: uid },
    { tag: 0x00080020, vr: 'DA', value: '20240102' },
    { tag: 0x00080023, vr: 'DA', value: '20240102' },
    { tag: 0x00080030, vr: 'TM', value: '101112' },
    { tag: 0x00080033, vr: 'TM', value: '101115' },
    { tag: 0x00080201, vr: 'SH', value: '+0100' },
    { tag: 0x00100030, vr: 'DA', value: '19600101' },
    { tag: 0x00100040, vr: 'CS', value: 'F' },
    { tag: 0x00181164, vr: 'DS', value: '0.1\\0.1' },
    { tag: 0x00181510, vr: 'DS', value: view === 'CC' ? '0' : '45' },
    { tag: 0x0020000d, vr: 'UI', value: '1.2.3.100' },
    { tag: 0x0020000e, vr: 'UI', value: '1.2.3.200' },
    { tag: 0x00200020, vr: 'CS', value: side === 'L' ? 'A\\R' : 'P\\L' },
    { tag: 0x00200062, vr: 'CS', value: side },
    { tag: 0x00281050, vr: 'DS', value: '800' },
    { tag: 0x00281051, vr: 'DS', value: '900' },
    { tag: 0x00281052, vr: 'DS', value: '0' },
    { tag: 0x00281053, vr: 'DS', value: '1' },
    { tag: 0x00281054, vr: 'LO', value: 'US' },
    {
      tag: 0x00540220,
      vr: 'SQ',
      value: [
        [
          { tag: 0x00080100, vr: 'SH', value: view4014 },
          { tag: 0x00080102, vr: 'SH', value: 'SRT' },
          {
            tag: 0x00540222,
            vr: 'SQ',
            value: [
              [
                { tag: 0x00080100, vr: 'SH', value: 'R-102D6' },
                { tag: 0x00080102, vr: 'SH', value: 'SRT' },
              ],
            ],
          },
        ],
      ],
    },
  ]
  return buildImage({
    rows: ROWS,
    columns: COLUMNS,
    values,
    bitsStored: 12,
    extra: [...parts.filter(({ tag }) => !own.has(tag)), ...extra],
  })
}

export async function sourceOf(folder: string, image: StudyImage): Promise<SourceImage> {
  const path = join(folder, `${image.uid}.dcm`)
  writeFileSync(path, mammogram(image))
  return readSourceImage(path)
}

/** `count` random boxes inside the matrix with falling scores of four decimals. */
export function randomFindings(count: number, seed = 1): Finding[] {
  const stream = randomStream(seed)
  const random = () => stream.uniform()
  const box = (): Finding['box'] => {
    const [x1, y1] = [random() * (COLUMNS - 10), random() * (ROWS - 10)]
    return [x1, y1, x1 + 1 + random() * 9, y1 + 1 + random() * 9]
  }
  return Array.from({ length: count }, (_, n) => ({
    box: box(),
    score: Number((1 - (n + 0.5) / (count + 1)).toFixed(4)),
  }))
}

export function settings(more: Partial<ReportSettings> = {}): ReportSettings {
  return {
    model: { name: 'tiny', version: '1.0.0', sha256: 'ab'.repeat(32), deviceUid: '2.25.123456789' },
    manufacturer: PRODUCT,
    toolVersion: '0.1.0',
    threshold: 0.01,
    displayThreshold: 0.3,
    maxFindings: 100,
    pipeline: ['whole image, unscaled'],
    scoreMeaning: 'certainty',
    calibration: 'none',
    time: new Date(Date.UTC(2024, 0, 2, 12, 0, 0)),
    ...more,
  }
}

const FOUR_VIEWS: readonly StudyImage[] = [
  { uid: '1.2.3.1', side: 'R', view: 'CC' },
  { uid: '1.2.3.2', side: 'L', view: 'CC' },
  { uid: '1.2.3.3', side: 'R', view: 'MLO' },
  { uid: '1.2.3.4', side: 'L', view: 'MLO' },
]

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values)
const JAPANESE = bytes(
  ...Buffer.from('Yamada^Tarou='),
  ...[0x1b, 0x24, 0x42, 0x3b, 0x33, 0x45, 0x44, 0x1b, 0x28, 0x42],
  ...Buffer.from('^'),
  ...[0x1b, 0x24, 0x42, 0x42, 0x40, 0x4f, 0x3a, 0x1b, 0x28, 0x42],
  0x20,
)

export interface Situation {
  images: AnalysedImage[]
  settings: ReportSettings
}

/** Every situation that a report must be right in, by name. Writes the images into `folder`. */
export async function situations(folder: string): Promise<Record<string, Situation>> {
  const views = await Promise.all(FOUR_VIEWS.map((image) => sourceOf(folder, image)))
  const analysed = (source: SourceImage, findings: Finding[] = []): AnalysedImage => ({
    source,
    findings,
    failure: null,
  })
  const failed = (source: SourceImage): AnalysedImage => ({ source, findings: [], failure: 'ERR_MAMMO_PIXEL_DATA' })
  const japanese = await sourceOf(folder, {
    uid: '1.2.3.5',
    extra: [
      ...PLAIN_PATIENT.filter(({ tag }) => tag !== 0x00100010),
      { tag: 0x00080005, vr: 'CS', value: '\\ISO 2022 IR 87' },
      { tag: 0x00100010, vr: 'PN', value: JAPANESE },
    ],
  })
  const greek = await sourceOf(folder, {
    uid: '1.2.3.6',
    extra: [
      ...PLAIN_PATIENT.filter(({ tag }) => tag !== 0x00100010),
      { tag: 0x00080005, vr: 'CS', value: 'ISO_IR 126' },
      { tag: 0x00100010, vr: 'PN', value: bytes(0xc4, 0xe9, 0xef, 0xed, 0xf5, 0xf3, 0xdf, 0xef, 0xf2, 0x20) },
    ],
  })
  const bare = await sourceOf(folder, {
    uid: '1.2.3.7',
    extra: [
      { tag: 0x00080023, vr: 'DA', value: '' },
      { tag: 0x00080033, vr: 'TM', value: '' },
      { tag: 0x00181164, vr: 'DS', value: '' },
      { tag: 0x00181510, vr: 'DS', value: '' },
      { tag: 0x00200020, vr: 'CS', value: '' },
      { tag: 0x00200062, vr: 'CS', value: '' },
      { tag: 0x00281050, vr: 'DS', value: '' },
      { tag: 0x00540220, vr: 'SQ', value: [] },
    ],
  })
  const film = await sourceOf(folder, {
    uid: '1.2.3.8',
    extra: [
      ...PLAIN_PATIENT,
      { tag: 0x00100030, vr: 'DA', value: '00000000' },
      { tag: 0x00280004, vr: 'CS', value: 'MONOCHROME1' },
      {
        tag: 0x00283010,
        vr: 'SQ',
        value: [
          [
            { tag: 0x00283002, vr: 'US', value: [4, 0, 12] },
            { tag: 0x00283006, vr: 'US', value: [0, 100, 2000, 4095] },
          ],
        ],
      },
    ],
  })
  const twelve = await Promise.all(
    Array.from({ length: 12 }, (_, n) => sourceOf(folder, { uid: `1.2.3.${20 + n}`, side: n % 2 === 0 ? 'L' : 'R' })),
  )
  return {
    'findings in one view': { images: [analysed(views[0]!, randomFindings(2))], settings: settings() },
    'findings in four views': {
      images: views.map((view, n) => analysed(view, randomFindings(3, n + 1))),
      settings: settings(),
    },
    'findings in one of twelve views': {
      images: twelve.map((view, n) => analysed(view, n === 5 ? randomFindings(1) : [])),
      settings: settings(),
    },
    'no findings': { images: views.map((view) => analysed(view)), settings: settings() },
    'one view failed, findings': {
      images: [failed(views[0]!), analysed(views[1]!, randomFindings(2)), analysed(views[2]!)],
      settings: settings(),
    },
    'one view failed, no findings': { images: [failed(views[0]!), analysed(views[1]!)], settings: settings() },
    'all views failed': { images: views.map(failed), settings: settings() },
    'Japanese name, several character sets': {
      images: [analysed(japanese, randomFindings(1))],
      settings: settings(),
    },
    'Greek name': { images: [analysed(greek, randomFindings(1))], settings: settings() },
    'a header with nothing optional': { images: [analysed(bare, randomFindings(1))], settings: settings() },
    'inverted, with a grey table, no birth date': {
      images: [analysed(film, randomFindings(1))],
      settings: settings(),
    },
    '1000 findings cut to 50': {
      images: [analysed(views[0]!, randomFindings(600)), analysed(views[1]!, randomFindings(400, 2))],
      settings: settings({ maxFindings: 50 }),
    },
    'probability of cancer': {
      images: [analysed(views[0]!, randomFindings(2))],
      settings: settings({
        scoreMeaning: 'malignancy',
        calibration: { method: 'logistic-malignancy', parameters: [1, -1], data: 'a set with known outcome' },
      }),
    },
  }
}
