// `npm run bench -- backbones`: every backbone at one size, training step and inference each in a process of its own. The CSV is the state:
// a row that is finished is kept, so that the run can be stopped and started again; Markdown and plot are drawn from it.
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { parse } from 'csv-parse/sync'
import type { TopLevelSpec } from 'vega-lite'
import { writeFileAtomic } from '../lib/atomic-write.js'
import { BACKBONES, backboneOf } from '../lib/config/backbones.js'
import { packageRoot } from '../lib/package-root.js'
import { draw, palette } from '../lib/report/plots.js'
import { machine } from './machine.js'
import { median } from './statistics.js'
import type { BackboneSetting } from './trials/backbones.js'
import type { Measurement } from './trials.js'

const NUMBERS = [
  'size',
  'threads',
  'count',
  'bodyParameters',
  'parameters',
  'bodyGmac',
  'gmac',
  'trainSeconds',
  'trainPeakGiB',
  'inferSeconds',
  'inferPeakGiB',
] as const
const COLUMNS = ['backbone', 'family', ...NUMBERS, 'remark', 'date', 'commit', 'cpu'] as const

/** One line of the CSV; a number that could not be measured is NaN and `remark` says why. */
type Row = { [K in (typeof COLUMNS)[number]]: K extends (typeof NUMBERS)[number] ? number : string }

interface Options {
  size: number
  threads: number
  count: number
  limit: number
  only?: string[]
  fresh?: boolean
  out: string
}

export async function benchBackbones(args: readonly string[]): Promise<void> {
  const program = new Command('bench backbones')
    .option('--size <pixels>', 'side of the square input', Number, 1024)
    .option('--threads <n>', 'threads of the engine', Number, 1)
    .option('--count <n>', 'timed runs after one that is not counted', Number, 1)
    .option('--limit <seconds>', 'time for one process; a slower row says so', Number, 600)
    .option('--only <names...>', 'these backbones; the rest stays as it is')
    .option('--fresh', 'measure finished rows again')
    .option('--out <folder>', 'folder of the results', join(packageRoot(), 'bench', 'results'))
  program.parse(args, { from: 'user' })
  const options = program.opts<Options>()
  const unknown = options.only?.filter((name) => !BACKBONES.includes(name)) ?? []
  if (unknown.length > 0) program.error(`unknown backbone ${unknown.join(', ')}; known: ${BACKBONES.join(', ')}`)
  const base = join(options.out, options.size === 1024 ? 'backbones' : `backbones-${options.size}`)
  const host = await machine(options.threads)
  for (const name of options.only ?? BACKBONES) {
    // Read again each time: another process may add rows of its own.
    const done = readRows(`${base}.csv`).find((row) => row.backbone === name)
    if (done !== undefined && !options.fresh && done.threads === options.threads) continue
    process.stderr.write(`${name}\n`)
    const { size, threads, count, limit } = options
    const train = await runOnce({ backbone: name, size, threads, count, work: 'train' }, limit)
    const infer = await runOnce({ backbone: name, size, threads, count, work: 'infer' }, limit)
    const extra: Record<string, unknown> = (train.measured ?? infer.measured)?.extra ?? {}
    const number = (key: string) => Number(extra[key] ?? Number.NaN)
    const row: Row = {
      backbone: name,
      family: backboneOf(name).family,
      size,
      threads,
      count,
      bodyParameters: number('bodyParameters'),
      parameters: number('parameters'),
      bodyGmac: number('bodyMacs') / 1e9,
      gmac: number('macs') / 1e9,
      trainSeconds: median(train.measured?.seconds ?? []),
      trainPeakGiB: (train.measured?.peakBytes ?? Number.NaN) / 2 ** 30,
      inferSeconds: median(infer.measured?.seconds ?? []),
      inferPeakGiB: (infer.measured?.peakBytes ?? Number.NaN) / 2 ** 30,
      remark: [train.failed && `training: ${train.failed}`, infer.failed && `inference: ${infer.failed}`]
        .filter(Boolean)
        .join('; '),
      date: host.date,
      commit: host.commit,
      cpu: host.cpu,
    }
    const others = readRows(`${base}.csv`).filter(({ backbone }) => backbone !== name)
    const rows = [...others, row].sort((a, b) => BACKBONES.indexOf(a.backbone) - BACKBONES.indexOf(b.backbone))
    await writeFileAtomic(`${base}.csv`, csvText(rows))
  }
  const rows = readRows(`${base}.csv`)
  const table = markdown(rows)
  await writeFileAtomic(`${base}.md`, table)
  await writeFileAtomic(`${base}.svg`, await draw(plotSpec(rows), `Speed against memory of ${rows.length} backbones`))
  process.stdout.write(`${table}\nwritten to ${base}.csv, .md, .svg\n`)
}

