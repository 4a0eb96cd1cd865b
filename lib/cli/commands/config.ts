// `config show`, `config init`, `config schema`: the configuration as text.
import { showConfig, starterFile } from '../../config/document.js'
import { loadConfig, valueAt } from '../../config/load.js'
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
  examples: [
    'config init --preset cbis-resized > experiment.yaml',
    'config init --from-ini config.ini > experiment.yaml',
  ],
  declare: (command) => {
    command
      .option('--preset <name>', `preset: ${Object.keys(presets).join(', ')}`)
      .option('--from-ini <file>', 'take anchors and pyramid levels over from a config.ini of keras-retinanet')
  },
  async run(io, _global, options) {
    const preset = options['preset'] as string | undefined
    const ini = options['fromIni'] as string | undefined
    if (ini === undefined) {
      if (preset !== undefined) await loadConfig({ preset, hasWeights: true })
      io.stdout(starterFile(preset))
      return 0
    }
    const { config, origins } = await loadConfig({
      file: ini,
      ...(preset === undefined ? {} : { preset }),
      set: { 'model.semantics': 'keras-retinanet' },
      hasWeights: true,
    })
    const keys = [...origins].filter(([, origin]) => origin.startsWith(`${ini}:`)).map(([key]) => key)
    const given = new Map<string, unknown>([
      ['model.semantics', 'keras-retinanet'],
      ...keys.map((key) => [key, valueAt(config, key)] as const),
    ])
    io.stdout(starterFile(preset, 'keras-retinanet', given))
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
