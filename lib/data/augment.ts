// Draws a random change of an image: one matrix about the centre (flip, rotation, shear, scale, translation, in that order), an
// elastic displacement after it, and one change of intensity. It moves no pixel: the matrix is applied once, together with crop and resize, on the device;
// what becomes of the lesions is in targets.ts. Method: datasets spec 4.5; shear as keras-retinanet has it.
import type { Config } from '../config/schema.js'
import {
  type Affine,
  about,
  compose,
  flip,
  IDENTITY,
  rotation,
  scaling,
  shear,
  translation,
} from '../geometry/affine.js'
import { type Elastic, elasticOf } from '../geometry/elastic.js'
import type { RandomStream } from '../random.js'

export type AugmentOptions = Config['augment']

export interface Augmentation {
  /** Output pixel to output pixel, edge coordinates. */
  matrix: Affine
  /** The image is mirrored left to right, so the breast's side swaps. */
  mirrored: boolean
  /** Contrast, brightness, gamma, noise sigma, as the batch carries them. */
  intensity: [number, number, number, number]
  noiseSeed: number
  /** What moves in the output, after the matrix; null: nothing. */
  elastic: Elastic | null
}

export const NO_AUGMENTATION: Augmentation = {
  matrix: IDENTITY,
  mirrored: false,
  intensity: [1, 0, 1, 0],
  noiseSeed: 0,
  elastic: null,
}

/**
 * Draws a change for an output of `width` x `height` pixels. Always the same number of values is
 * drawn, so switching one change off leaves the others as they were.
 */
export function drawAugmentation(
  options: AugmentOptions,
  width: number,
  height: number,
  random: RandomStream,
): Augmentation {
  const within = (limit: number) => random.uniform(-limit, limit)
  const between = ([low, high]: readonly [number, number]) => random.uniform(low, high)
  const flipX = random.uniform() < options.horizontalFlip
  const flipY = random.uniform() < options.verticalFlip
  const angle = within(options.rotation)
  const shearAngle = within(options.shear)
  const scaleX = between(options.scale)
  const scaleDrawn = between(options.scale)
  const scaleY = options.anisotropic ? scaleDrawn : scaleX
  const shiftX = within(options.translation) * width
  const shiftY = within(options.translation) * height
  const contrast = between(options.contrast)
  const brightness = within(options.brightness)
  const gamma = between(options.gamma)
  const noiseSeed = random.uint32()
  const elastic = elasticOf(options.elastic, random.uint32())
  const change = compose(
    translation(shiftX, shiftY),
    scaling(scaleX, scaleY),
    shear(shearAngle),
    rotation(angle),
    flip(flipX, flipY),
  )
  const matrix = about(change, width / 2, height / 2)
  return { matrix, mirrored: flipX, intensity: [contrast, brightness, gamma, options.noise], noiseSeed, elastic }
}
