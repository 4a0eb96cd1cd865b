// A coarse mask of breast tissue that travels in the manifest as run lengths and answers "how much of this window is breast".
import type { BlockMask } from './breast.js'
import type { Rect } from './types.js'

/** Cells of `cell` x `cell` pixels of the full image, row-major run lengths that begin with a run of zeros. */
export interface TissueRuns {
  cell: number
  rows: number
  columns: number
  runs: number[]
}

/** Summed-area table of a mask, shifted to the pixels of a crop. */
export interface TissueMask {
  cell: number
  rows: number
  columns: number
  /** Crop's corner in the full image. */
  origin: [number, number]
  /** [(rows+1) * (columns+1)] cells set above and left of each grid point. */
  sums: Float64Array
}

/** Blocks per cell side. */
const BLOCKS = 4

/** Coarsens a block mask: a cell is set when at least half of its blocks are. */
export function encodeTissue(mask: BlockMask): TissueRuns {
  const rows = Math.ceil(mask.rows / BLOCKS)
  const columns = Math.ceil(mask.columns / BLOCKS)
  const runs: number[] = []
  let [value, run] = [0, 0]
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      let [count, area] = [0, 0]
      for (let y = i * BLOCKS; y < Math.min(mask.rows, (i + 1) * BLOCKS); y++) {
        for (let x = j * BLOCKS; x < Math.min(mask.columns, (j + 1) * BLOCKS); x++) {
          count += mask.bits[y * mask.columns + x]!
          area++
        }
      }
      const bit = 2 * count >= area ? 1 : 0
      if (bit === value) run++
      else {
        runs.push(run)
        value = bit
        run = 1
      }
    }
  }
  runs.push(run)
  return { cell: mask.block * BLOCKS, rows, columns, runs }
}

/** Prepares a mask for `coverage` in the pixels of `crop`. */
export function decodeTissue(tissue: TissueRuns, crop: Rect): TissueMask {
  const { cell, rows, columns, runs } = tissue
  const bits = new Uint8Array(rows * columns)
  let at = 0
  for (const [n, run] of runs.entries()) {
    if (n % 2 === 1) bits.fill(1, at, at + run)
    at += run
  }
  const sums = new Float64Array((rows + 1) * (columns + 1))
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const k = (i + 1) * (columns + 1) + j + 1
      sums[k] = bits[i * columns + j]! + sums[k - 1]! + sums[k - columns - 1]! - sums[k - columns - 2]!
    }
  }
  return { cell, rows, columns, origin: [crop[0], crop[1]], sums }
}

/** Share of the window of `width` x `height` at (x, y) of the crop that is breast, 0..1; beyond the image is not breast. */
export function coverage(mask: TissueMask, x: number, y: number, width: number, height = width): number {
  const left = (mask.origin[0] + x) / mask.cell
  const top = (mask.origin[1] + y) / mask.cell
  const [right, bottom] = [left + width / mask.cell, top + height / mask.cell]
  const cells = area(mask, right, bottom) - area(mask, left, bottom) - area(mask, right, top) + area(mask, left, top)
  return Math.max(0, (cells * mask.cell * mask.cell) / (width * height))
}

/** Mask area above and left of (x, y) in cells; between grid points the table is bilinear, exactly. */
function area(mask: TissueMask, x: number, y: number): number {
  const u = Math.min(mask.columns, Math.max(0, x))
  const v = Math.min(mask.rows, Math.max(0, y))
  const j = Math.min(mask.columns - 1, Math.floor(u))
  const i = Math.min(mask.rows - 1, Math.floor(v))
  const [du, dv] = [u - j, v - i]
  const k = i * (mask.columns + 1) + j
  const below = k + mask.columns + 1
  const upper = mask.sums[k]! * (1 - du) + mask.sums[k + 1]! * du
  const lower = mask.sums[below]! * (1 - du) + mask.sums[below + 1]! * du
  return upper * (1 - dv) + lower * dv
}
