// `npm run bench -- ablation`: one update with every trick, with each turned off, with each as the only one, and without any; the prediction
// that was written down before the measurement beside the outcome. Settings that change memory or the input close the table.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { writeFileAtomic } from '../lib/atomic-write.js'
import { packageRoot } from '../lib/package-root.js'
import { type Machine, machine } from './machine.js'
import { markdownTable, secondsText, writeBetweenMarkers } from './markdown.js'
import { runSide, type Summary, summarise } from './run-side.js'
import type { Measurement, Side } from './trials.js'

/** The switches of native/core/switches.h with what was expected of each, in times of the whole step, before it was measured. */
const tricks: Record<string, string> = {
  sparse_box: '1.3x: the dense box tower costs as much as the classification tower',
  fold_norm: '1.1x and less memory',
  arena: '1.1x, more at full size',
  level_wise: '1.0x and less memory',
  strips: '1.0x here, whose maps are small; at full size 0.97x and a GiB less',
  fused_focal: '1.01x',
  packed_conv: '1.0x here: only where no gradient is kept',
  compact_pool: '1.0x and 0.02 GiB less here (0.09 at 1024 x 1024)',
  winograd: '1.4x: two thirds of the work are 3x3 convolutions, with 2.25 times fewer multiplications',
}

const settings: Record<string, { options: Record<string, unknown>; expected: string }> = {
  'blocks recomputed': { options: { checkpoint: true }, expected: '0.85x, half of the memory' },
  'blocks up to C2 recomputed': { options: { checkpoint: 'early' }, expected: '0.95x, four fifths of the memory' },
  'one-channel stem': { options: { channels: 1 }, expected: '1.01x' },
}

interface AblationRow extends Summary {
  name: string
  kind: 'all' | 'without' | 'only' | 'none' | 'setting'
  expected: string
}

export interface AblationResults {
  schema: 'mammo-retinanet/bench-ablation@1'
  machine: Machine
  setting: { height: number; width: number; batch: number; frozenStages: number }
  rounds: number
  rows: AblationRow[]
}

const resultFile = () => join(packageRoot(), 'bench', 'results', 'ablation.json')

export async function benchAblation(args: readonly string[]): Promise<void> {
  const program = new Command('bench ablation')
    .option('--size <pixels>', 'side of the square input', Number, 512)
    .option('--rounds <n>', 'processes per row, in turn', Number, 2)
    .option('--threads <n>', 'threads of the engine', Number, 1)
    .option('--tricks <names...>', 'these switches', switchNames())
    .option('--out <file>', 'result file; the document is written for the default one only', resultFile())
  program.parse(args, { from: 'user' })
  const options = program.opts<{ size: number; rounds: number; threads: number; tricks: string[]; out: string }>()
  const { size, rounds, threads, tricks: names, out } = options
  process.env['MAMMO_BENCH_CLOCK'] = threads === 1 ? 'processor' : 'wall'
  const setting = { height: size, width: size, batch: 1, frozenStages: 0 }
  const side = (off: readonly string[], options: Record<string, unknown> = {}): Side => ({
    ...{ name: 'mammo-retinanet', runtime: 'node', script: 'train-step', options },
    env: { MAMMO_OFF: off.join(',') },
  })
  const plans: (Pick<AblationRow, 'name' | 'kind' | 'expected'> & { side: Side })[] = [
    { name: 'every trick', kind: 'all', expected: '', side: side([]) },
    ...names.map((name) => ({
      name,
      kind: 'without' as const,
      expected: tricks[name] ?? 'not predicted',
      side: side([name]),
    })),
    ...names.map((name) => ({
      ...{ name, kind: 'only' as const, expected: tricks[name] ?? 'not predicted' },
      side: side(names.filter((other) => other !== name)),
    })),
    { name: 'no trick', kind: 'none', expected: '2x', side: side(names) },
    ...Object.entries(settings).map(([name, { options, expected }]) => ({
      ...{ name, kind: 'setting' as const, expected },
      side: side([], options),
    })),
  ]
  const collected = plans.map((): Measurement[] => [])
  for (let round = 0; round < rounds; round++) {
    for (const [i, plan] of plans.entries()) {
      process.stderr.write(`${plan.kind} ${plan.name}, round ${round + 1}/${rounds}\n`)
      collected[i]!.push(await runSide(plan.side, { ...setting, warmup: 1, count: 1, threads }))
    }
  }
  const rows = plans.map(({ side: _, ...plan }, i) => ({ ...plan, ...summarise(collected[i]!) }))
  const results: AblationResults = {
    ...{ schema: 'mammo-retinanet/bench-ablation@1', machine: await machine(threads), setting, rounds, rows },
  }
  await writeFileAtomic(out, `${JSON.stringify(results, null, 1)}\n`)
  process.stdout.write(`${ablationTable(results)}\n`)
  if (out === resultFile()) await writeAblationTable()
}

/** The switches that the sources have. */
function switchNames(): string[] {
  const header = readFileSync(join(packageRoot(), 'native', 'core', 'switches.h'), 'utf8')
  return [...header.matchAll(/^ *bool (\w+) = true;/gm)].map(([, name]) => name!)
}

/** Writes the committed results' table into bench/README.md. */
export async function writeAblationTable(): Promise<void> {
  if (!existsSync(resultFile())) return
  const results = JSON.parse(readFileSync(resultFile(), 'utf8')) as AblationResults
  await writeBetweenMarkers(join(packageRoot(), 'bench', 'README.md'), 'bench ablation', ablationTable(results))
}

export function ablationTable({ machine, setting, rounds, rows }: AblationResults): string {
  const row = (kind: AblationRow['kind'], name?: string) =>
    rows.find((r) => r.kind === kind && (name === undefined || r.name === name))!
  const all = row('all')
  const none = row('none')
  const memory = ({ peakBytes, baseBytes }: AblationRow) => `${((peakBytes - baseBytes) / 2 ** 30).toFixed(2)} GiB`
  const gain = (slow: AblationRow, fast: AblationRow) => `${(slow.medianSeconds / fast.medianSeconds).toFixed(2)}x`
  const body = [
    ...rows
      .filter(({ kind }) => kind === 'without')
      .map((without) => {
        const only = row('only', without.name)
        return [
          `\`${without.name}\``,
          without.expected,
          gain(without, all),
          gain(none, only),
          `${memory(all)} / ${memory(without)}`,
        ]
      }),
    ['all together', none.expected, gain(none, all), gain(none, all), `${memory(all)} / ${memory(none)}`],
    ...rows
      .filter(({ kind }) => kind === 'setting')
      .map((r) => [r.name, r.expected, gain(all, r), '', `${memory(r)} / ${memory(all)}`]),
  ]
  return [
    markdownTable(['trick', 'expected', 'added to the others', 'alone', 'memory above the base: with / without'], body),
    '',
    `One update, ResNet-50, ${setting.height} x ${setting.width}, all layers: ${secondsText(all.medianSeconds)} with every trick, ${secondsText(none.medianSeconds)} without any. ` +
      `${machine.cpu}, ${machine.threads} thread(s)${machine.threads === 1 ? ', processor seconds' : ''}, ${machine.date.slice(0, 10)}, commit ${machine.commit}; medians of ${rounds} processes each, in turn.`,
  ].join('\n')
}
