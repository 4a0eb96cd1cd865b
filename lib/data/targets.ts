// Decides what becomes of each lesion under an affine and a displacement: a box with its label, an ignore region, or nothing. The transform
// comes first, the clip last. Box rule and visibility rule: datasets spec 4.5, retinanet spec 3.5.
import { type Affine, applyToPoint, transformBox, transformPolygon } from '../geometry/affine.js'
import { type Elastic, movedOutline } from '../geometry/elastic.js'
import type { Box } from './types.js'

export interface LabelledLesion {
  /** Class index. */
  label: number
  box: Box
  /** Contour in the same coordinates; gives exact bounds where present. */
  polygon: readonly (readonly [number, number])[] | null
  /** Neither lesion nor background. */
  ignore: boolean
}

export interface TargetRules {
  boxRule: 'ellipse' | 'corners'
  /** A lesion keeps its box when at least this share of its area is visible. */
  minVisible: number
  /** ... and no side that the clip shortened is below this many pixels. */
  minSidePx: number
  /** Displacement of the canvas after the matrix; null or absent: none. */
  elastic?: Elastic | null
}

export interface Targets {
  boxes: Box[]
  labels: number[]
  ignore: Box[]
}

/** Lesions seen through `matrix` (lesion to canvas coordinates) on a canvas of `width` x `height`. */
export function lesionTargets(
  lesions: readonly LabelledLesion[],
  matrix: Affine,
  width: number,
  height: number,
  rules: TargetRules,
): Targets {
  const targets: Targets = { boxes: [], labels: [], ignore: [] }
  for (const lesion of lesions) {
    const whole = rules.elastic ? movedBox(lesion, matrix, rules.elastic, rules) : placedBox(lesion, matrix, rules)
    const [x1, y1, x2, y2] = whole
    const seen: Box = [Math.max(0, x1), Math.max(0, y1), Math.min(width, x2), Math.min(height, y2)]
    const [w, h] = [seen[2] - seen[0], seen[3] - seen[1]]
    if (w <= 0 || h <= 0) continue
    const visible = (w * h) / ((x2 - x1) * (y2 - y1))
    const cutSmall = (w < x2 - x1 && w < rules.minSidePx) || (h < y2 - y1 && h < rules.minSidePx)
    if (lesion.ignore || visible < rules.minVisible || cutSmall) {
      targets.ignore.push(seen)
    } else {
      targets.boxes.push(seen)
      targets.labels.push(lesion.label)
    }
  }
  return targets
}

function placedBox({ polygon, box }: LabelledLesion, matrix: Affine, { boxRule }: TargetRules): Box {
  return polygon === null ? transformBox(matrix, box, boxRule) : transformPolygon(matrix, polygon)
}

/** Sides of the polygon that stands for the inscribed ellipse: it misses the ellipse by a two-thousandth of its half axis. */
const ELLIPSE_SIDES = 96

/**
 * Under an elastic displacement the same outlines count as without: the contour, else the inscribed ellipse or the box. Their points are
 * moved, those of straight sides every 4 pixels, and the box is their bounds.
 */
function movedBox({ polygon, box }: LabelledLesion, matrix: Affine, elastic: Elastic, { boxRule }: TargetRules): Box {
  const [x1, y1, x2, y2] = box
  const outline =
    polygon ??
    (boxRule === 'corners'
      ? ([
          [x1, y1],
          [x2, y1],
          [x2, y2],
          [x1, y2],
        ] as const)
      : Array.from({ length: ELLIPSE_SIDES }, (_, n) => {
          const angle = (2 * Math.PI * n) / ELLIPSE_SIDES
          const [cx, cy] = [(x1 + x2) / 2, (y1 + y2) / 2]
          return [cx + ((x2 - x1) / 2) * Math.cos(angle), cy + ((y2 - y1) / 2) * Math.sin(angle)] as const
        }))
  return movedOutline(
    elastic,
    outline.map(([x, y]) => applyToPoint(matrix, x, y)),
  )
}
