// Spacing, side, view and windows from header values.
import t from 'tap'
import { type DicomFile, type Elements, TAGS } from '../../../lib/data/dicom/parse.js'
import { spacingOf } from '../../../lib/data/dicom/spacing.js'
import {
  lateralityFromText,
  lateralityOf,
  lateralityOfOrientation,
  lateralityOfPixels,
  viewFromText,
  viewOf,
} from '../../../lib/data/dicom/view.js'
import { displayPixels, voiOf, windowValue } from '../../../lib/data/dicom/voi.js'

const elements = (...entries: [number, unknown[]][]): Elements => new Map(entries)
const file = (...entries: [number, unknown[]][]) =>
  ({ elements: elements(...entries), where: 'x' }) as unknown as DicomFile

t.test('spacing in its order', async (t) => {
  const imager: [number, unknown[]] = [TAGS.imagerPixelSpacing, [0.0941, 0.0941]]
  const pixel: [number, unknown[]] = [TAGS.pixelSpacing, ['0.08', '0.08']]
  t.match(spacingOf(file(imager, pixel)), {
    spacingMm: [0.0941, 0.0941],
    spacingSource: 'ImagerPixelSpacing',
    warnings: [{ message: /PixelSpacing says 0.08/ }],
  })
  t.match(spacingOf(file(imager, pixel, [TAGS.spacingCalibration, ['GEOMETRY']])), {
    spacingMm: [0.08, 0.08],
    spacingSource: 'PixelSpacing',
  })
  t.match(spacingOf(file([TAGS.spatialResolution, ['.05']])), {
    spacingMm: [0.05, 0.05],
    warnings: [{ rule: 'dicom/spacing' }],
  })
  t.same(spacingOf(file()), { spacingMm: null, spacingSource: null, warnings: [] })
  t.match(spacingOf(file([TAGS.pixelSpacing, [0.6, 0.6]])).warnings, [{ message: /outside/ }])
  t.throws(() => spacingOf(file([TAGS.pixelSpacing, [0.07, 0.08]])), { code: 'ERR_MAMMO_DICOM', message: /square/ })
  t.same(spacingOf(file([TAGS.pixelSpacing, ['', '']])).spacingMm, null, 'empty is none')
  const measures = (mm: number) => new Map([[0x00289110, [new Map([[TAGS.pixelSpacing, [mm, mm]]])]]])
  const groups: [number, unknown[]][] = [
    [TAGS.sharedGroups, [measures(0.1)]],
    [TAGS.perFrameGroups, [measures(0.05), new Map()]],
  ]
  t.same(spacingOf(file(...groups), 0).spacingMm, [0.05, 0.05], "a frame's own group before the shared one")
  t.same(spacingOf(file(...groups), 1).spacingMm, [0.1, 0.1])
})

t.test('side and view', async (t) => {
  const code = (value: string): [number, unknown[]] => [TAGS.viewCode, [new Map([[0x00080100, [value]]])]]
  t.equal(viewOf(elements([TAGS.viewPosition, ['CC']], code('R-10226'))), 'CC')
  t.equal(viewOf(elements(code('R-10226'))), 'MLO')
  t.equal(viewOf(elements(code('R-10242'))), 'CC')
  t.equal(viewOf(elements([TAGS.viewPosition, ['XCCL']])), 'other')
  t.equal(viewOf(elements()), null)
  t.equal(lateralityOf(elements([TAGS.imageLaterality, ['L']], [TAGS.laterality, ['R']])), 'L')
  t.equal(lateralityOf(elements([TAGS.laterality, ['R']])), 'R')
  t.equal(lateralityOf(elements([TAGS.laterality, ['B']])), null)
  t.equal(lateralityOfOrientation(elements([TAGS.patientOrientation, ['A', 'R']])), 'L')
  t.equal(lateralityOfOrientation(elements([TAGS.patientOrientation, ['P', 'FL']])), 'R')
  t.equal(lateralityOfOrientation(elements([TAGS.patientOrientation, ['']])), null)
  t.same(['left', 'R', 'both'].map(lateralityFromText), ['L', 'R', null])
  t.same(['mlo', '', 'xx'].map(viewFromText), ['MLO', null, 'other'])
  const pixels = new Uint16Array(160).map((_, i) => (i % 16 < 8 ? 100 : 0))
  t.equal(lateralityOfPixels(pixels, 16, 10), 'L')
  t.equal(lateralityOfPixels(pixels.reverse(), 16, 10), 'R')
  t.equal(lateralityOfPixels(new Uint16Array(160).fill(5), 16, 10), null)
})

t.test('windows', async (t) => {
  const window = (name: string) => ({ kind: 'window' as const, centre: 2048, width: 4096, function: name as 'LINEAR' })
  t.same(
    [0, 4095].map((v) => Math.round(windowValue(v, window('LINEAR')))),
    [0, 255],
  )
  t.equal(windowValue(2048, window('SIGMOID')), 127.5)
  t.equal(windowValue(2048, window('LINEAR_EXACT')), 127.5)
  const several = file([TAGS.windowCenter, [100, 200]], [TAGS.windowWidth, [10, 20]], [TAGS.voiFunction, ['SIGMOID']])
  t.match(voiOf(several, 1), { centre: 200, width: 20, function: 'SIGMOID' })
  t.equal(voiOf(file()), undefined)
  const grey = displayPixels(
    Uint16Array.from({ length: 1001 }, (_, i) => i),
    undefined,
  )
  t.same([grey[0], grey[5], grey[1000]], [0, 0, 255])
})
