// `train`: starts or resumes a run and shows its progress.
import { Option } from 'commander'
import { loadConfig } from '../../config/load.js'
import { presets } from '../../config/presets.js'
import { UsageError } from '../../errors.js'
import { type CommandFile, configSource, integerFrom, numberOption } from '../command.js'

interface TrainFlags {
  name?: string
  resume?: string
  init?: string
  fold?: number
  device?: string
  time?: number
  seeds?: number[]
  existOk?: boolean
  profile?: boolean
}

export const trainCommand: CommandFile = {
  name: 'train',
  summary: 'train a detector on a prepared folder, or go on with a run',
  examples: ['train cbis-resized --set data.root=prepared', 'train --resume runs/train/cbis-resized-1'],
  declare: (command) => {
    command
      .argument(
        '[preset]',
        Object.entries(presets)
          .map(([name, p]) => `${name}: ${p.about}`)
          .join('; '),
      )
      .option('--name <name>', 'name of the run folder')
      .option('--resume <run>', 'go on with this run')
      .option('--init <file>', 'start from these weights')
      .option('--fold <k>', 'fold of a k-fold split', integerFrom(0))
      .addOption(new Option('--device <device>', 'cpu, cuda or cuda:n'))
      .option('--seeds <list>', 'one run per seed, such as 1,2,3, and what they say together', seedList)
      .option('--time <hours>', 'stop after this time with a checkpoint', numberOption)
      .option('--profile', 'print where the time of the steps went, and keep it in the run folder')
      .option('--exist-ok', 'use the newest folder of that name again')
  },
  async run(io, global, options, [preset]) {
    const { ensureAddon } = await import('../../tasks/build.js')
    const { runConfig, SIGNAL_EXIT, train } = await import('../../tasks/train.js')
    const { describeSeeds, trainSeeds } = await import('../../tasks/train-seeds.js')
    const flags = options as TrainFlags
    if (flags.resume !== undefined && (preset !== undefined || flags.init !== undefined)) {
      throw new UsageError('ARGUMENT', 'expected --resume alone, got a preset or --init with it', {
        fix: 'a resumed run keeps its configuration; start a new run to change it',
      })
    }
    if (flags.seeds !== undefined && (flags.resume !== undefined || flags.existOk !== undefined)) {
      throw new UsageError('ARGUMENT', 'expected --seeds without --resume and --exist-ok: every seed is a new run', {
        fix: 'resume the runs of a series one by one',
      })
    }
    const set: Record<string, unknown> = { ...global.set }
    if (flags.fold !== undefined) set['data.fold'] = flags.fold
    if (flags.device !== undefined) set['run.device'] = flags.device
    if (flags.time !== undefined) set['run.timeHours'] = flags.time
    const config =
      flags.resume === undefined
        ? (await loadConfig({ ...configSource(global, preset), set, hasWeights: flags.init !== undefined })).config
        : await runConfig(flags.resume, set)
    const log = (line: string) => {
      if (!global.quiet) io.stderr(`${line}\n`)
    }
    await ensureAddon({ allowed: global.build, log })
    const common = {
      name: flags.name ?? config.run.name ?? preset ?? 'run',
      ...(flags.init === undefined ? {} : { init: flags.init }),
      ...(flags.profile === undefined ? {} : { profile: flags.profile }),
      handleSignals: true,
      display: {
        write: io.stderr,
        isTty: io.isTty,
        columns: io.columns,
        mode: global.quiet ? ('quiet' as const) : global.log,
        logEvery: config.run.logEvery,
      },
      argv: process.argv,
    }
    if (flags.seeds !== undefined) {
      const series = await trainSeeds(config, flags.seeds, { ...common, onLine: log })
      const text = [...describeSeeds(series), series.directory].join('\n')
      io.stdout(global.json ? `${JSON.stringify(series, null, 2)}\n` : `${text}\n`)
      return series.status === 'finished' ? 0 : (SIGNAL_EXIT[series.stopped as keyof typeof SIGNAL_EXIT] ?? 130)
    }
    const run = train(config, {
      ...common,
      ...(flags.resume === undefined ? {} : { resume: flags.resume }),
      ...(flags.existOk === undefined ? {} : { existOk: flags.existOk }),
    })
    const result = await run.done
    io.stdout(global.json ? `${JSON.stringify(result, null, 2)}\n` : `${result.directory}\n`)
    if (result.status === 'finished' || result.stopped === 'time') return 0
    return SIGNAL_EXIT[result.stopped as keyof typeof SIGNAL_EXIT] ?? 130
  },
}

function seedList(text: string): number[] {
  return text.split(',').map((part) => integerFrom(0)(part.trim()))
}
