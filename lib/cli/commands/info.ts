// `info`: what a file is.
import type { CommandFile } from '../command.js'

export const infoCommand: CommandFile = {
  name: 'info',
  summary: 'say what a checkpoint, run, ONNX model, DICOM file, image or preset is',
  examples: ['info runs/train/cbis-resized-1/checkpoints/best.safetensors', 'info model.onnx --json'],
  declare: (command) => {
    command.argument('<target>', 'file, run folder or preset')
  },
  async run(io, global, _options, [target]) {
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
