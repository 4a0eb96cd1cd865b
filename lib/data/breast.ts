// Finds the breast in a mammogram: a block mask and the rectangle around it, in integers only, so the result is the same on
// every machine. It knows nothing of annotations except in `protectLesions`, which widens a crop around them.
// Method: frame removal, half of Otsu's threshold on block means, opening, largest component (datasets spec 4.1).
import type { Rect } from './types.js'

/** A mask of square pixel blocks, row-major, 1 inside the breast. Block (i, j) covers pixels [j*block, (j+1)*block) of its row. */
export interface BlockMask {
  block: number
  rows: number
  columns: number
  bits: Uint8Array
}

export interface BreastRegion {
  /** Crop in pixels of the image: bounds of the mask plus the margin, or the whole image when no plausible breast was found. */
  crop: Rect
  mask: BlockMask
  /** Threshold on block means that separated tissue from background. */
  threshold: number
  /** Share of the image's blocks inside the mask. */
  share: number
  /** False when the mask held under 5 % of the image or over 95 % of it inside its frame; the crop is then the whole image. */
  found: boolean
}

/** Images whose longer side is below this use small blocks. */
const SMALL_IMAGE = 1024
const FRAME_SHARE = 0.04
const MARGIN = 0.03
/** A border line is a light leak when it is lit along this share of its length more than the line just inside. */
const LEAK_SHARE = 0.25
const BINS = 4096

/**
 * Finds the breast of an image of `width` x `height` uint16 pixels, row-major, background dark. About 0.1 s for 14 Mpx.
 * Scanned films may have bright frames, labels and tape; they are cut, or lose against the larger component.
 */
export function findBreast(pixels: Uint16Array, width: number, height: number): BreastRegion {
  const block = Math.max(width, height) < SMALL_IMAGE ? 4 : 8
  const columns = Math.ceil(width / block)
  const rows = Math.ceil(height / block)
  const means = blockMeans(pixels, width, height, block)
  const inner = cutFrame(means, columns, rows)
  const threshold = halfOtsu(means, columns, inner)
  const raw = new Uint8Array(columns * rows)
  for (let i = inner[1]; i < inner[3]; i++) {
    for (let j = inner[0]; j < inner[2]; j++) raw[i * columns + j] = means[i * columns + j]! >= threshold ? 1 : 0
  }
  clearLightLeaks(raw, columns, rows)
  const bits = fillHoles(largestComponent(open3(raw, columns, rows), columns, rows), columns, rows)
  const mask = { block, rows, columns, bits }
  let count = 0
  let [left, top, right, bottom] = [columns, rows, 0, 0]
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      if (bits[i * columns + j] === 0) continue
      count++
      left = Math.min(left, j)
      right = Math.max(right, j + 1)
      top = Math.min(top, i)
      bottom = Math.max(bottom, i + 1)
    }
  }
  const share = count / (rows * columns)
  const innerShare = count / ((inner[2] - inner[0]) * (inner[3] - inner[1]))
  if (share < 0.05 || innerShare > 0.95) return { crop: [0, 0, width, height], mask, threshold, share, found: false }
  const marginX = Math.ceil((right - left) * block * MARGIN)
  const marginY = Math.ceil((bottom - top) * block * MARGIN)
  // A breast that reaches the frame zone at its chest wall continues below the frame: lesions are marked up to the edge there.
  const frame = width * FRAME_SHARE
  const x1 = left * block - marginX
  const x2 = right * block + marginX
  const crop: Rect = [
    x1 <= frame ? 0 : x1,
    Math.max(0, top * block - marginY),
    x2 >= width - frame ? width : x2,
    Math.min(height, bottom * block + marginY),
  ]
  return { crop, mask, threshold, share, found: true }
}

/** Widens a crop so that every box (full-image pixels) lies inside it. `extended` counts the boxes that were outside by more than 1 px. */
export function protectLesions(
  crop: Rect,
  boxes: readonly (readonly [number, number, number, number])[],
  width: number,
  height: number,
): { crop: Rect; extended: number } {
  let [x1, y1, x2, y2] = crop
  let extended = 0
  for (const box of boxes) {
    if (box[0] < crop[0] - 1 || box[1] < crop[1] - 1 || box[2] > crop[2] + 1 || box[3] > crop[3] + 1) extended++
    x1 = Math.max(0, Math.min(x1, Math.floor(box[0])))
    y1 = Math.max(0, Math.min(y1, Math.floor(box[1])))
    x2 = Math.min(width, Math.max(x2, Math.ceil(box[2])))
    y2 = Math.min(height, Math.max(y2, Math.ceil(box[3])))
  }
  return { crop: [x1, y1, x2, y2], extended }
}

