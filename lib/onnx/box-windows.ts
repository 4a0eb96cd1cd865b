// The box head only where it is asked for: the map is cut into blocks of 16 x 16 cells, and the tower runs on windows around the blocks that
// hold a chosen anchor. The same numbers as the dense tower: a window reaches as far beyond its block as the tower sees, or ends with the map,
// so that the zeros around it either do not matter or are those of the map. Not for towers with group norm, whose statistics need all cells.
import type { Dim, GraphBuilder } from './graph.js'
import type { FeatureMap } from './layers.js'

/** Where chosen anchors lie on a level's map: int64 [N,k] each. */
export interface AnchorPlaces {
  x: string
  y: string
  /** Index of the anchor within its cell. */
  inCell: string
}

export interface WindowOptions {
  level: number
  /** [N, C, h, w] */
  map: FeatureMap
  places: AnchorPlaces
  anchorsPerCell: number
  /** Cells that the tower sees in each direction. */
  reach: number
  /** Adds the tower on [windows, C, side, side] with zeros around each window; returns [windows, A*4, side, side]. */
  tower: (windows: FeatureMap, batch: Dim) => string
}

const BLOCK = 16

/** Box deltas of the chosen anchors, float32 [N,k,4]. */
export function addWindowedDeltas(graph: GraphBuilder, options: WindowOptions): string {
  const { level, map, places, anchorsPerCell, reach } = options
  const name = (part: string) => `head.box.p${level}.windows.${part}`
  const op = (type: string, part: string, inputs: string[], attributes = {}) =>
    graph.op(type, name(part), inputs, attributes)
  const whole = (value: number) => graph.int64(`int.${value}`, value)
  const axis = (index: number) => graph.int64(`axis.${index}`, [index])
  const range = (part: string, count: string) => op('Range', part, [whole(0), count, whole(1)])

  const shape = op('Shape', 'mapShape', [map.value])
  const size = (dim: 'rows' | 'columns') => {
    const cells = op('Gather', dim, [shape, whole(dim === 'rows' ? 2 : 3)])
    const up = op('Add', `${dim}.up`, [cells, whole(BLOCK - 1)])
    const side = op('Min', `${dim}.side`, [cells, whole(BLOCK + 2 * reach)])
    return {
      cells,
      blocks: op('Div', `${dim}.blocks`, [up, whole(BLOCK)]),
      side,
      last: op('Sub', `${dim}.last`, [cells, side]),
    }
  }
  const rows = size('rows')
  const columns = size('columns')

  // One number per block: image, then row, then column.
  const perImage = op('Mul', 'blocksPerImage', [rows.blocks, columns.blocks])
  const image = op('Reshape', 'image', [
    range('images', op('Gather', 'imageCount', [shape, whole(0)])),
    graph.int64('norm.column', [-1, 1]),
  ])
  const blockRow = op('Div', 'blockRow', [places.y, whole(BLOCK)])
  const blockColumn = op('Div', 'blockColumn', [places.x, whole(BLOCK)])
  const inImage = op('Add', 'blockInImage', [op('Mul', 'blockRowStart', [blockRow, columns.blocks]), blockColumn])
  const block = op('Add', 'block', [op('Mul', 'imageStart', [image, perImage]), inImage])
  const [chosen, , which] = graph.multi(
    'Unique',
    name('chosen'),
    [op('Reshape', 'blockList', [block, graph.int64('axis.-1', [-1])])],
    ['blocks', 'first', 'which', 'counts'],
    { sorted: 1 },
  ) as [string, string, string]

  // Start of each window, moved inwards where it would leave the map.
  const within = op('Mod', 'within', [chosen, perImage])
  const start = (part: string, index: string, { last }: { last: string }) => {
    const wanted = op('Sub', `${part}.wanted`, [op('Mul', `${part}.first`, [index, whole(BLOCK)]), whole(reach)])
    return op('Min', part, [op('Max', `${part}.inside`, [wanted, whole(0)]), last])
  }
  const top = start('top', op('Div', 'windowRow', [within, columns.blocks]), rows)
  const left = start('left', op('Mod', 'windowColumn', [within, columns.blocks]), columns)

  // Rows of the map as a table of cells [N*h*w, C].
  const firstRow = op('Add', 'firstRow', [
    op('Mul', 'imageRow', [op('Div', 'windowImage', [chosen, perImage]), rows.cells]),
    top,
  ])
  const spread = (part: string, first: string, side: string) =>
    op('Add', part, [op('Unsqueeze', `${part}.first`, [first, axis(1)]), range(`${part}.offsets`, side)])
  const rowStart = op('Mul', 'rowStart', [spread('windowRows', firstRow, rows.side), columns.cells])
  const cells = op('Add', 'cells', [
    op('Unsqueeze', 'rowStart.column', [rowStart, axis(2)]),
    op('Unsqueeze', 'windowColumns.row', [spread('windowColumns', left, columns.side), axis(1)]),
  ])
  const table = op('Reshape', 'table', [
    op('Transpose', 'nhwc', [map.value], { perm: [0, 2, 3, 1] }),
    graph.int64(`rows.cells${map.channels}`, [-1, map.channels]),
  ])
  const windows = op('Transpose', 'maps', [op('Gather', 'taken', [table, cells])], { perm: [0, 3, 1, 2] })
  const batch: Dim = `windows_p${level}`
  const windowSize: [Dim, Dim] = [`windowRows_p${level}`, `windowColumns_p${level}`]
  const deltas = options.tower({ value: windows, channels: map.channels, size: windowSize }, batch)

  // Back to the anchors.
  const window = op('Reshape', 'window', [which, op('Shape', 'placesShape', [places.x])])
  const local = (part: string, place: string, first: string) =>
    op('Sub', part, [place, op('Gather', `${part}.first`, [first, window])])
  const row = op('Add', 'cellRow', [op('Mul', 'windowStart', [window, rows.side]), local('localY', places.y, top)])
  const cell = op('Add', 'cell', [op('Mul', 'cellRowStart', [row, columns.side]), local('localX', places.x, left)])
  const anchor = op('Add', 'anchor', [op('Mul', 'cellStart', [cell, whole(anchorsPerCell)]), places.inCell])
  const list = op('Reshape', 'deltaTable', [
    op('Transpose', 'deltas.nhwc', [deltas], { perm: [0, 2, 3, 1] }),
    graph.int64('rows.table4', [-1, 4]),
  ])
  return op('Gather', 'deltas', [list, anchor])
}
