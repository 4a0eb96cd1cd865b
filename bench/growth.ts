// `npm run bench -- growth`: seconds and memory of a training step and of detection against the image area and the batch, with the exponent
// of a power law through the points: nothing may grow faster than linearly in pixels. Every point is a process; finished ones are kept.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import type { TopLevelSpec } from 'vega-lite'
import { writeFileAtomic } from '../lib/atomic-write.js'
import { packageRoot } from '../lib/package-root.js'
import { draw, palette } from '../lib/report/plots.js'
import { type Machine, machine } from './machine.js'
import { markdownTable, writeBetweenMarkers } from './markdown.js'
import { runSide, summarise } from './run-side.js'
import { powerLaw } from './statistics.js'
import type { Side } from './trials.js'

interface Point {
  work: 'training step' | 'detection'
  /** What grows. */
  along: 'area' | 'batch'
  size: number
  batch: number
  seconds: number
  /** Above the process before the work. */
  bytes: number
}

export interface GrowthResults {
  schema: 'mammo-retinanet/bench-growth@1'
  machine: Machine
  points: Point[]
}

const SIZES = [512, 768, 1024, 1536, 2048, 3072, 4096]
const BATCHES = [1, 2, 3, 4]
const BATCH_SIZE = 512

const base = () => join(packageRoot(), 'bench', 'results', 'growth')

export async function benchGrowth(args: readonly string[]): Promise<void> {
  const program = new Command('bench growth')
    .option('--threads <n>', 'threads of the engine', Number, 1)
    .option('--max <pixels>', 'largest side', Number, SIZES.at(-1))
    .option('--fresh', 'measure finished points again')
    .option('--out <path>', 'result files, without their endings; the document is written for the default only', base())
  program.parse(args, { from: 'user' })
  const { threads, max, fresh, out } = program.opts<{ threads: number; max: number; fresh?: boolean; out: string }>()
  process.env['MAMMO_BENCH_CLOCK'] = threads === 1 ? 'processor' : 'wall'
  const host = await machine(threads)
  const wanted = (['training step', 'detection'] as const).flatMap((work) => [
    ...SIZES.filter((size) => size <= max).map((size) => ({ work, along: 'area' as const, size, batch: 1 })),
    ...(work === 'detection'
      ? []
      : BATCHES.map((batch) => ({ work, along: 'batch' as const, size: BATCH_SIZE, batch }))),
  ])
  let points = fresh ? [] : (readGrowth(`${out}.json`)?.points ?? [])
  const save = (results: GrowthResults) => writeFileAtomic(`${out}.json`, `${JSON.stringify(results, null, 1)}\n`)
  for (const want of wanted) {
    const same = (p: Point) => Object.entries(want).every(([key, value]) => p[key as keyof Point] === value)
    if (points.some(same)) continue
    process.stderr.write(`${want.work}, ${want.along}: ${want.batch} x ${want.size} x ${want.size}\n`)
    const side: Side = {
      ...{ name: 'mammo-retinanet', runtime: 'node', script: want.work === 'detection' ? 'forward' : 'train-step' },
    }
    // A large step is long enough to be timed once; its first run is as good as its second, the pages of the arena apart.
    const large = want.size > 2048
    const timing = { warmup: 1, count: large ? 1 : 3 }
    const setting = { backbone: 'resnet18', frozenStages: 5, height: want.size, width: want.size, batch: want.batch }
    const { medianSeconds, peakBytes, baseBytes } = summarise([await runSide(side, { ...setting, ...timing, threads })])
    points = [...points, { ...want, seconds: medianSeconds, bytes: peakBytes - baseBytes }]
    await save({ schema: 'mammo-retinanet/bench-growth@1', machine: host, points })
  }
  const results = readGrowth(`${out}.json`)!
  await writeFileAtomic(`${out}.svg`, await draw(plotSpec(results.points), 'Time and memory against pixels and batch'))
  process.stdout.write(`${growthText(results)}\nwritten to ${out}.json, .svg\n`)
  if (out === base()) await writeGrowthText()
}

function readGrowth(path: string): GrowthResults | undefined {
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as GrowthResults) : undefined
}

