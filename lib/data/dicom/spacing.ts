// Pixel spacing of a DICOM mammogram in millimetres at the breast, row before column. Several elements may hold one; the order in
// which they are believed is datasets spec 3.4. DetectorElementSpacing is never one of them: it describes the detector.
import { DataError } from '../../errors.js'
import { type DicomFile, groupsOf, itemsOf, NESTED, numbersOf, TAGS, textOf } from './parse.js'
import type { ImageWarning } from './pixels.js'

export interface Spacing {
  /** `[row, column]`: distance between rows, between columns. */
  spacingMm: [number, number] | null
  /** Name of the element. */
  spacingSource: string | null
  warnings: ImageWarning[]
}

/** Plausible spacings of mammograms, in mm. */
const RANGE = [0.02, 0.3] as const
const TOLERANCE = 0.01

/** Of a frame, 0-based. Throws ERR_MAMMO_DICOM when pixels are not square by more than 1 %. */
export function spacingOf({ elements, where }: DicomFile, frame = 0): Spacing {
  const measures = groupsOf(elements, frame).flatMap((group) => itemsOf(group, NESTED.pixelMeasures))
  const pixelSpacing =
    pair(numbersOf(elements, TAGS.pixelSpacing)) ?? measures.map((item) => pair(numbersOf(item, TAGS.pixelSpacing)))[0]
  const calibrated = textOf(elements, TAGS.spacingCalibration) !== ''
  const resolution = numbersOf(elements, TAGS.spatialResolution)
  const imager = pair(numbersOf(elements, TAGS.imagerPixelSpacing))
  const scanned = pair(numbersOf(elements, TAGS.nominalScannedPixelSpacing))
  const sources: [string, [number, number] | undefined][] = [
    ['PixelSpacing', calibrated ? pixelSpacing : undefined],
    ['ImagerPixelSpacing', imager],
    ['PixelSpacing', calibrated ? undefined : pixelSpacing],
    ['NominalScannedPixelSpacing', scanned],
    ['SpatialResolution', resolution[0] === undefined ? undefined : pair([resolution[0], resolution[0]])],
  ]
  const found = sources.filter((source): source is [string, [number, number]] => source[1] !== undefined)
  const [first] = found
  if (first === undefined) return { spacingMm: null, spacingSource: null, warnings: [] }
  const [spacingSource, spacingMm] = first
  const warnings: ImageWarning[] = []
  const warn = (message: string) => warnings.push({ rule: 'dicom/spacing', message })
  if (Math.abs(spacingMm[0] - spacingMm[1]) > TOLERANCE * Math.max(...spacingMm)) {
    throw new DataError('DICOM', `expected square pixels, got ${spacingMm.join(' x ')} mm`, {
      where,
      fix: 'resample the image to square pixels, or leave the file out',
      details: { rule: 'dicom/spacing' },
    })
  }
  if (spacingSource === 'SpatialResolution') warn(`spacing ${spacingMm[0]} mm is from SpatialResolution only`)
  if (spacingMm.some((value) => value < RANGE[0] || value > RANGE[1])) {
    warn(`spacing ${spacingMm[0]} mm is outside ${RANGE[0]}..${RANGE[1]} mm`)
  }
  for (const [name, other] of found.slice(1)) {
    if (name === 'SpatialResolution') continue
    if (Math.abs(other[0] - spacingMm[0]) > TOLERANCE * spacingMm[0]) {
      warn(`${name} says ${other[0]} mm, ${spacingSource} ${spacingMm[0]} mm, which counts`)
    }
  }
  return { spacingMm, spacingSource, warnings }
}

function pair([row, column]: readonly (number | undefined)[]): [number, number] | undefined {
  if (row === undefined || !(row > 0)) return undefined
  return [row, column !== undefined && column > 0 ? column : row]
}
