// The anchor search against the published tool's results: the same objective, and values at least as good. The whole table is in the slow tier.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { prepareObjective } from '../../lib/anchors/objective.js'
import { optimizeAnchors } from '../../lib/anchors/optimize.js'
import { roundHalfToEven } from '../../lib/geometry/anchors.js'
import { packageRoot } from '../../lib/package-root.js'
import { oracleJson } from '../oracles.js'

interface Oracle {
  cbis400_indices: number[]
  boxes: Record<string, number[][]>
  runs: {
    boxes: string
    settings: { ratios: number; scales: number; objective: 'focal' | 'avg' | 'ce'; include_stride?: boolean }
    result: { x: number[]; fun: number; boxes_used: number; at_default_anchors: Record<string, number> }
  }[]
}

/** Boxes of CBIS-DDSM as the oracle used them; undefined without the data folder. */
function cbis(): number[][] | undefined {
  const folder = process.env['MAMMO_DATA'] ?? join(packageRoot(), '..', 'shared', 'data')
  const file = join(folder, 'cbis-ddsm-800', 'annotations.json')
  if (!existsSync(file)) return undefined
  const { annotations } = JSON.parse(readFileSync(file, 'utf8')) as {
    annotations: { id: number; bbox: [number, number, number, number] }[]
  }
  return annotations
    .toSorted((a, b) => a.id - b.id)
    .map(({ bbox: [x, y, w, h] }) => [x, y, x + w, y + h].map(roundHalfToEven))
}

const grid = { sizes: [32, 64, 128, 256, 512], strides: [8, 16, 32, 64, 128], inclusive: true }

t.test('anchor search', async (t) => {
  const oracle = await oracleJson<Oracle>(t, 'anchor_optimization.json')
  if (oracle === undefined) return
  const all = cbis()
  const sets: Record<string, number[][] | undefined> = {
    ...oracle.boxes,
    cbis1318: all,
    cbis400: all && oracle.cbis400_indices.map((i) => all[i]!),
  }
  const least = new Map<string, number>()
  for (const { boxes: name, settings, result } of oracle.runs) {
    const set = sets[name]
    if (set === undefined) {
      t.pass(name, { skip: `no CBIS-DDSM annotations for ${name}; set MAMMO_DATA to the data folder` })
      continue
    }
    // The tool drops boxes with a coordinate 0.
    const boxes = Float64Array.from(set.filter((box) => box.every((v) => v !== 0)).flat())
    t.equal(boxes.length / 4, result.boxes_used, `${name}: boxes`)
    const { ratios: R, scales: S, objective, include_stride = false } = settings
    const options = { ...grid, objective, grid: include_stride }
    const value = prepareObjective(boxes, options)
    const at = (x: readonly number[]) => value([1, ...x.slice(0, R >> 1).flatMap((v) => [v, 1 / v])], x.slice(R >> 1))
    t.ok(Math.abs(at(result.x) - result.fun) <= 1e-6, `${name} ${objective} ${R},${S}: objective ${at(result.x)}`)
    const key = JSON.stringify([name, R, S, objective, include_stride])
    least.set(key, Math.min(least.get(key) ?? Infinity, result.fun))
  }
  for (const [key, fun] of least) {
    const [name, ratios, scales, objective, onGrid] = JSON.parse(key) as [string, number, number, 'focal', boolean]
    const boxes = Float64Array.from(sets[name]!.filter((box) => box.every((v) => v !== 0)).flat())
    const fit = await optimizeAnchors(boxes, { ...grid, objective, grid: onGrid, ratios, scales, seed: 0 })
    t.ok(fit.value <= fun + 1e-4, `${key}: ${fit.value}, the tool's best ${fun}; ${fit.cpuSeconds} s`)
  }
})
