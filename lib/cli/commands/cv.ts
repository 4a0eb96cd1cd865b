// `cv`: cross-validation, one run per fold.
import { loadConfig } from '../../config/load.js'
import { presets } from '../../config/presets.js'
import { UsageError } from '../../errors.js'
import type { CrossValidateOptions } from '../../tasks/cv.js'
import { type CommandFile, configSource, integerOption } from '../command.js'
import { textTable } from '../text-table.js'

interface CvFlags {
  folds?: number
  name?: string
  resume?: string
  device?: string
}

export const cvCommand: CommandFile = {
  name: 'cv',
  summary: 'cross-validate a recipe over the folds of a prepared folder',
  examples: ['cv inbreast-resized --folds 5 --set data.root=prepared', 'cv --resume runs/cv/inbreast-resized-1'],
  declare: (command) => {
    command
      .argument('[preset]', Object.keys(presets).join(', '))
      .option('--folds <k>', 'folds that the prepared folder must have', integerOption)
      .option('--name <name>', 'name of the folder')
      .option('--resume <folder>', 'go on with this cross-validation')
      .option('--device <device>', 'cpu, cuda or cuda:n')
  },
  async run(io, global, options, [preset]) {
    const flags = options as CvFlags
    if (flags.resume !== undefined && preset !== undefined) {
      throw new UsageError('ARGUMENT', 'expected --resume alone, got a preset with it')
    }
    const { ensureAddon } = await import('../../tasks/build.js')
    const { crossValidate, crossValidationConfig } = await import('../../tasks/cv.js')
    const { SIGNAL_EXIT } = await import('../../tasks/train.js')
    const set = { ...global.set, ...(flags.device === undefined ? {} : { 'run.device': flags.device }) }
    const config =
      flags.resume === undefined
        ? (await loadConfig({ ...configSource(global, preset), set })).config
        : await crossValidationConfig(flags.resume)
    const log = (line: string) => {
      if (!global.quiet) io.stderr(`${line}\n`)
    }
    await ensureAddon({ allowed: global.build, log })
    const { folds, resume } = flags
    const name = flags.name ?? config.run.name ?? preset ?? 'cv'
    const taskOptions: CrossValidateOptions = {
      ...{ name, handleSignals: true, onLine: log, argv: process.argv },
      ...(folds === undefined ? {} : { folds }),
      ...(resume === undefined ? {} : { resume }),
      display: {
        ...{ write: io.stderr, isTty: io.isTty, columns: io.columns, logEvery: config.run.logEvery },
        mode: global.quiet ? 'quiet' : global.log,
      },
    }
    const result = await crossValidate(config, taskOptions)
    if (global.json) io.stdout(`${JSON.stringify(result, null, 2)}\n`)
    else io.stdout(`${lines(result).join('\n')}\n`)
    if (result.status === 'finished') return 0
    return SIGNAL_EXIT[result.stopped as keyof typeof SIGNAL_EXIT] ?? 130
  },
}

type Result = Awaited<ReturnType<typeof import('../../tasks/cv.js')['crossValidate']>>

function lines({ directory, folds, mean, pooled, operatingPoints, remarks }: Result): string[] {
  const number = (value: number | null | undefined) => (typeof value === 'number' ? value.toFixed(4) : 'undefined')
  const span = (i: readonly [number, number] | null | undefined) =>
    i ? `[${i[0].toFixed(3)}, ${i[1].toFixed(3)}]` : ''
  const names = folds[0]?.rows.map((row) => row.name) ?? []
  const perFold = textTable(
    ['number', ...folds.map(({ fold }) => `fold ${fold}`), 'mean', '95 % of the mean', 'pooled', '95 % of pooled'],
    names.map((name, i) => [
      ...[name, ...folds.map(({ rows }) => number(rows[i]?.value)), number(mean?.[i]?.mean), span(mean?.[i]?.interval)],
      ...[number(pooled?.[i]?.value), span(pooled?.[i]?.interval)],
    ]),
  )
  const points = textTable(
    ['wanted FP/image', 'threshold', 'sensitivity', '95 %', 'FP/image on test'],
    (operatingPoints ?? []).map((point) => [
      ...[point.fppi, number(point.threshold), number(point.sensitivity.value)],
      span(point.sensitivity.interval && [point.sensitivity.interval.low, point.sensitivity.interval.high]),
      number(point.falsePositivesPerImage.value),
    ]),
  )
  return [
    ...perFold,
    ...(operatingPoints === null
      ? []
      : ['', 'thresholds chosen on the validation part of each fold, applied to its test part', ...points]),
    ...['', ...remarks, directory],
  ]
}
