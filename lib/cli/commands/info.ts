// `info`: what a file is, and what a configuration costs.
import { type CommandFile, configSource } from '../command.js'

export const infoCommand: CommandFile = {
  name: 'info',
  summary: 'say what a checkpoint, run, ONNX model, DICOM file, image or preset is; --cost: what a preset costs',
  examples: ['info runs/train/cbis-resized-1/checkpoints/best.safetensors', 'info cbis-resized --cost 1024x1024'],
  declare: (command) => {
    command
      .argument('<target>', 'file, run folder or preset')
      .option('--cost <HxW>', 'multiply-adds, memory and shortest time of one step at this image size')
  },
  async run(io, global, options, [target]) {
    const { cost } = options as { cost?: string }
    if (cost !== undefined) {
      const { UsageError } = await import('../../errors.js')
      const size = /^(\d+)x(\d+)$/.exec(cost)
      if (size === null)
        throw new UsageError('ARGUMENT', `--cost: expected HEIGHTxWIDTH in pixels, got ${cost}`, {
          fix: 'give a size such as 4096x3328',
        })
      const { loadConfig } = await import('../../config/load.js')
      const { ensureAddon } = await import('../../tasks/build.js')
      const { costText, describeCost } = await import('../../tasks/cost.js')
      const { config } = await loadConfig(configSource(global, target))
      await ensureAddon({ allowed: global.build, log: (line) => io.stderr(`${line}\n`) })
      const report = await describeCost(config, [Number(size[1]), Number(size[2])])
      io.stdout(global.json ? `${JSON.stringify(report, null, 2)}\n` : `${costText(report).join('\n')}\n`)
      return 0
    }
    const { describeTarget } = await import('../../tasks/info.js')
    const info = await describeTarget(target!)
    if (global.json) io.stdout(`${JSON.stringify(info.record, null, 2)}\n`)
    else
      io.stdout(
        `${info.kind} ${target}\n${info.facts.map(([label, value]) => `  ${label.padEnd(12)} ${value}\n`).join('')}`,
      )
    return 0
  },
}
