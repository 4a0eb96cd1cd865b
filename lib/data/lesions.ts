// From the box or contour that an annotation gives to the lesion of a record: checks it, rounds contours, clips to the image, and
// says what was wrong. Every adapter goes through here, so that the same fault has the same rule and message everywhere.
import { bounds, clip } from '../geometry/boxes.js'
import type { BiRads, Box, Lesion, LesionSource, Pathology, Point, Problem } from './types.js'

/** A clipped side under this many pixels is too little to learn from: the lesion becomes an ignore region. */
export const MIN_CLIPPED_SIDE = 16

/** Less than this beyond the border, in pixels, is the rounding of sums and shares. */
const ROUNDING = 1e-6

export interface LesionInput {
  id: string
  /** Id of the image, when known: problems name `<image>#<lesion>`, which `--exclude` understands. */
  image?: string
  class: string
  box: Box
  polygon?: Point[]
  pathology?: Pathology
  biRads?: BiRads | null
  ignore?: boolean
  source: LesionSource
}

export interface Placed {
  /** Undefined when it was refused. */
  lesion: Lesion | undefined
  problems: Problem[]
}

/**
 * Puts a lesion into an image of `width` x `height`. Refuses boxes that are not finite, empty or wholly outside (error); clips
 * the others (warning). `where` is `file:line` or the file of the annotation.
 */
export function placeLesion(input: LesionInput, width: number, height: number, where: string): Placed {
  const { box, polygon } = input
  const target = input.image === undefined ? input.id : `${input.image}#${input.id}`
  const fix = `correct it, or list ${target} in --exclude`
  const details = { lesion: input.id, target }
  const refuse = (rule: string, message: string): Placed => {
    const problem: Problem = { rule, level: 'error', message, where, fix, details }
    return { lesion: undefined, problems: [problem] }
  }
  if (!box.every(Number.isFinite))
    return refuse('box/empty', `box of lesion ${input.id} must be four numbers, got ${box.join(', ')}`)
  const [x1, y1, x2, y2] = box
  if (!(x2 > x1)) return refuse('box/empty', `box of lesion ${input.id} has width ${x2 - x1}`)
  if (!(y2 > y1)) return refuse('box/empty', `box of lesion ${input.id} has height ${y2 - y1}`)
  if (x1 >= width || y1 >= height || x2 <= 0 || y2 <= 0) {
    return refuse('box/outside', `box of lesion ${input.id} lies wholly outside the image of ${width}x${height}`)
  }
  const beyond = Math.max(-x1, -y1, x2 - width, y2 - height)
  const clipped = beyond > ROUNDING
  const inside = beyond > 0 ? clip(box, width, height) : box
  const [left, top, right, bottom] = inside
  const cutAcross = x1 < left || x2 > right
  const cutAlong = y1 < top || y2 > bottom
  const small =
    clipped && ((cutAcross && right - left < MIN_CLIPPED_SIDE) || (cutAlong && bottom - top < MIN_CLIPPED_SIDE))
  const lesion: Lesion = {
    id: input.id,
    class: input.class,
    box: inside,
    ...(polygon === undefined ? {} : { polygon }),
    pathology: input.pathology ?? 'unknown',
    biRads: input.biRads ?? null,
    ignore: (input.ignore ?? false) || small,
    clipped,
    source: input.source,
  }
  if (!clipped) return { lesion, problems: [] }
  const message = `box of lesion ${input.id} left the image by ${beyond} px and was clipped${small ? ' to an ignore region' : ''}`
  return {
    lesion,
    problems: [{ rule: 'box/clipped', level: 'warning', message, where, fix, details }],
  }
}

/** Box of contour points: their extent, by default rounded outwards to whole pixels. */
export function contourBox(points: readonly Point[], rounding: 'outward' | 'none' = 'outward'): Box {
  const [x1, y1, x2, y2] = bounds(points)
  return rounding === 'none' ? [x1, y1, x2, y2] : [Math.floor(x1), Math.floor(y1), Math.ceil(x2), Math.ceil(y2)]
}