function blockMeans(pixels: Uint16Array, width: number, height: number, block: number): Uint16Array {
  const columns = Math.ceil(width / block)
  const rows = Math.ceil(height / block)
  const means = new Uint16Array(columns * rows)
  // A block of 64 pixels of 16 bits stays below 2^22.
  const sums = new Uint32Array(columns)
  const whole = Math.floor(width / block)
  for (let i = 0; i < rows; i++) {
    sums.fill(0)
    const y2 = Math.min(height, (i + 1) * block)
    for (let y = i * block; y < y2; y++) {
      let at = y * width
      // Written out, because this loop reads every pixel of the image.
      for (let j = 0; j < whole; j++, at += block) {
        let sum = pixels[at]! + pixels[at + 1]! + pixels[at + 2]! + pixels[at + 3]!
        if (block === 8) sum += pixels[at + 4]! + pixels[at + 5]! + pixels[at + 6]! + pixels[at + 7]!
        sums[j]! += sum
      }
      for (const end = (y + 1) * width; at < end; at++) sums[whole]! += pixels[at]!
    }
    for (let j = 0; j < columns; j++) {
      const area = (y2 - i * block) * (Math.min(width, (j + 1) * block) - j * block)
      means[i * columns + j] = Math.floor(sums[j]! / area)
    }
  }
  return means
}

/** Smallest value v such that at least `share` of the counted values are <= v. */
function percentile(histogram: Uint32Array, total: number, share: number): number {
  const wanted = Math.ceil(total * share)
  let seen = 0
  for (let v = 0; v < histogram.length; v++) {
    seen += histogram[v]!
    if (seen >= wanted) return v
  }
  return histogram.length - 1
}

function histogramOf(means: Uint16Array, columns: number, [x1, y1, x2, y2]: Rect): Uint32Array {
  const histogram = new Uint32Array(65536)
  for (let i = y1; i < y2; i++) for (let j = x1; j < x2; j++) histogram[means[i * columns + j]!]!++
  return histogram
}

/** Block rectangle without the bright frame that scanners leave: lines at the border whose median is nearly white. */
function cutFrame(means: Uint16Array, columns: number, rows: number): Rect {
  const whole: Rect = [0, 0, columns, rows]
  const white = percentile(histogramOf(means, columns, whole), columns * rows, 0.999) * 0.8
  const bright = (line: Uint16Array) => line.sort()[line.length >> 1]! > white && white > 0
  const row = (i: number) => bright(means.slice(i * columns, (i + 1) * columns))
  const column = (j: number) => bright(Uint16Array.from({ length: rows }, (_, i) => means[i * columns + j]!))
  const limitX = Math.floor(columns * FRAME_SHARE)
  const limitY = Math.floor(rows * FRAME_SHARE)
  const depth = (limit: number, isBright: (n: number) => boolean) => {
    let n = 0
    while (n < limit && isBright(n)) n++
    return n
  }
  return [
    depth(limitX, column),
    depth(limitY, row),
    columns - depth(limitX, (n) => column(columns - 1 - n)),
    rows - depth(limitY, (n) => row(rows - 1 - n)),
  ]
}

/** Half of Otsu's threshold over block means capped at their 99th percentile; at least 1. Full Otsu loses the fatty rim. */
function halfOtsu(means: Uint16Array, columns: number, inner: Rect): number {
  const values = histogramOf(means, columns, inner)
  const total = (inner[2] - inner[0]) * (inner[3] - inner[1])
  const cap = Math.max(1, percentile(values, total, 0.99))
  const bins = new Float64Array(BINS)
  let sumAll = 0
  for (let v = 0; v < values.length; v++) {
    const count = values[v]!
    if (count === 0) continue
    const bin = Math.floor((Math.min(v, cap) * (BINS - 1)) / cap)
    bins[bin]! += count
    sumAll += bin * count
  }
  let [best, at, below, sumBelow] = [-1, 0, 0, 0]
  for (let bin = 0; bin < BINS - 1; bin++) {
    below += bins[bin]!
    sumBelow += bin * bins[bin]!
    if (below === 0 || below === total) continue
    const difference = sumAll * below - sumBelow * total
    const between = (difference / total) * (difference / (below * (total - below)))
    if (between > best) {
      best = between
      at = bin
    }
  }
  return Math.max(1, Math.floor(((at + 1) * cap) / (2 * (BINS - 1))))
}

/**
 * Clears border lines that are lit along much more of their length than the line just inside the frame zone: light that
 * leaked in beside the film, grey and therefore missed by `cutFrame`. A breast only gets narrower towards top and bottom.
 */
