import t from 'tap'
import { anchorCoverage, positiveAnchors } from '../../lib/anchors/coverage.js'
import { type AnchorConfig, anchorTable, gridSizes } from '../../lib/geometry/anchors.js'
import { type Box, boxAt, iou } from '../../lib/geometry/boxes.js'
import { randomStream } from '../../lib/random.js'

const levels = [3, 4, 5, 6, 7]
const config: AnchorConfig = {
  sizes: [32, 64, 128, 256, 512],
  strides: [8, 16, 32, 64, 128],
  scales: [1, 2 ** (1 / 3), 2 ** (2 / 3)],
  ratios: [0.5, 1, 2],
  shape: 'area',
  truncateSizes: false,
  roundCorners: false,
  offset: 0.5,
  strideRule: 'configured',
}

t.test('agrees with the full table of anchors', (t) => {
  const random = randomStream(1)
  const [height, width] = [640, 512]
  const boxes = Array.from({ length: 40 }, (): Box => {
    const [w, h] = [random.uniform(10, 400), random.uniform(10, 400)]
    const [x, y] = [random.uniform(0, width - w), random.uniform(0, height - h)]
    return [x, y, x + w, y + h]
  })
  const grids = gridSizes(height, width, levels)
  const table = anchorTable(config, grids, [height, width], 'float64')
  const starts = [0]
  for (const [rows, columns] of grids) starts.push(starts.at(-1)! + rows * columns * 9)
  const coverage = anchorCoverage([{ height, width, boxes }], config, levels, 0.5)
  for (const [b, box] of boxes.entries()) {
    const ious = Float64Array.from({ length: table.length / 4 }, (_, a) => iou(boxAt(table, a), box))
    const best = Math.max(...ious)
    t.ok(Math.abs(coverage.boxes[b]!.bestIou - best) < 1e-9, `best IoU ${best}`)
    const positives = levels.map((_, l) => ious.slice(starts[l], starts[l + 1]).filter((v) => v >= 0.5).length)
    t.same(coverage.boxes[b]!.positives, positives)
    const listed = positiveAnchors(box, [height, width], config, levels, 0.5)
    t.equal(
      listed.length,
      positives.reduce((sum, n) => sum + n, 0),
    )
    t.ok(listed.every((anchor) => iou(anchor, box) >= 0.5))
  }
  t.equal(
    coverage.levels.reduce((sum, level) => sum + level.anchors, 0),
    table.length / 4,
  )
  t.end()
})

t.test('names what is out of reach and what is idle', (t) => {
  const coverage = anchorCoverage(
    [{ height: 1024, width: 1024, boxes: [[100, 100, 104, 104], [300, 300, 500, 520]] }], // biome-ignore format: short
    config,
    levels,
    0.5,
  )
  t.same(
    coverage.unmatched.map((b) => b.box),
    [0],
  )
  t.same(
    coverage.levels.filter((l) => l.idle).map((l) => l.level),
    [3, 4, 7],
  )
  t.ok(Math.abs(coverage.levels[0]!.share - 147456 / 196416) < 1e-12, 'P3 holds three quarters of the anchors')
  const none = anchorCoverage([], config, levels, 0.5)
  t.equal(none.meanBestIou, null)
  t.same(none.unmatched, [])
  t.end()
})
