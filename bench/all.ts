// `npm run bench -- all`: the table of targets, each row ours beside the peers in turn, a process per run. The result file is the state:
// a finished row is kept, so that the run can be stopped and started again. The README's table is written from that file alone.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { writeFileAtomic } from '../lib/atomic-write.js'
import { packageRoot } from '../lib/package-root.js'
import { type Machine, machine } from './machine.js'
import { markdownTable, secondsText, writeBetweenMarkers } from './markdown.js'
import { peerPython, runSide, SideFailed, type Summary, summarise } from './run-side.js'
import { type Goal, type PeerName, type Target, targets } from './targets.js'
import type { Measurement, Side } from './trials.js'

/** A side that ended badly leaves its cause instead of numbers. */
type Outcome = Summary | { failed: string }

export interface ResultRow {
  id: string
  ours: Outcome
  peers: Partial<Record<PeerName, Outcome>>
  date: string
  commit: string
  clock: string
}

export interface AllResults {
  schema: 'mammo-retinanet/bench-all@1'
  /** Of the last row that was measured; every row has its own date and commit. */
  machine: Machine
  rows: ResultRow[]
}

const resultFile = () => join(packageRoot(), 'bench', 'results', 'all.json')

export async function benchAll(args: readonly string[]): Promise<void> {
  const program = new Command('bench all')
    .option('--only <ids...>', `these rows (${targets.map(({ id }) => id).join(', ')}); the rest stays as it is`)
    .option('--fresh', 'measure finished rows again')
    .option('--side <name>', 'measure only ours or only peers; the other side keeps its numbers')
    .option('--threads <n>', 'threads of every side', Number, 1)
    .option('--clock <name>', 'wall, or processor: seconds of one thread on a machine that others use too', 'processor')
    .option('--small', 'a try at tiny sizes, one round, into the file of --out')
    .option('--out <file>', 'result file; the README is written for the default one only', resultFile())
  program.parse(args, { from: 'user' })
  const options = program.opts<{
    only?: string[]
    fresh?: boolean
    side?: string
    threads: number
    clock: string
    small?: boolean
    out: string
  }>()
  const unknown = options.only?.filter((id) => !targets.some((target) => target.id === id)) ?? []
  if (unknown.length > 0) program.error(`unknown row ${unknown.join(', ')}`)
  if (!['wall', 'processor'].includes(options.clock)) program.error(`--clock: wall or processor, got ${options.clock}`)
  if (options.clock === 'processor' && options.threads > 1)
    program.error('--threads above 1 needs --clock wall: the processor times of threads add up')
  process.env['MAMMO_BENCH_CLOCK'] = options.clock
  if (![undefined, 'ours', 'peers'].includes(options.side)) program.error(`--side: ours or peers, got ${options.side}`)
  if (options.small && options.out === resultFile()) program.error('--small needs a file of its own: --out FILE')
  if (peerPython === undefined)
    program.error('set MAMMO_PEER_PYTHON to a Python with torch and torchvision: the table compares')
  for (const target of targets) {
    if (options.only !== undefined && !options.only.includes(target.id)) continue
    const done = readAll(options.out)?.rows.find(({ id }) => id === target.id)
    if (done !== undefined && !options.fresh && options.side === undefined) continue
    const host = await machine(options.threads)
    const measured = await measureTarget(target, options.threads, options.small ?? false, options.side)
    // Read again: another process may have added rows, or the other side of this one.
    const present = readAll(options.out)?.rows ?? []
    const before = present.find(({ id }) => id === target.id)
    const row: Pick<ResultRow, 'id' | 'ours' | 'peers'> = {
      id: target.id,
      ours: measured.ours ?? before?.ours ?? { failed: 'not measured' },
      peers: { ...before?.peers, ...measured.peers },
    }
    const others = present.filter(({ id }) => id !== target.id)
    const position = ({ id }: ResultRow) => targets.findIndex((target) => target.id === id)
    const made = { date: host.date, commit: host.commit, clock: options.clock }
    const rows = [...others, { ...row, ...made }].sort((a, b) => position(a) - position(b))
    const results: AllResults = { schema: 'mammo-retinanet/bench-all@1', machine: host, rows }
    await writeFileAtomic(options.out, `${JSON.stringify(results, null, 1)}\n`)
  }
  const results = readAll(options.out)
  if (results === undefined) return
  process.stdout.write(`${allTable(results)}\n`)
  if (options.out === resultFile()) await writeAllTable()
}

