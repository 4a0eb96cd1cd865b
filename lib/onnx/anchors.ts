// Anchors of one cell per pyramid level, the constants of the detect graph: the graph adds the cell's position to them.
// The table over a whole image is never built. Rules: anchor sizes, ratios and rounding of the configured semantics.
import type { AnchorConfig } from '../binding/types.js'

/**
 * Corners of the anchors of a cell around (0, 0), float32 [A,4] xyxy in pixels, ratio by ratio and within it scale by scale.
 * Every step is rounded to float32, as the references compute it, so that rounded corners fall on the same side of a tie.
 */
export function cellAnchors(config: AnchorConfig, level: number): Float32Array {
  const f = Math.fround
  const corners: number[] = []
  for (const ratio of config.ratios) {
    for (const scale of config.scales) {
      const product = f(f(config.sizes[level]!) * f(scale))
      const size = config.truncateSizes ? Math.trunc(product) : product
      const [width, height] = config.shape === 'side' ? bySide(size, ratio) : byArea(size, ratio)
      const box = [-width / 2, -height / 2, width / 2, height / 2]
      corners.push(...(config.roundCorners ? box.map(roundHalfToEven) : box))
    }
  }
  return Float32Array.from(corners)
}

function bySide(size: number, ratio: number): [number, number] {
  const root = Math.fround(Math.sqrt(Math.fround(ratio)))
  return [Math.fround(Math.fround(1 / root) * size), Math.fround(root * size)]
}

function byArea(size: number, ratio: number): [number, number] {
  const width = Math.sqrt((size * size) / Math.fround(ratio))
  return [width, width * Math.fround(ratio)]
}

function roundHalfToEven(value: number): number {
  const rounded = Math.round(value)
  const tie = Math.abs(value % 1) === 0.5
  return tie && rounded % 2 !== 0 ? rounded - 1 : rounded
}
