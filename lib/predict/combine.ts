// Test-time combination: which parts of an image are predicted (tiles, mirrored copies) and how their detections become one list.
// Pure; coordinates are pixels of the scaled image. Whole image, unmirrored, is one view and needs no merging.
import { UsageError } from '../errors.js'
import { fuseBoxes, type ScoredBox } from '../geometry/fusion.js'
import { nms } from '../geometry/nms.js'

/** A part of the scaled image, mirrored left to right or not. */
export interface View {
  x: number
  y: number
  width: number
  height: number
  mirrored: boolean
}

export interface CombineOptions {
  /** Side of square tiles and distance between their starts, in network pixels, multiples of the coarsest stride. */
  tile?: { size: number; step: number }
  /** Predict the mirrored image too. */
  mirror?: boolean
  /** How mirrored and plain detections become one list; fusion changes scores. Default `fusion`. */
  merge?: 'nms' | 'fusion'
}

/** IoU at which boxes of both copies are one finding, the usual value of weighted box fusion. */
const FUSION_IOU = 0.55
/** A box within this distance of a tile's inner border may be cut by it. */
const CUT_PX = 1
/** A box at an inner border counts this much when tiles compete. */
const BORDER_WEIGHT = 0.5

/** Views of an image of `rows` x `columns`. Throws UsageError ARGUMENT for tiles off the stride or with gaps. */
export function planViews(
  [rows, columns]: readonly [number, number],
  options: CombineOptions,
  multiple: number,
): View[] {
  const { tile } = options
  const views: View[] = []
  if (tile === undefined) {
    views.push({ x: 0, y: 0, width: columns, height: rows, mirrored: false })
  } else {
    const fits = (value: number) => Number.isInteger(value) && value > 0 && value % multiple === 0
    if (!fits(tile.size) || !fits(tile.step) || tile.step > tile.size) {
      throw new UsageError(
        'ARGUMENT',
        `expected tile size and step as multiples of ${multiple} with step <= size, got ${tile.size} and ${tile.step}`,
      )
    }
    for (const y of starts(rows, tile)) {
      for (const x of starts(columns, tile)) {
        views.push({
          x,
          y,
          width: Math.min(tile.size, columns - x),
          height: Math.min(tile.size, rows - y),
          mirrored: false,
        })
      }
    }
  }
  return options.mirror === true ? [...views, ...views.map((view) => ({ ...view, mirrored: true }))] : views
}

function starts(side: number, { size, step }: { size: number; step: number }): number[] {
  const list = [0]
  while (list.at(-1)! + size < side) list.push(list.at(-1)! + step)
  return list
}

/** A box of a view's own pixels in pixels of the scaled image. */
export function fromView(view: View, [x1, y1, x2, y2]: ScoredBox['box']): ScoredBox['box'] {
  const [left, right] = view.mirrored ? [view.width - x2, view.width - x1] : [x1, x2]
  return [left + view.x, y1 + view.y, right + view.x, y2 + view.y]
}

/**
 * One list, by descending score, at most `maxDetections`. Tiles first: a box cut by an inner border is dropped where another tile
 * holds it whole, then class-wise NMS, in which boxes at a border count half. Then plain and mirrored by NMS or fusion.
 */
export function mergeViews(
  parts: readonly { view: View; detections: readonly ScoredBox[] }[],
  size: readonly [number, number],
  rules: { nmsIou: number; maxDetections: number; merge: 'nms' | 'fusion' },
): ScoredBox[] {
  const sides = [false, true]
    .map((mirrored) => parts.filter(({ view }) => view.mirrored === mirrored))
    .filter((list) => list.length > 0)
    .map((list) => mergeTiles(list, size, rules.nmsIou))
  let merged = sides[0] ?? []
  if (sides.length > 1) {
    merged =
      rules.merge === 'fusion'
        ? fuseCopies(sides)
        : suppress(
            sides.flat(),
            sides.flat().map(({ score }) => score),
            rules.nmsIou,
          )
  }
  return [...merged].sort((a, b) => b.score - a.score).slice(0, rules.maxDetections)
}

/** Detections of several copies of one image, or of several models, as one list by descending score: weighted boxes fusion. */
export function fuseCopies(copies: readonly (readonly ScoredBox[])[]): ScoredBox[] {
  return fuseBoxes(copies, { iou: FUSION_IOU, minScore: 0, score: 'average' })
}

function mergeTiles(
  parts: readonly { view: View; detections: readonly ScoredBox[] }[],
  size: readonly [number, number],
  nmsIou: number,
): ScoredBox[] {
  if (parts.length === 1) return [...parts[0]!.detections]
  const kept: ScoredBox[] = []
  const weighted: number[] = []
  for (const { view, detections } of parts) {
    for (const detection of detections) {
      const cut = touchesInnerBorder(view, detection.box, size)
      if (cut && parts.some((other) => other.view !== view && holdsWhole(other.view, detection.box, size))) continue
      kept.push(detection)
      weighted.push(cut ? detection.score * BORDER_WEIGHT : detection.score)
    }
  }
  return suppress(kept, weighted, nmsIou)
}

function suppress(list: readonly ScoredBox[], order: readonly number[], nmsIou: number): ScoredBox[] {
  const boxes = list.flatMap(({ box }) => box)
  return nms(
    boxes,
    order,
    nmsIou,
    list.map(({ label }) => label),
  ).map((index) => list[index]!)
}

function touchesInnerBorder(
  view: View,
  [x1, y1, x2, y2]: ScoredBox['box'],
  [rows, columns]: readonly [number, number],
): boolean {
  const right = view.x + view.width
  const bottom = view.y + view.height
  return (
    (view.x > 0 && x1 < view.x + CUT_PX) ||
    (view.y > 0 && y1 < view.y + CUT_PX) ||
    (right < columns && x2 > right - CUT_PX) ||
    (bottom < rows && y2 > bottom - CUT_PX)
  )
}

function holdsWhole(view: View, box: ScoredBox['box'], size: readonly [number, number]): boolean {
  const [x1, y1, x2, y2] = box
  const inside = x1 >= view.x && y1 >= view.y && x2 <= view.x + view.width && y2 <= view.y + view.height
  return inside && !touchesInnerBorder(view, box, size)
}
