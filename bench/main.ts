// `npm run bench -- WORDS`: measures trials side by side with what a user would take instead, each round in a process of its own,
// ours and the peer's in turn. Prints a table; writes machine, date, commit and every number to one JSON file.
// Peers run when MAMMO_PEER_PYTHON names a Python that has them. Never part of the tests: times are no pass or fail.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Command } from 'commander'
import { writeFileAtomic } from '../lib/atomic-write.js'
import { packageRoot } from '../lib/package-root.js'
import { benchAblation, writeAblationTable } from './ablation.js'
import { benchAll, writeAllTable } from './all.js'
import { benchBackbones } from './backbones.js'
import { benchCoverage, writeCoverageText } from './coverage.js'
import { benchGrowth, writeGrowthText } from './growth.js'
import { writeInferTable } from './infer-table.js'
import { machine } from './machine.js'
import { peerPython as python, runSide, type Summary, summarise } from './run-side.js'
import { type Measurement, type Side, trials } from './trials.js'

interface Row extends Summary {
  trial: string
  variant: string
  side: string
  /** Peer's median over ours. */
  ratio?: number
}

// Tables of many rows with options of their own.
const tables: Record<string, (args: readonly string[]) => Promise<void>> = {
  all: benchAll,
  ablation: benchAblation,
  growth: benchGrowth,
  coverage: benchCoverage,
  backbones: benchBackbones,
  table: writeTables,
}
const table = tables[process.argv[2] ?? '']
if (table !== undefined) {
  await table(process.argv.slice(3))
  process.exit()
}

const program = new Command('bench')
  .argument(
    '<words...>',
    `trials: ${Object.keys(trials).join(', ')}; or one of ${Object.keys(tables).join(', ')} (WORD --help says more): all measures the table ` +
      'of targets, ablation every trick alone, growth time and memory against size, coverage lesions with an anchor without P3, table writes the documents again from the result files',
  )
  .option('--rounds <n>', 'processes per side', Number, 3)
  .option('--count <n>', "timed runs per process instead of the trial's own", Number)
  .option('--out <file>', 'result file')
  .option('--variants <text>', 'only variants whose name holds this text, such as 1024x1024')
  .option('--sides <texts>', 'only sides whose name ends with one of these texts, parted by |')
  .option('--threads <n>', 'threads of every side', Number)
  .option('--keep', 'keep the rows of the result file that are not measured now: a long trial in parts')
  .allowExcessArguments(false)
program.parse()

const words = program.args
const unknown = words.filter((word) => trials[word] === undefined)
if (unknown.length > 0) program.error(`unknown trial ${unknown.join(', ')}; known: ${Object.keys(trials).join(', ')}`)
const {
  rounds,
  count,
  threads,
  out,
  variants,
  sides: wanted,
  keep = false,
} = program.opts<{
  rounds: number
  count?: number
  threads?: number
  out?: string
  variants?: string
  sides?: string
  keep?: boolean
}>()
if (python === undefined)
  process.stderr.write('peers are left out: set MAMMO_PEER_PYTHON to a Python with torch and torchvision\n')

