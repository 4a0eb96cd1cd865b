// What evaluation works on: ground truth and detections of a list of images, as plain data. Nothing here knows files, models or formats.
// Boxes are xyxy, half-open, in pixels of the full image, the same for truth and detections.
import type { Box } from '../geometry/boxes.js'

/** One annotated lesion. */
export interface TruthBox {
  box: Box
  /** Class index, 0..classes-1. */
  label: number
  /** A region that is neither lesion nor background: detections in it count neither way (COCO's crowd). */
  ignore?: boolean
  /** Longest side in mm, for size strata; null when the pixel spacing is unknown. */
  sizeMm?: number | null
}

/** Ground truth of one image. */
export interface ImageTruth {
  id: string
  /** Resampling unit; images of one patient are never independent. */
  patient: string
  /** `L` or `R`; with the patient it names a breast. */
  laterality?: string | null
  /** `CC`, `MLO`... */
  view?: string | null
  /** Density category. */
  density?: string | null
  /** Pixel spacing in mm, row direction. */
  spacingMm?: number | null
  boxes: readonly TruthBox[]
}

export interface Detection {
  box: Box
  score: number
  /** Class index. */
  label: number
}

/** Detections by image id; an image without an entry has none. */
export type DetectionsByImage = ReadonlyMap<string, readonly Detection[]>

/** A number that can be undefined by lack of data; then the reason stands in `why`. */
export interface Interval {
  low: number
  high: number
}

/** Patient and breast keys of an image: indices in order of first appearance. */
export interface Groups {
  /** Index of the patient of each image. */
  patient: Int32Array
  patients: string[]
  /** Index of the breast of each image; an image without laterality is a breast of its own. */
  breast: Int32Array
  breasts: string[]
}

export function groupImages(images: readonly ImageTruth[]): Groups {
  const index = (keys: string[]): [Int32Array, string[]] => {
    const places = new Map<string, number>()
    const indices = Int32Array.from(keys, (key) => {
      const known = places.get(key)
      if (known !== undefined) return known
      places.set(key, places.size)
      return places.size - 1
    })
    return [indices, [...places.keys()]]
  }
  const [patient, patients] = index(images.map((image) => image.patient))
  const [breast, breasts] = index(
    images.map((image) =>
      image.laterality ? `${image.patient}/${image.laterality}` : `${image.patient}/image ${image.id}`,
    ),
  )
  return { patient, patients, breast, breasts }
}

/** Lesions that count: not ignored. */
export function lesionsOf(image: ImageTruth): TruthBox[] {
  return image.boxes.filter((box) => !box.ignore)
}
