// What a set of anchors can teach about a set of boxes: the best IoU of each box, its positive anchors by pyramid level, boxes that no anchor reaches,
// levels that no box needs and what they cost. Counts by the thresholds only; low-quality matches are reported as unmatched boxes.
import {
  type AnchorConfig,
  anchorCounts,
  anchorStrides,
  cellAnchors,
  type GridSize,
  gridSizes,
} from '../geometry/anchors.js'
import { type Box, iou } from '../geometry/boxes.js'

/** Boxes of one network input. */
export interface CoverageImage {
  /** Canvas, in pixels. */
  height: number
  width: number
  boxes: readonly Readonly<Box>[]
}

export interface BoxCoverage {
  /** Position of the image and of the box in it. */
  image: number
  box: number
  bestIou: number
  /** Level (such as 5) of the best anchor. */
  bestLevel: number
  /** Positive anchors per level. */
  positives: number[]
}

export interface Coverage {
  boxes: BoxCoverage[]
  meanBestIou: number | null
  minimumBestIou: number | null
  /** Boxes below the positive threshold. */
  unmatched: BoxCoverage[]
  medianPositives: number | null
  levels: {
    level: number
    /** Mean anchors per image, and their share. */
    anchors: number
    share: number
    positives: number
    /** Boxes whose positives all lie on this level. */
    onlyHere: number
    /** No positive anchor of any box. */
    idle: boolean
  }[]
}

/**
 * Coverage of the boxes by the anchors of the levels, at the IoU that makes an anchor positive. `halvings` is the backbone's rounding of odd
 * sides, see `gridSizes`.
 */
export function anchorCoverage(
  images: readonly CoverageImage[],
  config: AnchorConfig,
  levels: readonly number[],
  positiveIou: number,
  halvings?: string,
): Coverage {
  const cells = levels.map((_, level) => cellAnchors(config, level))
  const totals = levels.map(() => 0)
  const boxes = images.flatMap((image, position) => {
    const grids = gridSizes(image.height, image.width, levels, halvings)
    const strides = anchorStrides(config, grids, [image.height, image.width])
    anchorCounts(config, grids).forEach((count, level) => {
      totals[level]! += count / images.length
    })
    return image.boxes.map((box, at) => {
      const found: BoxCoverage = { image: position, box: at, bestIou: 0, bestLevel: levels[0]!, positives: [] }
      levels.forEach((level, l) => {
        const { best, positives } = coverLevel(box, cells[l]!, grids[l]!, strides[l]!, config.offset, positiveIou)
        found.positives.push(positives)
        if (best > found.bestIou) {
          found.bestIou = best
          found.bestLevel = level
        }
      })
      return found
    })
  })
  const all = totals.reduce((sum, n) => sum + n, 0)
  const sums = boxes.map(({ positives }) => positives.reduce((sum, n) => sum + n, 0))
  const sorted = sums.toSorted((a, b) => a - b)
  return {
    boxes,
    meanBestIou: boxes.length === 0 ? null : boxes.reduce((sum, b) => sum + b.bestIou, 0) / boxes.length,
    minimumBestIou: boxes.length === 0 ? null : Math.min(...boxes.map((b) => b.bestIou)),
    unmatched: boxes.filter((b) => b.bestIou < positiveIou),
    medianPositives: boxes.length === 0 ? null : (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2,
    levels: levels.map((level, l) => {
      const positives = boxes.reduce((sum, b) => sum + b.positives[l]!, 0)
      return {
        level,
        anchors: totals[l]!,
        share: all === 0 ? 0 : totals[l]! / all,
        positives,
        onlyHere: boxes.filter((b, i) => sums[i]! > 0 && b.positives[l] === sums[i]).length,
        idle: positives === 0,
      }
    }),
  }
}

/** The anchors of a canvas (height, width) that are positive for a box, as boxes. */
export function positiveAnchors(
  box: Readonly<Box>,
  canvas: readonly [number, number],
  config: AnchorConfig,
  levels: readonly number[],
  positiveIou: number,
  halvings?: string,
): Box[] {
  const grids = gridSizes(canvas[0], canvas[1], levels, halvings)
  const strides = anchorStrides(config, grids, canvas)
  const found: Box[] = []
  levels.forEach((_, l) => {
    const cell = cellAnchors(config, l)
    coverLevel(box, cell, grids[l]!, strides[l]!, config.offset, positiveIou, (anchor) => found.push(anchor))
  })
  return found
}

function coverLevel(
  box: Readonly<Box>,
  cell: Float64Array,
  [rows, columns]: GridSize,
  [strideY, strideX]: [number, number],
  offset: number,
  positiveIou: number,
  onPositive?: (anchor: Box) => void,
): { best: number; positives: number } {
  let best = 0
  let positives = 0
  const boxArea = (box[2] - box[0]) * (box[3] - box[1])
  for (let a = 0; a < cell.length; a += 4) {
    const [x1, y1, x2, y2] = [cell[a]!, cell[a + 1]!, cell[a + 2]!, cell[a + 3]!]
    const anchorAt = (row: number, column: number): Box => {
      const x = (column + offset) * strideX
      const y = (row + offset) * strideY
      return [x + x1, y + y1, x + x2, y + y2]
    }
    const at = (row: number, column: number) => iou(box, anchorAt(row, column))
    const count = (r: number, c: number) => {
      positives++
      onPositive?.(anchorAt(r, c))
    }
    // Along each axis the overlap falls with the distance of the centres: the nearest cell is the best one.
    const place = (low: number, high: number, c1: number, c2: number, stride: number, count: number) =>
      Math.min(count - 1, Math.max(0, Math.round(((low + high) / 2 - (c1 + c2) / 2) / stride - offset)))
    const row = place(box[1], box[3], y1, y2, strideY, rows)
    const column = place(box[0], box[2], x1, x2, strideX, columns)
    const most = at(row, column)
    if (most > best) best = most
    // No position lifts the IoU above the ratio of the areas.
    const area = (x2 - x1) * (y2 - y1)
    if (most < positiveIou || Math.min(area, boxArea) < positiveIou * Math.max(area, boxArea)) continue
    // Positive cells of a row form an interval around the best column, and so do the rows.
    for (const step of [-1, 1])
      for (let r = step === -1 ? row : row + 1; r >= 0 && r < rows && at(r, column) >= positiveIou; r += step) {
        count(r, column)
        for (let c = column - 1; c >= 0 && at(r, c) >= positiveIou; c--) count(r, c)
        for (let c = column + 1; c < columns && at(r, c) >= positiveIou; c++) count(r, c)
      }
  }
  return { best, positives }
}
