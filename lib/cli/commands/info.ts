// `info`: what a file is, and what a configuration costs.
import { type CommandFile, configSource } from '../command.js'
import { textTable } from '../text-table.js'

export const infoCommand: CommandFile = {
  name: 'info',
  summary: 'say what a checkpoint, run, ONNX model, DICOM file, image or preset is; --cost: what a preset costs',
  examples: ['info model.onnx --graph', 'info cbis-resized --cost 1024x1024'],
  declare: (command) => {
    command
      .argument('<target>', 'file, run folder or preset')
      .option('--graph', 'ONNX model: inputs, outputs, nodes with operator, shape and weights')
      .option('--manifest', 'ONNX model: its manifest as JSON')
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
    const { describeGraph, describeManifest, describeTarget } = await import('../../tasks/info.js')
    if (options['manifest'] === true) {
      io.stdout(`${JSON.stringify(await describeManifest(target!), null, 2)}\n`)
      return 0
    }
    if (options['graph'] === true) {
      const graph = await describeGraph(target!)
      io.stdout(global.json ? `${JSON.stringify(graph, null, 2)}\n` : `${graphText(graph).join('\n')}\n`)
      return 0
    }
    const info = await describeTarget(target!)
    if (global.json) io.stdout(`${JSON.stringify(info.record, null, 2)}\n`)
    else
      io.stdout(
        `${info.kind} ${target}\n${info.facts.map(([label, value]) => `  ${label.padEnd(12)} ${value}\n`).join('')}`,
      )
    return 0
  },
}

function graphText(graph: Awaited<ReturnType<typeof import('../../tasks/info.js')['describeGraph']>>): string[] {
  const { name, inputs, outputs, nodes, operators, parameters } = graph
  const tensor = (word: string) => (value: (typeof inputs)[number]) =>
    `${word}  ${value.name} ${value.type} ${value.shape}${value.doc === '' ? '' : `: ${value.doc}`}`
  return [
    `graph ${name}: ${nodes.length} nodes, ${parameters.toLocaleString('en')} numbers in constants`,
    ...inputs.map(tensor('input ')),
    ...outputs.map(tensor('output')),
    Object.entries(operators)
      .map(([operator, count]) => `${operator} ${count}`)
      .join(', '),
    '',
    ...textTable(
      ['node', 'operator', 'output', 'weights'],
      nodes.map((node) => [node.name, node.operator, node.shape, node.weights === 0 ? '' : node.weights]),
    ),
  ]
}
