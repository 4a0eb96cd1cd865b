// `config show`, `config init`, `config schema`: the configuration as text.
import { showConfig, starterFile } from '../../config/document.js'
import { loadConfig } from '../../config/load.js'
import { presets } from '../../config/presets.js'
import { configJsonSchema } from '../../config/schema.js'
import { type CommandFile, configSource } from '../command.js'

export const configShowCommand: CommandFile = {
  name: 'config show',
  summary: 'print the resolved configuration with the origin of every value',
  examples: [
    'config show --preset inbreast-two-stage --diff',
    'config show --config experiment.yaml --set loss.gamma=5',
  ],
  declare: (command) => {
    command
      .option('--preset <name>', `preset: ${Object.keys(presets).join(', ')}`)
      .option('--diff', 'only what differs from the defaults')
  },
  async run(io, global, options) {
    const source = configSource(global, options['preset'] as string | undefined)
    const loaded = await loadConfig(source)
    io.stdout(
      global.json ? `${JSON.stringify(loaded.config, null, 2)}\n` : showConfig(loaded, options['diff'] === true),
    )
    return 0
  },
}

export const configInitCommand: CommandFile = {
  name: 'config init',
  summary: 'print a commented starter file',
  examples: ['config init --preset cbis-resized > experiment.yaml', 'config init'],
  declare: (command) => {
    command.option('--preset <name>', `preset: ${Object.keys(presets).join(', ')}`)
  },
  async run(io, _global, options) {
    const preset = options['preset'] as string | undefined
    if (preset !== undefined) await loadConfig({ preset, hasWeights: true })
    io.stdout(starterFile(preset))
    return 0
  },
}

export const configSchemaCommand: CommandFile = {
  name: 'config schema',
  summary: 'print the JSON Schema of the configuration file, for editors',
  examples: ['config schema > mammo-retinanet.schema.json', 'config schema --json'],
  declare: () => {},
  async run(io) {
    io.stdout(`${JSON.stringify(configJsonSchema(Object.keys(presets)), null, 2)}\n`)
    return 0
  },
}