/** One process; a failure or the end of its time is a text. */
async function runOnce(setting: BackboneSetting, limit: number): Promise<{ measured?: Measurement; failed?: string }> {
  const child = spawn(
    process.execPath,
    [join(packageRoot(), 'dist', 'bench', 'child.js'), 'backbones', JSON.stringify(setting)],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, OMP_NUM_THREADS: String(setting.threads) },
      timeout: limit * 1000,
      killSignal: 'SIGKILL',
    },
  )
  let out = ''
  let errors = ''
  child.stdout.on('data', (chunk) => {
    out += chunk
  })
  child.stderr.on('data', (chunk) => {
    errors += chunk
  })
  const code = await new Promise<number | string | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (status, signal) => resolve(status ?? signal))
  })
  const last = out.trim().split('\n').at(-1)
  if (code === 0 && last?.startsWith('{')) return { measured: JSON.parse(last) as Measurement }
  if (code === 'SIGKILL') return { failed: `not done in ${limit} s, or out of memory` }
  const cause = /^(?:\w*Error)[^\n]*/m.exec(errors)?.[0] ?? errors.trim().split('\n').at(-1)
  return { failed: `ended with ${code}: ${cause}` }
}

function readRows(path: string): Row[] {
  if (!existsSync(path)) return []
  const records = parse(readFileSync(path, 'utf8'), { columns: true }) as Record<string, string>[]
  return records.map((record) => {
    const numbers = NUMBERS.map((key) => [key, record[key] === '' ? Number.NaN : Number(record[key])])
    return { ...record, ...Object.fromEntries(numbers) } as Row
  })
}

function csvText(rows: readonly Row[]): string {
  const cell = (value: string | number) => {
    const text = typeof value === 'string' ? value : Number.isNaN(value) ? '' : String(Number(value.toPrecision(12)))
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
  }
  const lines = rows.map((row) => COLUMNS.map((key) => cell(row[key])).join(','))
  return `${COLUMNS.join(',')}\n${lines.join('\n')}\n`
}

function markdown(rows: readonly Row[]): string {
  const fixed = (value: number, digits: number) => (Number.isNaN(value) ? '-' : value.toFixed(digits))
  const head = [
    'backbone',
    'body parameters (M)',
    'body GMAC',
    'detector GMAC',
    'training step (s)',
    'peak (GiB)',
    'inference (s)',
    'peak (GiB)',
    '',
  ]
  const body = rows.map((row) => [
    row.backbone,
    fixed(row.bodyParameters / 1e6, 2),
    fixed(row.bodyGmac, 1),
    fixed(row.gmac, 1),
    fixed(row.trainSeconds, 2),
    fixed(row.trainPeakGiB, 2),
    fixed(row.inferSeconds, 2),
    fixed(row.inferPeakGiB, 2),
    row.remark,
  ])
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  const [first] = rows
  const about =
    first === undefined
      ? []
      : [
          '',
          `${first.size} x ${first.size}, batch 1, P3 to P7, fp32, one grey channel, batch norms frozen, all layers trained; ${first.threads} thread(s) of ${first.cpu}, ` +
            `${first.count} timed run(s) after one that is not counted. Peak: resident memory of the whole process. GMAC: convolutions only.`,
        ]
  return `${[line(head), line(head.map((_, i) => (i === 0 || i === head.length - 1 ? '---' : '---:'))), ...body.map(line), ...about].join('\n')}\n`
}

