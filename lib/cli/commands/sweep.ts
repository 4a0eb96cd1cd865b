// `sweep`, `sweep report` and `sweep infer`: searches over settings of training, what they found, and settings of what comes after the network.
import { InvalidArgumentError, Option } from 'commander'
import { parse } from 'yaml'
import { loadConfig } from '../../config/load.js'
import type { SweepTaskOptions } from '../../tasks/sweep.js'
import type { SweepInferOptions } from '../../tasks/sweep-infer.js'
import { type CommandFile, configSource, integerOption } from '../command.js'
import { progressBar } from '../progress-bar.js'
import { textTable } from '../text-table.js'

type SweepFlags = Pick<
  SweepTaskOptions,
  'method' | 'trials' | 'seeds' | 'rankBy' | 'select' | 'jobs' | 'shard' | 'out' | 'merge'
>

export const sweepCommand: CommandFile = {
  name: 'sweep',
  summary: 'train the settings of a search or a study, and rank them on the validation part',
  examples: [
    'sweep focal --set data.root=prepared --jobs 2',
    'sweep search.yaml --method sobol --trials 32 --shard 3/8',
  ],
  declare: (command) => {
    command
      .argument('<spec>', 'YAML file, or a study: focal, anchors, strategies, backbones, split-ratios')
      .addOption(new Option('--method <method>', 'search').choices(['grid', 'random', 'sobol', 'halving']))
      .option('--trials <n>', 'settings of random, sobol and halving', integerOption)
      .option('--seeds <list>', 'run.seed of the repeats, such as 0,1,2', integers)
      .option('--rank-by <column>', 'column of results.csv (val/AP50)')
      .addOption(new Option('--select <which>', 'epoch that stands for a run').choices(['best', 'last', 'mean10']))
      .option('--jobs <n>', 'trials at a time', integerOption)
      .option('--shard <i/n>', 'only every n-th trial, for job arrays', shard)
      .option('--merge <dir...>', 'copy the results of shards that ran elsewhere, and rank; trains nothing')
      .option('--out <dir>', 'folder of the sweep (runs/sweep/NAME); the same command goes on with it')
  },
  async run(io, global, options, [spec]) {
    const { ensureAddon } = await import('../../tasks/build.js')
    const { sweep } = await import('../../tasks/sweep.js')
    const { listenToSignals, SIGNAL_EXIT } = await import('../../tasks/train.js')
    const flags = options as SweepFlags
    const log = (line: string) => {
      if (!global.quiet) io.stderr(`${line}\n`)
    }
    if (flags.merge === undefined) await ensureAddon({ allowed: global.build, log })
    const abort = new AbortController()
    let stopped: keyof typeof SIGNAL_EXIT | undefined
    const unlisten = listenToSignals({
      requestStop: (signal) => {
        stopped = signal
        abort.abort()
      },
      requestCheckpoint: () => undefined,
    })
    try {
      const set = Object.fromEntries(Object.entries(global.set).map(([key, text]) => [key, parse(text) as unknown]))
      const file = global.config === undefined ? {} : { file: global.config }
      const result = await sweep(spec!, { ...flags, ...file, set, signal: abort.signal, onLine: log })
      if (global.json) {
        const { plan: _, ...rest } = result
        io.stdout(`${JSON.stringify(rest, null, 2)}\n`)
        return 0
      }
      const { axes, spec: done } = result.plan
      const number = (value: number | null | undefined) => (typeof value === 'number' ? value.toFixed(4) : '')
      const rows = result.ranked.map(({ rank, labels, value, trials }) => [
        ...[rank ?? '', ...axes.map((axis) => labels[axis]!), number(value.mean)],
        value.interval === null ? '' : `[${value.interval.map((v) => v.toFixed(3)).join(', ')}]`,
        trials.map(({ summary }) => number(summary[done.select])).join(' '),
      ])
      const head = ['rank', ...axes, `${done.rankBy} (${done.select})`, '95 % over seeds', 'by seed']
      const missing =
        result.missing > 0 ? [`${result.missing} trials are missing: other shards, or the same command again`] : []
      io.stdout(`${[...textTable(head, rows), ...missing, result.csv].join('\n')}\n`)
      return 0
    } catch (error) {
      if (stopped === undefined) throw error
      log('stopped; the same command goes on with the sweep')
      return SIGNAL_EXIT[stopped]
    } finally {
      unlisten()
    }
  },
}

