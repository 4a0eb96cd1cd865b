// Anchor searches on the box sets of the stored oracle, one after the other in one process and the first of them included: processor time of a search
// (every thread of the process, compiler and collector included), the value reached, and whether the result is the same on one and on two threads.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ObjectiveName } from '../../lib/anchors/objective.js'
import { optimizeAnchors } from '../../lib/anchors/optimize.js'
import { roundHalfToEven } from '../../lib/geometry/anchors.js'
import { packageRoot } from '../../lib/package-root.js'
import { median } from '../statistics.js'
import type { Measurement } from '../trials.js'
import { residentBytes } from './model.js'

interface Oracle {
  cbis400_indices: number[]
  boxes: Record<string, number[][]>
  runs: {
    boxes: string
    settings: { ratios: number; scales: number; objective: ObjectiveName; include_stride?: boolean }
    result: { fun: number }
  }[]
}

const shared = join(packageRoot(), '..', 'shared')

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const {
    boxes: name,
    count,
    ...search
  } = options as unknown as {
    boxes: string
    ratios: number
    scales: number
    objective: ObjectiveName
    grid: boolean
    count: number
  }
  const oracle = JSON.parse(
    readFileSync(join(process.env['MAMMO_ORACLES'] ?? join(shared, 'oracles'), 'anchor_optimization.json'), 'utf8'),
  ) as Oracle
  // The tool that made the oracle drops boxes with a coordinate 0.
  const boxes = Float64Array.from(
    load(oracle, name)
      .filter((box) => box.every((v) => v !== 0))
      .flat(),
  )
  const { ratios, scales, objective, grid } = search
  const stored = oracle.runs
    .filter(({ boxes: set, settings: s }) => {
      const same = s.ratios === ratios && s.scales === scales && s.objective === objective
      return set === name && same && (s.include_stride ?? false) === grid
    })
    .map(({ result }) => result.fun)
  const goal = Math.min(...stored) + 1e-4
  const settings = {
    ...{ sizes: [32, 64, 128, 256, 512], strides: [8, 16, 32, 64, 128], inclusive: true },
    ...{ ratios, scales, objective, grid },
  }
  const baseBytes = residentBytes('VmRSS')
  const each: number[] = []
  const values: number[] = []
  for (let seed = 0; seed < count; seed++) {
    const start = process.cpuUsage()
    const fit = await optimizeAnchors(boxes, { ...settings, seed })
    const used = process.cpuUsage(start)
    each.push((used.user + used.system) / 1e6)
    values.push(fit.value)
  }
  const peakBytes = residentBytes('VmHWM')
  const [one, two] = [1, 2].map((threads) => optimizeAnchors(boxes, { ...settings, seed: 0, threads }))
  const plain = async (fit: typeof one) => JSON.stringify({ ...(await fit!), cpuSeconds: 0 })
  const extra = {
    value: Math.min(...values),
    'worst value': Math.max(...values),
    goal,
    reached: `${values.filter((value) => value <= goal).length}/${values.length}`,
    'same on 2 threads': (await plain(one)) === (await plain(two)),
    'first search, s': each[0]!,
    'median search, s': median(each),
  }
  return { seconds: [each.reduce((sum, s) => sum + s, 0) / count], peakBytes, baseBytes, extra }
}

function load(oracle: Oracle, name: string): number[][] {
  const own = oracle.boxes[name]
  if (own !== undefined) return own
  const folder = process.env['MAMMO_DATA'] ?? join(shared, 'data')
  const { annotations } = JSON.parse(readFileSync(join(folder, 'cbis-ddsm-800', 'annotations.json'), 'utf8')) as {
    annotations: { id: number; bbox: [number, number, number, number] }[]
  }
  const all = annotations
    .toSorted((a, b) => a.id - b.id)
    .map(({ bbox: [x, y, w, h] }) => [x, y, x + w, y + h].map(roundHalfToEven))
  return name === 'cbis400' ? oracle.cbis400_indices.map((i) => all[i]!) : all
}