/** Writes the committed results' table into the README. */
export async function writeAllTable(): Promise<void> {
  const results = readAll(resultFile())
  if (results !== undefined) await writeBetweenMarkers(join(packageRoot(), 'README.md'), 'bench all', allTable(results))
}

export function readAll(path: string): AllResults | undefined {
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as AllResults) : undefined
}

/** Both sides of a row, or the one that is asked for. */
async function measureTarget(
  target: Target,
  threads: number,
  small: boolean,
  only: string | undefined,
): Promise<{ ours: Outcome | undefined; peers: ResultRow['peers'] }> {
  const sides = ([['ours', target.ours], ...Object.entries(target.peers)] as [PeerName | 'ours', Side][]).filter(
    ([name]) => only === undefined || (name === 'ours') === (only === 'ours'),
  )
  const collected = new Map<string, Measurement[]>()
  const failed = new Map<string, string>()
  const tiny = small ? shrink(target) : {}
  for (let round = 0; round < (small ? 1 : target.rounds); round++) {
    for (const [name, side] of sides) {
      if (failed.has(name)) continue
      process.stderr.write(`${target.id}: ${side.name}, round ${round + 1}/${target.rounds}\n`)
      try {
        const given = { ...side, options: { ...side.options, ...tiny } }
        const measured = await runSide(given, { ...target.options, threads }, target.limitBytes)
        collected.set(name, [...(collected.get(name) ?? []), measured])
      } catch (error) {
        if (!(error instanceof SideFailed)) throw error
        failed.set(name, error.cause)
      }
    }
  }
  const outcomes = new Map<string, Outcome>([...collected].map(([name, runs]) => [name, summarise(runs)]))
  for (const [name, cause] of failed) outcomes.set(name, { failed: cause })
  const { ours, ...peers } = Object.fromEntries(outcomes) as { ours?: Outcome } & ResultRow['peers']
  return { ours, peers }
}

/** Options that make a row quick, for a try of the command itself. */
function shrink({ ours, options }: Target): Record<string, unknown> {
  const sized = { ...options, ...ours.options }
  if ('boxes' in sized && !('height' in sized)) return { boxes: 500 }
  if ('anchors' in sized) return { anchors: 10000 }
  return 'height' in sized ? { height: 256, width: 256 } : {}
}

const isDone = (outcome: Outcome | undefined): outcome is Summary => outcome !== undefined && !('failed' in outcome)
const aboveBase = ({ peakBytes, baseBytes }: Summary) => Math.max(0, peakBytes - baseBytes)

/** Whether a goal is reached, and the number that says so; undefined where a side is missing. */
export function judge(
  goal: Goal,
  ours: Outcome,
  peers: ResultRow['peers'],
): { text: string; reached: boolean | undefined } {
  const peer = (name: PeerName) => peers[name]
  const names = { shipped: 'as shipped', kept: 'with memory kept', onnxruntime: 'onnxruntime', monai: 'MONAI' }
  const ratio = (x: number) => x.toFixed(2)
  const none = { reached: undefined }
  if (!isDone(ours)) return { text: 'failed', reached: false }
  switch (goal.kind) {
    case 'faster': {
      const text = `>= ${goal.atLeast}x ${names[goal.than]}`
      const other = peer(goal.than)
      if (!isDone(other)) return { text, ...none }
      return { text, reached: other.medianSeconds / ours.medianSeconds >= goal.atLeast }
    }
    case 'memory': {
      const text = `memory <= ${ratio(goal.atMost)} of it`
      const other = peer(goal.of)
      if (!isDone(other)) return { text, ...none }
      return { text, reached: aboveBase(ours) <= goal.atMost * aboveBase(other) }
    }
    case 'peak':
      return { text: `within ${gib(goal.atMostBytes, 0)} GiB`, reached: ours.peakBytes <= goal.atMostBytes }
    case 'seconds':
      return { text: `< ${secondsText(goal.below)}`, reached: ours.medianSeconds < goal.below }
    case 'number': {
      const value = Number(ours.extra[goal.of])
      return { text: `${Number(value.toPrecision(2))} ${goal.unit}, < ${goal.below}`, reached: value < goal.below }
    }
  }
}

