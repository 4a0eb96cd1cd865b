// What counts as a mammogram, and what of it is refused, skipped or flagged. Decides on header values only; decodes nothing. Rules:
// datasets spec 3.3; SOP classes: DICOM PS3.6 annex A.
import { DataError } from '../../errors.js'
import { colour } from './codecs.js'
import { type DicomFile, itemsOf, NESTED, numberOf, TAGS, textOf } from './parse.js'
import { viewOf } from './view.js'

export interface AcceptOptions {
  /** Accept for-processing mammograms. */
  allowForProcessing?: boolean
  /** Accept what does not call itself a mammogram (scanned film, INbreast's `OT`). Colour and 1-bit images stay refused. */
  assumeMammogram?: boolean
  /** The caller names a frame of a multi-frame file. */
  frameGiven?: boolean
}

const CLASSES = '1.2.840.10008.5.1.4.1.1'
const FOR_PRESENTATION = `${CLASSES}.1.2`
const FOR_PROCESSING = `${CLASSES}.1.2.1`
/** Breast tomosynthesis, and projections for presentation and for processing. */
const TOMOSYNTHESIS = [`${CLASSES}.13.1.3`, `${CLASSES}.13.1.4`, `${CLASSES}.13.1.5`]
/** CR, DX, secondary capture: mammograms only when someone says so. */
const PLAIN = /^(1|1\.1|1\.1\.1|7|7\.[1-4])$/
/** Waveforms, presentation states, reports, documents, treatment plans: they hold no image at all. */
const NO_IMAGES = /^(9|11|88|104|481(?!\.1$))(\.|$)/

export type DicomKind = 'presentation' | 'processing' | 'tomosynthesis' | 'vouched'

/**
 * The kind of mammogram in a file. Throws ERR_MAMMO_SOP_CLASS; `details.rule` is `dicom/colour`, `dicom/tomosynthesis`,
 * `dicom/processing`, `dicom/multi-frame`, `dicom/skipped` (quality control, localizer, specimen) or `dicom/sop-class`.
 */
export function acceptMammogram(file: DicomFile, options: AcceptOptions = {}): DicomKind {
  const { elements, where } = file
  const samples = numberOf(elements, TAGS.samplesPerPixel)
  if (samples !== undefined && samples !== 1) throw colour(`${samples} samples per pixel`, where)
  if (textOf(elements, TAGS.photometric) === 'PALETTE COLOR') throw colour('a palette', where)
  const kind = kindOf(file, options)
  if (textOf(elements, TAGS.qualityControl) === 'YES') throw refused('a quality control image', 'dicom/skipped', where)
  const imageType = (elements.get(TAGS.imageType) ?? []).map(String)
  if (imageType.some((word) => word.trim() === 'LOCALIZER')) throw refused('a localizer', 'dicom/skipped', where)
  if (itemsOf(elements, TAGS.specimen).length > 0) throw refused('a picture of a specimen', 'dicom/skipped', where)
  const frames = numberOf(elements, TAGS.frames) ?? 1
  if (frames > 1 && options.frameGiven !== true) {
    throw new DataError('SOP_CLASS', `expected one frame, got ${frames}`, {
      where,
      fix: 'name one frame, or leave the file out: slices are never averaged',
      details: { rule: kind === 'tomosynthesis' ? 'dicom/tomosynthesis' : 'dicom/multi-frame', frames },
    })
  }
  return kind
}

/** The class of a file: (0008,0016), else what the file meta information says. */
export function sopClassOf({ elements, scan }: DicomFile): string {
  return textOf(elements, TAGS.sopClass) || scan.mediaStorageSopClass
}

/** Whether files of this class never hold an image: those without pixel data are then of the wrong kind, not damaged. */
export function holdsNoImage(file: DicomFile): boolean {
  const sopClass = sopClassOf(file)
  return sopClass.startsWith(`${CLASSES}.`) && NO_IMAGES.test(sopClass.slice(CLASSES.length + 1))
}

function kindOf(file: DicomFile, { allowForProcessing, assumeMammogram, frameGiven }: AcceptOptions): DicomKind {
  const { elements, where } = file
  const sopClass = sopClassOf(file)
  if (holdsNoImage(file)) throw refused('a class without images', 'dicom/sop-class', where)
  if (sopClass === FOR_PRESENTATION) return 'presentation'
  if (sopClass === FOR_PROCESSING) {
    if (allowForProcessing === true) return 'processing'
    throw refused(
      'a mammogram for processing',
      'dicom/processing',
      where,
      'export the images for presentation, or set --allow-for-processing',
    )
  }
  if (TOMOSYNTHESIS.includes(sopClass)) {
    if (frameGiven === true) return 'tomosynthesis'
    throw refused(
      'a breast tomosynthesis',
      'dicom/tomosynthesis',
      where,
      'use the synthetic or two-dimensional mammograms, or name one frame',
    )
  }
  if (assumeMammogram === true) return 'vouched'
  const modality = textOf(elements, TAGS.modality)
  const plain = PLAIN.test(sopClass.slice(CLASSES.length + 1)) || modality === 'OT' || modality === 'RG'
  if (plain && textOf(elements, TAGS.bodyPart).toUpperCase() === 'BREAST' && viewOf(elements) !== null) return 'vouched'
  const known = sopClass.startsWith(`${CLASSES}.`) ? sopClass : 'an unknown class'
  throw refused(
    `${known}${/^[A-Z]{2}$/.test(modality) ? ` (${modality})` : ''}`,
    'dicom/sop-class',
    where,
    plain ? 'pass --assume-mammogram if it is one' : undefined,
  )
}

/** Flags of a record: implant, magnification, spot, film, lossy. */
export function flagsOf({ elements }: DicomFile, lossySyntax: boolean): string[] {
  const flags: string[] = []
  if (textOf(elements, TAGS.implant) === 'YES') flags.push('implant')
  const modifiers = itemsOf(elements, TAGS.viewCode).flatMap((view) => itemsOf(view, NESTED.viewModifiers))
  const codes = modifiers.map((item) => textOf(item, NESTED.codeValue))
  // Magnification, spot compression, implant displaced (PS3.16 context group 4015).
  if (
    codes.some((code) => ['R-102D6', '399163009'].includes(code)) ||
    (numberOf(elements, TAGS.magnification) ?? 1) > 1.3
  ) {
    flags.push('magnification')
  }
  if (codes.some((code) => ['R-102D7', '399055006'].includes(code))) flags.push('spot')
  if (codes.some((code) => ['R-102D5', '399209000'].includes(code)) && !flags.includes('implant')) flags.push('implant')
  const modality = textOf(elements, TAGS.modality)
  if (modality === 'RG' || textOf(elements, TAGS.imageType).includes('FILM')) flags.push('film')
  // Several lossy syntaxes can be lossless; the file says which.
  const lossy = textOf(elements, TAGS.lossy)
  if (lossy === '01' || (lossySyntax && lossy === '')) flags.push('lossy')
  return flags
}

function refused(got: string, rule: string, where: string, fix = 'leave the file out'): DataError {
  return new DataError('SOP_CLASS', `expected a mammogram for presentation, got ${got}`, {
    where,
    fix,
    details: { rule },
  })
}