/** Two panels, training and inference: seconds against peak memory, both logarithmic, a point and a name per backbone. */
function plotSpec(rows: readonly Row[]): TopLevelSpec {
  const families = [...new Set(rows.map(({ family }) => family))]
  const panel = (title: string, seconds: 'trainSeconds' | 'inferSeconds', peak: 'trainPeakGiB' | 'inferPeakGiB') => {
    const points = rows
      .filter((row) => Number.isFinite(row[seconds]))
      .map((row) => ({ name: row.backbone, family: row.family, seconds: row[seconds], peak: row[peak] }))
    const places = placeLabels(points)
    const values = points.map((point, i) => ({ ...point, place: places[i] }))
    const axis = (field: string, text: string) => ({
      field,
      type: 'quantitative',
      title: text,
      scale: { type: 'log', nice: false, padding: MARGIN },
    })
    const encoding = { x: axis('peak', 'peak memory of the process (GiB)'), y: axis('seconds', 'seconds') }
    return {
      title: { text: title, anchor: 'start', fontSize: 13 },
      width: WIDTH,
      height: HEIGHT,
      data: { values },
      layer: [
        {
          mark: { type: 'point', filled: true, size: 60 },
          encoding: {
            ...encoding,
            color: {
              field: 'family',
              type: 'nominal',
              title: null,
              scale: { domain: families, range: families.map((_, i) => palette[i % palette.length]) },
            },
            shape: {
              field: 'family',
              type: 'nominal',
              title: null,
              scale: { domain: families, range: families.map((_, i) => SHAPES[Math.floor(i / palette.length)]) },
            },
          },
        },
        ...PLACES.map(({ align, dx, dy }, i) => ({
          transform: [{ filter: `datum.place === ${i}` }],
          mark: { type: 'text', align, dx, dy, fontSize: FONT, color: '#444' },
          encoding: { ...encoding, text: { field: 'name' } },
        })),
      ],
    }
  }
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    background: 'white',
    config: { font: 'system-ui, sans-serif', legend: { orient: 'bottom', columns: 6 }, axis: { gridColor: '#e5e5e5' } },
    hconcat: [
      panel('Training step', 'trainSeconds', 'trainPeakGiB'),
      panel('Inference', 'inferSeconds', 'inferPeakGiB'),
    ],
  } as unknown as TopLevelSpec
}

const WIDTH = 460
const HEIGHT = 420
/** Free space around the outermost points. */
const MARGIN = 40
const FONT = 8
const PLACES = [
  { align: 'left', dx: 6, dy: 0 },
  { align: 'right', dx: -6, dy: 0 },
  { align: 'left', dx: 5, dy: -8 },
  { align: 'left', dx: 5, dy: 8 },
  { align: 'right', dx: -5, dy: -8 },
  { align: 'right', dx: -5, dy: 8 },
  { align: 'center', dx: 0, dy: -11 },
  { align: 'center', dx: 0, dy: 11 },
] as const

/** For each point the number of the first place where its name covers least of the points and of the names before it. */
function placeLabels(points: readonly { name: string; seconds: number; peak: number }[]): number[] {
  const along = (values: readonly number[], length: number) => {
    const logs = values.map(Math.log)
    const [low, high] = [Math.min(...logs), Math.max(...logs)]
    return logs.map((value) => MARGIN + ((value - low) / (high - low || 1)) * (length - 2 * MARGIN))
  }
  const x = along(
    points.map((p) => p.peak),
    WIDTH,
  )
  const y = along(
    points.map((p) => p.seconds),
    HEIGHT,
  ).map((value) => HEIGHT - value)
  type Area = [left: number, top: number, right: number, bottom: number]
  const shared = (a: Area, b: Area) =>
    Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]))
  const taken: Area[] = points.map((_, i) => [x[i]! - 4, y[i]! - 4, x[i]! + 4, y[i]! + 4])
  return points.map(({ name }, i) => {
    const wide = name.length * FONT * 0.58
    const areas = PLACES.map(({ align, dx, dy }): Area => {
      const left = x[i]! + dx - (align === 'left' ? 0 : align === 'right' ? wide : wide / 2)
      return [left, y[i]! + dy - FONT / 2, left + wide, y[i]! + dy + FONT / 2]
    })
    const outside = ([left, , right]: Area) => (left < 0 || right > WIDTH ? 1000 : 0)
    const costs = areas.map((area) => outside(area) + taken.reduce((sum, other) => sum + shared(area, other), 0))
    const best = costs.indexOf(Math.min(...costs))
    taken.push(areas[best]!)
    return best
  })
}

const SHAPES = ['circle', 'square', 'triangle-up']