/** The Markdown table with what it was measured on. A pure function of the results. */
export function allTable({ machine, rows }: AllResults): string {
  const head = [
    ...['work', 'ours', 'torchvision', 'memory kept', 'others'],
    ...['memory above the base: ours / torchvision', 'share of the ceiling: ours / torchvision', 'target', ''],
  ]
  const body = rows.map((row) => {
    const target = targets.find(({ id }) => id === row.id)!
    const { ours } = row
    const peers = target.peersOf === undefined ? row.peers : (rows.find(({ id }) => id === target.peersOf)?.peers ?? {})
    const beside = (peer: Outcome | undefined) => {
      if (peer === undefined) return ''
      if (!isDone(peer)) return `fails: ${shortCause(peer.failed)}`
      return isDone(ours)
        ? `${secondsText(peer.medianSeconds)} (${times(peer.medianSeconds / ours.medianSeconds)})`
        : secondsText(peer.medianSeconds)
    }
    const verdicts = target.goals.map((goal) => judge(goal, ours, peers))
    const mark = (reached: boolean | undefined) => (reached === undefined ? '?' : reached ? 'yes' : '**no**')
    return [
      target.work,
      isDone(ours) ? secondsText(ours.medianSeconds) : `fails: ${shortCause(ours.failed)}`,
      beside(peers.shipped),
      beside(peers.kept),
      Object.entries({ onnxruntime: peers.onnxruntime, MONAI: peers.monai })
        .flatMap(([name, peer]) => (peer === undefined ? [] : `${name} ${beside(peer)}`))
        .join(', '),
      target.memoryUnlike ? '' : memoryText(ours, peers.shipped),
      shareText(ours, peers.shipped, target),
      verdicts.map(({ text }) => text).join('; '),
      verdicts.map(({ reached }) => mark(reached)).join('; '),
    ]
  })
  const versions = rows.flatMap(({ peers }) => Object.values(peers)).filter(isDone)
  const version = (key: string) => versions.find(({ extra }) => extra[key] !== undefined)?.extra[key]
  const commits = [...new Set(rows.map(({ commit }) => commit))]
  const days = [...new Set(rows.map(({ date }) => date.slice(0, 10)))].sort()
  const notes = rows.flatMap(({ id }) => targets.find((target) => target.id === id)?.note ?? [])
  return [
    markdownTable(head, body),
    '',
    `${machine.cpu}, ${machine.threads} thread(s), ${machine.flags.includes('avx512f') ? 'AVX-512' : 'AVX2'}, fp32; torchvision ${version('torchvision')} on torch ` +
      `${version('torch')}; Node ${machine.node}; ${days.join(', ')}; commit ${commits.join(', ')}. Medians, processes of the sides in turn` +
      `${rows.every(({ clock }) => clock === 'processor') ? ', in processor seconds of one thread (the machine is shared)' : ''}. ` +
      'Share of the ceiling: multiply-adds really done (ours without what it leaves out) over those of a 3 x 3 convolution with 256 channels in the same time.',
    ...notes,
  ].join('\n')
}

const gib = (bytes: number, digits = 2) => (bytes / 2 ** 30).toFixed(digits)
const times = (ratio: number) =>
  ratio >= 1000 ? `${Math.round(ratio).toLocaleString('en')}x` : `${ratio.toFixed(ratio >= 20 ? 0 : 2)}x`

function memoryText(ours: Outcome, peer: Outcome | undefined): string {
  if (!isDone(ours)) return ''
  const own = aboveBase(ours)
  const text = (bytes: number) => (bytes < 2 ** 27 ? `${(bytes / 2 ** 20).toFixed(0)} MiB` : `${gib(bytes)} GiB`)
  return isDone(peer) ? `${text(own)} / ${text(aboveBase(peer))} (${(own / aboveBase(peer)).toFixed(2)})` : text(own)
}

/** The peer does the dense work. Only rows of convolutions have a share. */
function shareText(ours: Outcome, peer: Outcome | undefined, { peersOf }: Target): string {
  if (!isDone(ours) || typeof ours.extra['gflop'] !== 'number') return ''
  const ceiling = Number(ours.extra['ceilingGflopPerSecond'])
  const own = Number(ours.extra['gflop']) / ours.medianSeconds / ceiling
  if (!isDone(peer) || peersOf !== undefined) return own.toFixed(2)
  const dense = Number(ours.extra['denseGflop'] ?? ours.extra['gflop'])
  return `${own.toFixed(2)} / ${(dense / peer.medianSeconds / ceiling).toFixed(2)}`
}

/** A failure in a few words. */
function shortCause(cause: string): string {
  return /allocate memory|bad_alloc|out of memory|MemoryError/i.test(cause) ? 'out of memory' : cause.slice(0, 80)
}
