// Anchors of an image: the boxes that the network's outputs refer to. Order: level, row, column, ratio, scale. The readable reference of
// native/core/ops/anchors. Each step is rounded as the reference that a setting reproduces rounds it (torchvision: float32 throughout;
// keras-retinanet: float32 ratios, scales and size*scale, then double). Methods: retinanet spec 2.1 and 3.1.

/** Structurally the AnchorConfig of the binding; this room imports nothing of it. */
export interface AnchorConfig {
  /** One per level. */
  sizes: readonly number[]
  strides: readonly number[]
  scales: readonly number[]
  /** height / width */
  ratios: readonly number[]
  /** `area`: w = sqrt((size*scale)^2 / r), h = w*r. `side`: h = s*sqrt(r), w = s/sqrt(r). */
  shape: 'area' | 'side'
  truncateSizes: boolean
  /** Corners around the origin are rounded, half to even. */
  roundCorners: boolean
  /** Place of a cell's anchor in units of the stride. */
  offset: number
  strideRule: 'configured' | 'floorDivision'
}

/** Rows and columns of a level's feature map. */
export type GridSize = readonly [number, number]

const f = Math.fround

/**
 * Feature map sizes per level. `halvings` says how a backbone rounds an odd side at each halving: `c` up (ceil), `f` down (floor); what it does
 * not list, the pyramid's own convolutions from P6 on, rounds up. Without it everything does: ceil(side / 2^level), as in a ResNet.
 */
export function gridSizes(height: number, width: number, levels: readonly number[], halvings = ''): GridSize[] {
  const side = (length: number, level: number) => {
    let rest = length
    for (let i = 0; i < level; i++) rest = halvings[i] === 'f' ? Math.floor(rest / 2) : Math.ceil(rest / 2)
    return rest
  }
  return levels.map((level) => [side(height, level), side(width, level)] as const)
}

/** Anchors of one cell around the origin, flat [ratios*scales, 4] xyxy in pixels, not yet rounded to float32 where the shape is `area`. */
export function cellAnchors(config: AnchorConfig, level: number): Float64Array {
  const { ratios, scales } = config
  const size = config.sizes[level]
  if (size === undefined)
    throw new RangeError(`cellAnchors expects a level below ${config.sizes.length} (one per size), got ${level}`)
  const corners = new Float64Array(4 * ratios.length * scales.length)
  let at = 0
  for (const ratio of ratios) {
    for (const scale of scales) {
      const product = f(f(size) * f(scale))
      const side = config.truncateSizes ? Math.trunc(size * scale) : product
      const [x, y] = config.shape === 'side' ? halfBySide(side, f(ratio)) : halfByArea(side, f(ratio))
      const round = config.roundCorners ? roundHalfToEven : (v: number) => v
      corners[at++] = round(-x)
      corners[at++] = round(-y)
      corners[at++] = round(x)
      corners[at++] = round(y)
    }
  }
  return corners
}

function halfBySide(side: number, ratio: number): [number, number] {
  const root = f(Math.sqrt(ratio))
  return [f(f(f(1 / root) * side) / 2), f(f(root * side) / 2)]
}

function halfByArea(side: number, ratio: number): [number, number] {
  const width = Math.sqrt((side * side) / ratio)
  return [width / 2, (width * ratio) / 2]
}

export function roundHalfToEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  if (rest !== 0.5) return Math.round(value)
  return floor % 2 === 0 ? floor : floor + 1
}

/** Step between cells (y, x) of each level. `canvas` is height, width of the padded input. */
export function anchorStrides(
  config: AnchorConfig,
  grids: readonly GridSize[],
  canvas: readonly [number, number],
): [number, number][] {
  return grids.map(([rows, columns], level) => {
    if (config.strideRule === 'floorDivision') return [Math.floor(canvas[0] / rows), Math.floor(canvas[1] / columns)]
    const stride = config.strides[level]!
    return [stride, stride]
  })
}

/** Number of anchors per level. */
export function anchorCounts(config: AnchorConfig, grids: readonly GridSize[]): number[] {
  const perCell = config.ratios.length * config.scales.length
  return grids.map(([rows, columns]) => rows * columns * perCell)
}

/**
 * All anchors of an image, flat [N,4] xyxy in canvas pixels.
 * `float32` is what the network uses (base and shift rounded, then their sum); `float64` is keras-retinanet's table for training targets.
 * @throws RangeError when sizes, strides and grids disagree in length.
 */
export function anchorTable(
  config: AnchorConfig,
  grids: readonly GridSize[],
  canvas: readonly [number, number],
  precision: 'float32',
): Float32Array
export function anchorTable(
  config: AnchorConfig,
  grids: readonly GridSize[],
  canvas: readonly [number, number],
  precision: 'float64',
): Float64Array
export function anchorTable(
  config: AnchorConfig,
  grids: readonly GridSize[],
  canvas: readonly [number, number],
  precision: 'float32' | 'float64',
): Float32Array | Float64Array {
  if (config.sizes.length !== grids.length || config.strides.length !== grids.length)
    throw new RangeError(
      `anchors expect one size and one stride per level: ${grids.length} levels, ${config.sizes.length} sizes, ${config.strides.length} strides`,
    )
  const total = anchorCounts(config, grids).reduce((sum, n) => sum + n, 0)
  const table = precision === 'float32' ? new Float32Array(4 * total) : new Float64Array(4 * total)
  const strides = anchorStrides(config, grids, canvas)
  let at = 0
  grids.forEach(([rows, columns], level) => {
    const wide = cellAnchors(config, level)
    const cell = precision === 'float32' ? Float32Array.from(wide) : wide
    const [strideY, strideX] = strides[level]!
    for (let row = 0; row < rows; row++) {
      const y = (row + config.offset) * strideY
      for (let column = 0; column < columns; column++) {
        const x = (column + config.offset) * strideX
        for (let i = 0; i < cell.length; i += 4) {
          table[at++] = x + cell[i]!
          table[at++] = y + cell[i + 1]!
          table[at++] = x + cell[i + 2]!
          table[at++] = y + cell[i + 3]!
        }
      }
    }
  })
  return table
}
