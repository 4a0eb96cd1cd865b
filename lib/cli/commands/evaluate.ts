// `evaluate`: scores a run, checkpoint, exported model or stored predictions.
import { Option } from 'commander'
import { loadConfig } from '../../config/load.js'
import { UsageError } from '../../errors.js'
import type { EvaluateTaskOptions } from '../../tasks/evaluate.js'
import { type CommandFile, configSource, integerFrom } from '../command.js'
import { progressBar } from '../progress-bar.js'

interface EvaluateFlags {
  split?: 'train' | 'val' | 'test'
  hit?: string
  credit?: 'all' | 'best'
  bootstrap?: number
  failUnder?: Record<string, number>
  out?: string
  device?: string
  tta?: string[]
}

export const evaluateCommand: CommandFile = {
  name: 'evaluate',
  summary: 'score a run, a checkpoint, an ONNX model or stored predictions: AP, FROC, intervals',
  examples: [
    'evaluate runs/train/cbis-resized-1 --split test --hit centre',
    'evaluate model.onnx --tta hflip --set data.root=prepared --fail-under AP50=0.5',
  ],
  declare: (command) => {
    command
      .argument('<target>', 'run folder, checkpoint, ONNX model, or predictions in COCO JSON')
      .addOption(new Option('--split <part>', 'part of the data').choices(['train', 'val', 'test']))
      .option('--hit <rule>', 'FROC hit: centre or iou:T')
      .addOption(new Option('--credit <rule>', 'lesions that one detection credits').choices(['all', 'best']))
      .option('--bootstrap <n>', 'resamples of patients for the intervals, 0 for none', integerFrom(0))
      .addOption(
        new Option('--fail-under <metric=value>', 'exit 6 when a metric is below (repeatable)').argParser(collectLimit),
      )
      .option(
        '--tta <views>',
        'predict further views of each image and fuse: hflip, scale:F; commas between',
        (text: string) => text.split(','),
      )
      .option('--out <dir>', 'folder of the results')
      .option('--device <device>', 'cpu, cuda or cuda:n')
  },
  async run(io, global, options, [target]) {
    const { ensureAddon } = await import('../../tasks/build.js')
    const { evaluate } = await import('../../tasks/evaluate.js')
    const flags = options as EvaluateFlags
    const stored = /\.(onnx|json)$/.test(target!)
    if (!stored) await ensureAddon({ allowed: global.build, log: (line) => io.stderr(`${line}\n`) })
    const bar = progressBar(io, 'scoring', !global.quiet)
    const taskOptions: EvaluateTaskOptions = {
      ...flags,
      set: global.set,
      ...(stored ? { config: (await loadConfig({ ...configSource(global), hasWeights: true })).config } : {}),
      onProgress: (done, total) => bar.update(done, total),
    }
    const result = await evaluate(target!, taskOptions).finally(() => bar.stop())
    for (const warning of result.warnings) if (!global.quiet) io.stderr(`warning: ${warning}\n`)
    if (global.json) io.stdout(`${JSON.stringify(result, null, 2)}\n`)
    else {
      const number = (value: number | null) => (value === null ? 'undefined' : value.toFixed(4))
      const interval = (i: [number, number] | null) =>
        i === null ? '' : `  95 % [${i[0].toFixed(3)}, ${i[1].toFixed(3)}]`
      io.stdout(
        [
          `${result.kind} ${result.source}, part ${result.split}, ${result.images} images`,
          ...result.rows.map((row) => `  ${row.name.padEnd(14)} ${number(row.value)}${interval(row.interval)}`),
          ...Object.entries(result.seconds).map(([stage, s]) => `  ${stage.padEnd(14)} ${s.toFixed(3)} s per image`),
          ...(result.directory === null ? [] : [`results in ${result.directory}`]),
          '',
        ].join('\n'),
      )
    }
    for (const { name, value, least } of result.failed)
      io.stderr(`check failed: ${name} is ${value}, expected at least ${least}\n`)
    return result.failed.length > 0 ? 6 : 0
  },
}

function collectLimit(text: string, previous: Record<string, number> = {}): Record<string, number> {
  const [name, value] = text.split('=')
  if (name === undefined || !value || !Number.isFinite(Number(value))) {
    throw new UsageError('ARGUMENT', `--fail-under: expected METRIC=VALUE, got "${text}"`, {
      fix: 'write a metric of the table and its least value, such as AP50=0.5',
    })
  }
  return { ...previous, [name]: Number(value) }
}