const host = await machine(threads)
const rows: Row[] = []
for (const word of words) {
  const trial = trials[word]!
  for (const [variant, options] of Object.entries(trial.variants)) {
    if (variants !== undefined && !variant.includes(variants)) continue
    const chosen = (name: string) => wanted === undefined || wanted.split('|').some((text) => name.endsWith(text))
    const sides = trial.sides.filter((side) => (side.runtime === 'node' || python !== undefined) && chosen(side.name))
    if (sides.length === 0) continue
    const collected = new Map<Side, Measurement[]>(sides.map((side) => [side, []]))
    for (let round = 0; round < rounds; round++) {
      for (const side of sides) {
        process.stderr.write(`${word} ${variant}: ${side.name}, round ${round + 1}/${rounds}\n`)
        collected
          .get(side)!
          .push(await runSide(side, { ...options, threads: host.threads, ...(count === undefined ? {} : { count }) }))
      }
    }
    const summaries = sides.map(
      (side): Row => ({ trial: word, variant, side: side.name, ...summarise(collected.get(side)!) }),
    )
    rows.push(...summaries)
  }
}
const file = out ?? join(packageRoot(), 'bench', 'results', `${words.join('-')}.json`)
if (keep) await addKept(rows, file)
compareWithFirst(rows)
await writeFileAtomic(
  file,
  `${JSON.stringify({ schema: 'mammo-retinanet/bench@1', machine: host, clock: process.env['MAMMO_BENCH_CLOCK'] ?? 'wall', rounds, rows }, null, 1)}\n`,
)
process.stdout.write(
  `${tableText(rows)}\n${host.cpu}, ${host.threads} threads, ${host.date}, commit ${host.commit}\nwritten to ${file}\n`,
)

/** Adds the rows of an earlier result file, in the order of the trials. */
async function addKept(rows: Row[], file: string): Promise<void> {
  const same = (a: Row) => (b: Row) => a.trial === b.trial && a.variant === b.variant && a.side === b.side
  const earlier = (JSON.parse(await readFile(file, 'utf8')) as { rows: Row[] }).rows
  const known = ({ trial, side }: Row) => trials[trial]?.sides.some(({ name }) => name === side)
  rows.push(...earlier.filter((row) => known(row) && !rows.some(same(row))))
  const place = ({ trial, variant, side }: Row) => [
    Object.keys(trials).indexOf(trial),
    Object.keys(trials[trial]!.variants).indexOf(variant),
    trials[trial]!.sides.findIndex(({ name }) => name === side),
  ]
  rows.sort((a, b) => {
    const [before, after] = [place(a), place(b)]
    return before.map((n, i) => n - after[i]!).find((difference) => difference !== 0) ?? 0
  })
}

/** Time of every further side over that of the first, which is ours. */
function compareWithFirst(rows: readonly Row[]): void {
  for (const row of rows) {
    const first = rows.find(({ trial, variant }) => trial === row.trial && variant === row.variant)!
    if (row !== first) row.ratio = row.medianSeconds / first.medianSeconds
  }
}

/** The generated parts of the documents, from the committed result files. */
async function writeTables(): Promise<void> {
  await writeAllTable()
  await writeAblationTable()
  await writeGrowthText()
  await writeCoverageText()
  await writeInferTable()
}

function tableText(all: readonly Row[]): string {
  const time = (s: number) =>
    s < 1e-3 ? `${(s * 1e6).toFixed(1)} us` : s < 1 ? `${(s * 1e3).toFixed(2)} ms` : `${s.toFixed(3)} s`
  const gib = (b: number) => `${(b / 2 ** 30).toFixed(2)} GiB`
  const head = [
    'trial',
    'variant',
    'side',
    'median',
    'min',
    'max',
    'runs',
    'peak memory',
    'above base',
    'peer / ours',
    'notes',
  ]
  const body = all.map((r) => [
    r.trial,
    r.variant,
    r.side,
    time(r.medianSeconds),
    time(r.minSeconds),
    time(r.maxSeconds),
    String(r.runs),
    gib(r.peakBytes),
    gib(Math.max(0, r.peakBytes - r.baseBytes)),
    r.ratio === undefined ? '' : `${r.ratio.toFixed(2)}x`,
    Object.entries(r.extra)
      .map(([k, v]) => `${k}=${typeof v === 'number' ? Number(v.toPrecision(4)) : v}`)
      .join(' '),
  ])
  const widths = head.map((h, i) => Math.max(h.length, ...body.map((row) => row[i]!.length)))
  const line = (cells: string[]) => `| ${cells.map((c, i) => c.padEnd(widths[i]!)).join(' | ')} |`
  return [line(head), line(widths.map((w) => '-'.repeat(w))), ...body.map(line)].join('\n')
}