export const sweepReportCommand: CommandFile = {
  name: 'sweep report',
  summary: 'what a sweep found, as a Markdown page with a figure: every trial with intervals over patients',
  examples: ['sweep report runs/sweep/focal', 'sweep report runs/sweep/focal --out docs/studies'],
  declare: (command) => {
    command
      .argument('<dir>', 'folder of a sweep')
      .option('--out <dir>', 'folder of NAME.md and NAME.svg (the sweep)')
      .option('--bootstrap <n>', 'resamples of patients for the intervals (2000)', integerOption)
      .option('--command <line...>', 'command lines that the page shows')
  },
  async run(io, global, options, [folder]) {
    const { sweepReport } = await import('../../tasks/sweep-report.js')
    const { out, bootstrap, command } = options as { out?: string; bootstrap?: number; command?: string[] }
    const result = await sweepReport(folder!, {
      ...(out === undefined ? {} : { out }),
      ...(bootstrap === undefined ? {} : { bootstrap }),
      ...(command === undefined ? {} : { commands: command }),
    })
    io.stdout(global.json ? `${JSON.stringify(result, null, 2)}\n` : `${result.page}\n${result.figure}\n`)
    return 0
  },
}

type InferFlags = Pick<SweepInferOptions, 'method' | 'trials' | 'rankBy' | 'out' | 'bootstrap'>

export const sweepInferCommand: CommandFile = {
  name: 'sweep infer',
  summary: 'tune suppression, fusion and score threshold on stored detections; no addon, no GPU',
  examples: [
    'sweep infer runs/train/cbis-resized-1 --rank-by F1',
    'sweep infer a.coco.json b.coco.json --method sobol --trials 128 --set data.root=prepared',
  ],
  declare: (command) => {
    command
      .argument('<source...>', 'runs, or predictions in COCO JSON; several are combined')
      .addOption(new Option('--method <method>', 'search').choices(['grid', 'random', 'sobol']))
      .option('--trials <n>', 'settings of random and sobol (64)', integerOption)
      .option('--rank-by <metric>', 'AP50, AP, sens@F, sensitivity, precision, F1, FP/image (F1)')
      .option('--bootstrap <n>', 'resamples of patients for the gain', integerOption)
      .option('--out <file>', 'CSV to write')
  },
  async run(io, global, options, sources) {
    const { sweepInfer } = await import('../../tasks/sweep-infer.js')
    const flags = options as InferFlags
    const bar = progressBar(io, 'settings', !global.quiet)
    const stored = sources.every((source) => source.endsWith('.json'))
    const config =
      stored && (global.config !== undefined || global.set['data.root'] !== undefined)
        ? { config: (await loadConfig({ ...configSource(global), hasWeights: true })).config }
        : {}
    const result = await sweepInfer(sources, {
      ...{ ...flags, ...config, set: global.set },
      onRow: (done, total) => bar.update(done, total),
    }).finally(() => bar.stop())
    if (!global.quiet) for (const warning of result.warnings) io.stderr(`warning: ${warning}\n`)
    if (global.json) {
      io.stdout(`${JSON.stringify(result, null, 2)}\n`)
      return 0
    }
    const number = (value: number | null | undefined) => (typeof value === 'number' ? value.toFixed(4) : '')
    const shown = [...new Set(['AP50', 'sensitivity', 'precision', 'FP/image', 'F1', result.rankBy])]
    const top = result.rows.slice(0, 10)
    const rows = [...top, ...(top.includes(result.stored) ? [] : [result.stored])].map(({ setting, metrics }) => [
      ...[setting?.combination ?? 'as stored', number(setting?.iou), number(setting?.scoreThreshold)],
      ...shown.map((name) => number(metrics[name])),
    ])
    const gain = result.gain?.ap
    const change =
      gain === undefined || gain.difference === null
        ? []
        : [
            `AP50 of the best setting against the stored detections: ${gain.difference.toFixed(4)}, ` +
              `95 % [${number(gain.interval?.low)}, ${number(gain.interval?.high)}]`,
          ]
    const use = result.fragment === null ? [] : Object.entries(result.fragment).map(([key, v]) => `--set ${key}=${v}`)
    const lines = [
      `${result.images} images, ${result.rows.length - 1} settings, ranked by ${result.rankBy}`,
      ...textTable(['combination', 'iou', 'threshold', ...shown], rows),
      ...[...change, ...(use.length > 0 ? [`use it: ${use.join(' ')}`] : []), result.csv],
    ]
    io.stdout(`${lines.join('\n')}\n`)
    return 0
  },
}

function integers(text: string): number[] {
  return text.split(',').map(integerOption)
}

function shard(text: string): { index: number; count: number } {
  const [, index, count] = /^(\d+)\/(\d+)$/.exec(text) ?? []
  if (index === undefined || Number(index) < 1 || Number(index) > Number(count)) {
    throw new InvalidArgumentError(`expected i/n with i from 1 to n, got "${text}"`)
  }
  return { index: Number(index), count: Number(count) }
}