function clearLightLeaks(bits: Uint8Array, columns: number, rows: number): void {
  const side = (lines: number, length: number, at: (line: number, n: number) => number) => {
    const lit = (line: number) => {
      let count = 0
      for (let n = 0; n < length; n++) count += bits[at(line, n)]!
      return count
    }
    const limit = Math.floor(lines * FRAME_SHARE)
    const allowed = lit(limit) + length * LEAK_SHARE
    for (let line = 0; line < limit; line++) {
      if (lit(line) > allowed) for (let n = 0; n < length; n++) bits[at(line, n)] = 0
    }
  }
  side(rows, columns, (line, n) => line * columns + n)
  side(rows, columns, (line, n) => (rows - 1 - line) * columns + n)
  side(columns, rows, (line, n) => n * columns + line)
  side(columns, rows, (line, n) => n * columns + columns - 1 - line)
}

/** 3x3 opening with background beyond the image: removes what is thinner than 3 blocks, lines along the border included. */
function open3(bits: Uint8Array, columns: number, rows: number): Uint8Array {
  return square3(square3(bits, columns, rows, 1), columns, rows, 0)
}

/** 3x3 erosion (`keep` 1: all nine set, outside counts as unset) or dilation (`keep` 0: any set). */
function square3(bits: Uint8Array, columns: number, rows: number, keep: 0 | 1): Uint8Array {
  // Sums of three along the rows, between two empty rows, then along the columns.
  const across = new Uint8Array((rows + 2) * columns)
  for (let i = 0; i < rows; i++) {
    const row = i * columns
    for (let j = 0; j < columns; j++) {
      const left = j > 0 ? bits[row + j - 1]! : 0
      const right = j < columns - 1 ? bits[row + j + 1]! : 0
      across[row + columns + j] = left + bits[row + j]! + right
    }
  }
  const wanted = keep === 1 ? 9 : 1
  const result = new Uint8Array(bits.length)
  for (let at = 0; at < bits.length; at++) {
    const count = across[at]! + across[at + columns]! + across[at + 2 * columns]!
    result[at] = count >= wanted ? 1 : 0
  }
  return result
}

/** Keeps the largest 4-connected component; among equals the one met first in row order. */
function largestComponent(bits: Uint8Array, columns: number, rows: number): Uint8Array {
  const label = new Int32Array(bits.length)
  const stack = new Int32Array(bits.length)
  let [labels, bestLabel, bestSize] = [0, 0, 0]
  for (let start = 0; start < bits.length; start++) {
    if (bits[start] === 0 || label[start] !== 0) continue
    labels++
    const size = flood(start, columns, rows, stack, (at) => {
      if (bits[at] === 0 || label[at] !== 0) return false
      label[at] = labels
      return true
    })
    if (size > bestSize) {
      bestSize = size
      bestLabel = labels
    }
  }
  const result = new Uint8Array(bits.length)
  if (bestLabel > 0) for (let at = 0; at < result.length; at++) result[at] = label[at] === bestLabel ? 1 : 0
  return result
}

/** Fills background regions that do not reach the border. */
function fillHoles(bits: Uint8Array, columns: number, rows: number): Uint8Array {
  const outside = new Uint8Array(bits.length)
  const stack = new Int32Array(bits.length)
  const enter = (at: number) => {
    if (bits[at] !== 0 || outside[at] !== 0) return false
    outside[at] = 1
    return true
  }
  for (let j = 0; j < columns; j++) {
    flood(j, columns, rows, stack, enter)
    flood((rows - 1) * columns + j, columns, rows, stack, enter)
  }
  for (let i = 0; i < rows; i++) {
    flood(i * columns, columns, rows, stack, enter)
    flood((i + 1) * columns - 1, columns, rows, stack, enter)
  }
  return outside.map((value) => 1 - value)
}

/** 4-connected flood from `start`; `enter` decides and marks, so each cell is pushed once. Returns the number of cells entered. */
function flood(
  start: number,
  columns: number,
  rows: number,
  stack: Int32Array,
  enter: (at: number) => boolean,
): number {
  if (!enter(start)) return 0
  let [top, count] = [0, 0]
  stack[top++] = start
  while (top > 0) {
    const at = stack[--top]!
    count++
    const x = at % columns
    if (x > 0 && enter(at - 1)) stack[top++] = at - 1
    if (x < columns - 1 && enter(at + 1)) stack[top++] = at + 1
    if (at >= columns && enter(at - columns)) stack[top++] = at - columns
    if (at < columns * (rows - 1) && enter(at + columns)) stack[top++] = at + columns
  }
  return count
}
