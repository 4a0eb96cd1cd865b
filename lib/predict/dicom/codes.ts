// Every code of the result objects, once; no other file holds a literal code. Values and meanings: DICOM PS3.16 annexes B and D, the
// context groups named beside them. What the standard leaves open, or what must be compared with its newest edition before a
// product is released, is listed in CHOICES.

export interface Code {
  readonly value: string
  readonly scheme: string
  readonly meaning: string
}

const dcm = (value: string, meaning: string): Code => ({ value, scheme: 'DCM', meaning })
const sct = (value: string, meaning: string): Code => ({ value, scheme: 'SCT', meaning })
const ucum = (value: string, meaning: string): Code => ({ value, scheme: 'UCUM', meaning })

export const CODES = {
  // Documents and their parts.
  mammographyCadReport: dcm('111036', 'Mammography CAD Report'),
  imagingMeasurementReport: dcm('126000', 'Imaging Measurement Report'),
  language: dcm('121049', 'Language of Content Item and Descendants'),
  imageLibrary: dcm('111028', 'Image Library'),
  imageLibraryGroup: dcm('126200', 'Image Library Group'),
  processingSummary: dcm('111017', 'CAD Processing and Findings Summary'),
  impression: dcm('111034', 'Individual Impression/Recommendation'),
  renderingIntent: dcm('111056', 'Rendering Intent'),
  singleImageFinding: dcm('111059', 'Single Image Finding'),
  summaryOfDetections: dcm('111064', 'Summary of Detections'),
  successfulDetections: dcm('111063', 'Successful Detections'),
  failedDetections: dcm('111025', 'Failed Detections'),
  detectionPerformed: dcm('111022', 'Detection Performed'),
  summaryOfAnalyses: dcm('111065', 'Summary of Analyses'),
  imagingMeasurements: dcm('126010', 'Imaging Measurements'),
  measurementGroup: dcm('125007', 'Measurement Group'),
  qualitativeEvaluations: { value: 'C0034375', scheme: 'UMLS', meaning: 'Qualitative Evaluations' },
  // Image library.
  imageLaterality: dcm('111027', 'Image Laterality'),
  imageView: dcm('111031', 'Image View'),
  imageViewModifier: dcm('111032', 'Image View Modifier'),
  orientationRow: dcm('111044', 'Patient Orientation Row'),
  orientationColumn: dcm('111043', 'Patient Orientation Column'),
  studyDate: dcm('111060', 'Study Date'),
  studyTime: dcm('111061', 'Study Time'),
  contentDate: dcm('111018', 'Content Date'),
  contentTime: dcm('111019', 'Content Time'),
  horizontalSpacing: dcm('111026', 'Horizontal Pixel Spacing'),
  verticalSpacing: dcm('111066', 'Vertical Pixel Spacing'),
  positionerAngle: dcm('112011', 'Positioner Primary Angle'),
  // Findings.
  trackingIdentifier: dcm('112039', 'Tracking Identifier'),
  trackingUid: dcm('112040', 'Tracking Unique Identifier'),
  certainty: dcm('111012', 'Certainty of Finding'),
  probabilityOfCancer: dcm('111047', 'Probability of cancer'),
  center: dcm('111010', 'Center'),
  outline: dcm('111041', 'Outline'),
  imageRegion: dcm('111030', 'Image Region'),
  finding: dcm('121071', 'Finding'),
  findingSite: sct('363698007', 'Finding Site'),
  laterality: sct('272741003', 'Laterality'),
  breast: sct('76752008', 'Breast'),
  /** In one view a mass is coded as density; 129788004 is for features of several views. */
  density: sct('129793001', 'Mammography breast density'),
  mass: sct('4147007', 'Mass'),
  // Algorithm and device.
  algorithmName: dcm('111001', 'Algorithm Name'),
  algorithmVersion: dcm('111003', 'Algorithm Version'),
  algorithmManufacturer: dcm('122405', 'Algorithm Manufacturer'),
  algorithmParameters: dcm('111002', 'Algorithm Parameters'),
  algorithmFamily: dcm('111000', 'Algorithm Family'),
  artificialIntelligence: dcm('123110', 'Artificial Intelligence'),
  observerType: dcm('121005', 'Observer Type'),
  device: dcm('121007', 'Device'),
  deviceUid: dcm('121012', 'Device Observer UID'),
  deviceName: dcm('121013', 'Device Observer Name'),
  deviceManufacturer: dcm('121014', 'Device Observer Manufacturer'),
  deviceModel: dcm('121015', 'Device Observer Model Name'),
  procedureReported: dcm('121058', 'Procedure reported'),
  mammography: sct('71651007', 'Mammography'),
  processingEquipment: dcm('109102', 'Processing Equipment'),
  sourceImage: dcm('121322', 'Source image for image processing operation'),
  // Units.
  percent: ucum('%', 'Percent'),
  millimetre: ucum('mm', 'mm'),
  degree: ucum('deg', 'degree'),
} as const satisfies Record<string, Code>

/** CID 6022, by ImageLaterality. */
export const BREASTS = {
  R: sct('73056007', 'Right breast'),
  L: sct('80248007', 'Left breast'),
  B: sct('63762007', 'Both breasts'),
} as const satisfies Record<string, Code>

/** CID 244, by ImageLaterality. */
export const SIDES = {
  R: sct('24028007', 'Right'),
  L: sct('7771000', 'Left'),
  B: sct('51440002', 'Right and left'),
} as const satisfies Record<string, Code>