/** Writes the committed results' table into bench/README.md. */
export async function writeGrowthText(): Promise<void> {
  const results = readGrowth(`${base()}.json`)
  if (results === undefined) return
  await writeBetweenMarkers(join(packageRoot(), 'bench', 'README.md'), 'bench growth', growthText(results))
}

/** Megapixels of a point's input, all images together. */
const megapixels = ({ size, batch }: Point) => (batch * size * size) / 1e6

export function growthText({ machine, points }: GrowthResults): string {
  const lines = [...new Set(points.map(({ work, along }) => `${work}, ${along}`))]
  const body = lines.map((name) => {
    const line = points.filter(({ work, along }) => `${work}, ${along}` === name)
    const x = line.map(megapixels)
    const seconds = powerLaw(
      x,
      line.map((p) => p.seconds),
    )
    const bytes = powerLaw(
      x,
      line.map((p) => p.bytes),
    )
    const [first, last] = [line[0]!, line.at(-1)!]
    const range = (value: (p: Point) => string) => `${value(first)} to ${value(last)}`
    return [
      name === `${first.work}, batch`
        ? `${first.work}, batch ${first.batch} to ${last.batch} of ${first.size}`
        : `${first.work}, side ${first.size} to ${last.size}`,
      range((p) => `${p.seconds.toFixed(2)} s`),
      `${seconds.exponent.toFixed(2)} (steepest piece ${seconds.steepest.toFixed(2)})`,
      range((p) => `${(p.bytes / 2 ** 30).toFixed(2)} GiB`),
      `${bytes.exponent.toFixed(2)} (steepest piece ${bytes.steepest.toFixed(2)})`,
    ]
  })
  return [
    markdownTable(['work', 'time', 'exponent in pixels', 'memory above the base', 'exponent in pixels'], body),
    '',
    'Exponent: slope of the least-squares line through the logarithms; 1 is linear. The steepest piece is that between two neighbouring points. ResNet-18, frozen body, P3 to P7, two lesions; ' +
      `${machine.cpu}, ${machine.threads} thread(s)${machine.threads === 1 ? ', processor seconds' : ''}, ${machine.date.slice(0, 10)}, commit ${machine.commit}.`,
  ].join('\n')
}

/** Two panels, seconds and memory against megapixels, both logarithmic, with a line of slope one. */
function plotSpec(points: readonly Point[]): TopLevelSpec {
  const names = [...new Set(points.map(({ work, along }) => `${work}, ${along}`))]
  const panel = (title: string, unit: string, value: (p: Point) => number) => {
    const values = points.map((p) => ({ line: `${p.work}, ${p.along}`, x: megapixels(p), y: value(p) }))
    const smallest = values.reduce((a, b) => (b.x < a.x ? b : a))
    const largest = Math.max(...values.map(({ x }) => x))
    const linear = [smallest.x, largest].map((x) => ({ x, y: (0.6 * smallest.y * x) / smallest.x }))
    const axis = (field: string, text: string) => ({
      ...{ field, type: 'quantitative', title: text, scale: { type: 'log', nice: false, padding: 16 } },
    })
    const encoding = { x: axis('x', 'megapixels of the batch'), y: axis('y', unit) }
    return {
      ...{ width: 380, height: 320, title: { text: title, anchor: 'start', fontSize: 13 } },
      layer: [
        { data: { values: linear }, mark: { type: 'line', strokeDash: [4, 4], color: '#999' }, encoding },
        {
          data: { values },
          mark: { type: 'line', point: true },
          encoding: {
            ...encoding,
            color: {
              field: 'line',
              type: 'nominal',
              title: null,
              scale: { domain: names, range: palette.slice(0, names.length) },
            },
            strokeDash: { field: 'line', type: 'nominal', title: null, scale: { domain: names } },
          },
        },
      ],
    }
  }
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    background: 'white',
    config: {
      font: 'system-ui, sans-serif',
      legend: { orient: 'bottom', labelLimit: 240 },
      axis: { gridColor: '#e5e5e5' },
    },
    hconcat: [
      panel('Time (dashed grey: linear)', 'seconds', (p) => p.seconds),
      panel('Memory above the base (dashed grey: linear)', 'GiB', (p) => p.bytes / 2 ** 30),
    ],
  } as unknown as TopLevelSpec
}
