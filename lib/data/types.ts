// The data model that every room shares: one record per image, lesions in it, the manifest's header, problems, and what an
// adapter of a dataset takes and returns. Types and constants only. Field names and order are those of datasets spec 1.

import type { Box } from '../geometry/boxes.js'

/** `[x1, y1, x2, y2]` in full-resolution pixels, half-open: width is `x2 - x1`, a whole image is `[0, 0, width, height]`. */
export type { Box }

/** A box of whole pixels. */
export type Rect = Box

/** `[x, y]` in full-resolution pixels, origin top left; pixel `i` covers `[i, i + 1)`. */
export type Point = [number, number]

export const LATERALITIES = ['L', 'R'] as const
export const VIEWS = ['CC', 'MLO', 'ML', 'LM', 'FB', 'other'] as const
export const SPLITS = ['train', 'val', 'test'] as const
export const DENSITIES = ['A', 'B', 'C', 'D'] as const
export const BI_RADS = ['0', '1', '2', '3', '4', '4a', '4b', '4c', '5', '6'] as const
export const PATHOLOGIES = ['malignant', 'benign', 'unknown'] as const

export type Laterality = (typeof LATERALITIES)[number]
export type View = (typeof VIEWS)[number]
export type SplitHint = (typeof SPLITS)[number]
export type Density = (typeof DENSITIES)[number]
export type BiRads = (typeof BI_RADS)[number]
export type Pathology = (typeof PATHOLOGIES)[number]

/** Where an annotation came from: file relative to the dataset's root, its number in that file, its name there. */
export interface LesionSource {
  file: string
  index: number
  name: string
}

export interface Lesion {
  /** Unique within the image. */
  id: string
  /** `mass`, `calcification`, `distortion`, `asymmetry`, ...; classes outside `data.classes` stay recorded, untrained. */
  class: string
  /** Clipped to the image. */
  box: Box
  /** Implicitly closed. */
  polygon?: Point[]
  pathology: Pathology
  biRads: BiRads | null
  /** Neither a target nor a false positive. */
  ignore: boolean
  /** The annotation left the image and was cut at its border. */
  clipped: boolean
  source: LesionSource
}

/** One image. `id` is `<dataset>/<stable id>` of `[A-Za-z0-9._/-]`; `path` is relative to the manifest's root, with `/`. */
export interface ImageRecord {
  v: 1
  id: string
  path: string
  /** 0-based. */
  frame: number
  /** Grouping key, never empty: the dataset's pseudonym, or `h:` and 16 hex digits. */
  patient: string
  laterality: Laterality | null
  view: View | null
  /** Of the decoded image, before any crop. */
  width: number
  height: number
  /** `[row, column]`. */
  spacingMm: [number, number] | null
  spacingSource: string | null
  /** A hint from the source. */
  split: SplitHint | null
  density: Density | null
  biRads: BiRads | null
  /** True without lesions is a negative; false is unknown, unused in training and metrics. */
  annotated: boolean
  lesions: Lesion[]
  /** `implant`, `magnification`, `film`, `synthetic`, `lossy`, ... */
  flags: string[]
  source: RecordSource
}

export interface RecordSource {
  adapter: string
  adapterVersion: number
  /** Relative to the dataset's root; null for an image without annotation file. */
  annotationFile: string | null
  /** UID of a DICOM file, media type of another. */
  transferSyntax: string
  fileSize: number
}

export const MANIFEST_SCHEMA = 'mammo-retinanet/manifest@1'

/** Line 1 of manifest.jsonl. */
export interface ManifestHeader {
  manifest: typeof MANIFEST_SCHEMA
  /** Folder of the images, relative to the manifest, or absolute. */
  root: string
  adapter: AdapterName
  /** Decisions that change labels: options of the adapter, rounding of boxes. */
  labelRules: Record<string, unknown>
  counts: DatasetCounts
}

export interface DatasetCounts {
  images: number
  patients: number
  annotated: number
  /** Annotated images without a lesion. */
  negatives: number
  /** Lesions by class, ignored ones included. */
  lesions: Record<string, number>
}

export type ProblemLevel = 'error' | 'warning'

/** One finding of an adapter or of the validation: which rule, what, where, how to fix. Holds no patient attribute. */
export interface Problem {
  /** `box/empty`, `manifest/field`, `csv/class`, ... */
  rule: string
  level: ProblemLevel
  message: string
  where: string
  fix: string
  details?: Record<string, unknown>
}

export const ADAPTERS = [
  'inbreast',
  'cbis-ddsm',
  'vindr-mammo',
  'mini-mias',
  'keras-csv',
  'coco',
  'voc',
  'yolo',
] as const
export type AdapterName = (typeof ADAPTERS)[number]

/** Formats that annotations can be written in. */
export const EXPORT_FORMATS = ['coco', 'keras-csv', 'voc', 'yolo'] as const
export type ExportFormat = (typeof EXPORT_FORMATS)[number]

/** Options of all adapters; each reads what concerns it. Names follow the configuration keys `data.*`. */
export interface AdapterOptions {
  /** Regular expression on the path, with a named group `patient` and optionally `laterality` and `view`. */
  patientPattern?: string
  /** How fractional contour extents become boxes. Default `outward`. */
  boxRounding?: 'outward' | 'none'
  /** Image ids, paths or lesion ids (`<image id>#<lesion id>`) to leave out; each is counted. */
  exclude?: readonly string[]
  /** Site key: patients become `h:` + HMAC-SHA256, 16 hex digits. */
  hashKey?: string
  /** Hash published pseudonyms too. */
  hashIds?: boolean
  /** Accept for-processing mammograms and images that do not call themselves mammograms. */
  allowForProcessing?: boolean
  assumeMammogram?: boolean
  /** Annotation file or folder where it is not the customary one: COCO JSON, CSV, names file. */
  annotations?: string
  /** Class file of the keras-retinanet CSV, names file of YOLO. */
  classesFile?: string
  /** Folder of the images where it is not the customary one (COCO, VOC, YOLO). */
  images?: string
  /** Which sets to read: VOC `ImageSets/Main/<set>.txt`. Default all. */
  sets?: readonly string[]
  inbreast?: { spiculatedAsMass?: boolean; malignantFrom?: BiRads | null }
  voc?: { zeroBased?: boolean }
  yolo?: { missingIsNegative?: boolean }
  signal?: AbortSignal
  onProgress?: (done: number, total: number) => void
}

/** What an adapter makes of a dataset. Records are sorted by id; whatever was dropped stands in `problems`. */
export interface Dataset {
  /** Absolute folder that the records' paths are relative to. */
  root: string
  header: ManifestHeader
  records: ImageRecord[]
  problems: Problem[]
}

/** A dataset format. `detect` looks at names only and is cheap. */
export interface Adapter {
  name: AdapterName
  version: number
  detect: (root: string) => Promise<boolean>
  /** Throws DataError when the set as a whole cannot be read; faults of single items are problems. */
  read: (root: string, options?: AdapterOptions) => Promise<Dataset>
}