/** CID 4014, with the SNOMED-RT values that older files have. */
const VIEWS: readonly (Code & { old: string })[] = [
  { ...sct('399162004', 'cranio-caudal'), old: 'R-10242' },
  { ...sct('399368009', 'medio-lateral oblique'), old: 'R-10226' },
  { ...sct('399260004', 'medial-lateral'), old: 'R-10224' },
  { ...sct('399352003', 'latero-medial'), old: 'R-10228' },
  { ...sct('399196006', 'caudo-cranial'), old: 'R-10244' },
  { ...sct('399099002', 'latero-medial oblique'), old: 'R-10230' },
  { ...sct('399188001', 'superolateral to inferomedial oblique'), old: 'R-102D0' },
  { ...sct('441555000', 'inferomedial to superolateral oblique'), old: '' },
  { ...sct('399192008', 'cranio-caudal exaggerated laterally'), old: '' },
  { ...sct('399101009', 'cranio-caudal exaggerated medially'), old: '' },
]

/** CID 4015, likewise. */
const MODIFIERS: readonly (Code & { old: string })[] = [
  { ...sct('399163009', 'Magnification'), old: 'R-102D6' },
  { ...sct('399055006', 'Spot Compression'), old: 'R-102D7' },
  { ...sct('399209000', 'Implant Displaced'), old: 'R-102D5' },
  { ...sct('399161006', 'Cleavage'), old: 'R-102D2' },
  { ...sct('399011000', 'Axillary Tail'), old: 'R-102D1' },
  { ...sct('399197002', 'Rolled Lateral'), old: 'R-102D3' },
  { ...sct('399226006', 'Rolled Medial'), old: 'R-102D4' },
  { ...sct('414493004', 'Rolled Inferior'), old: 'R-102CA' },
  { ...sct('399110001', 'tangential'), old: 'R-102C2' },
  { ...sct('415670009', 'Rolled Superior'), old: '' },
  { ...sct('442581004', 'Nipple in profile'), old: '' },
  { ...sct('442580003', 'Axillary tissue'), old: '' },
  { ...sct('441752004', 'Anterior compression'), old: '' },
  { ...sct('442593008', 'Infra-mammary fold'), old: '' },
]

const BY_VIEW: Record<string, string> = {
  CC: '399162004',
  MLO: '399368009',
  ML: '399260004',
  LM: '399352003',
  FB: '399196006',
}

/** CID 6034. */
export const INTENTS = {
  required: dcm('111150', 'Presentation Required: Rendering device is expected to present'),
  optional: dcm('111151', 'Presentation Optional: Rendering device may present'),
  hidden: dcm('111152', 'Not for Presentation: Rendering device expected not to present'),
} as const satisfies Record<string, Code>

/** CID 6042. */
export const SUCCESS = {
  succeeded: dcm('111222', 'Succeeded'),
  partially: dcm('111223', 'Partially Succeeded'),
  failed: dcm('111224', 'Failed'),
  notAttempted: dcm('111225', 'Not Attempted'),
} as const satisfies Record<string, Code>

/** CID 6047. */
export const SUMMARIES = {
  allWithout: dcm('111241', 'All algorithms succeeded; without findings'),
  allWith: dcm('111242', 'All algorithms succeeded; with findings'),
  someWithout: dcm('111243', 'Not all algorithms succeeded; without findings'),
  someWith: dcm('111244', 'Not all algorithms succeeded; with findings'),
  none: dcm('111245', 'No algorithms succeeded; without findings'),
} as const satisfies Record<string, Code>

export const CONTEXT_GROUPS = {
  6022: Object.values(BREASTS),
  244: Object.values(SIDES),
  4014: VIEWS as readonly Code[],
  4015: MODIFIERS as readonly Code[],
  6034: Object.values(INTENTS),
  6042: Object.values(SUCCESS),
  6047: Object.values(SUMMARIES),
} as const

/**
 * Choices that the published templates leave open or that were not compared with the standard's newest edition. Compared against
 * published text: order of TID 4000, 4001, 4003, 4015; rows of 4019, which a 2024 edition prints without a manufacturer and closed
 * to additions. Against a published dictionary: every code above but UMLS C0034375. Not compared: rows of TID 4006, 4021, 4108, 1410 and 1600.
 */
export const CHOICES = {
  /** TID 1204, CID 5000. */
  languageOfContent: { value: 'en', scheme: 'RFC5646', meaning: 'English' } as Code,
  /** State 122405 among the algorithm items; without it the manufacturer stands in the equipment modules only. */
  manufacturerAmongAlgorithmItems: true,
  /** Edition of the dictionary that codes were compared with, by the test of this file. */
  dictionary: 'pydicom 3, PS3.16 of 2024',
} as const

/** The view as CID 4014 has it: by the file's code, else by its ViewPosition. */
export function viewCodeOf(codes: readonly string[], view: string | null): Code | undefined {
  const wanted = codes.length > 0 ? codes : [BY_VIEW[view ?? ''] ?? '']
  return plain(VIEWS.find(({ value, old }) => wanted.includes(value) || (old !== '' && wanted.includes(old))))
}

/** Those of the modifiers that CID 4015 has. */
export function modifierCodesOf(codes: readonly string[]): Code[] {
  return codes.flatMap((code) => {
    const found = plain(MODIFIERS.find(({ value, old }) => value === code || (old !== '' && old === code)))
    return found === undefined ? [] : [found]
  })
}

export function sameCode(a: Code | null | undefined, b: Code | null | undefined): boolean {
  return a?.value === b?.value && a?.scheme === b?.scheme
}

function plain(code: Code | undefined): Code | undefined {
  return code === undefined ? undefined : { value: code.value, scheme: code.scheme, meaning: code.meaning }
}
