// The command line: a table of command files, the global options, and the one place that turns errors into text and exit codes.
// Results go to stdout, everything else to stderr. It never calls process.exit: native work may be running.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command, CommanderError, Option } from 'commander'
import { packageRoot } from '../package-root.js'
import { type CommandFile, collectSet, type GlobalOptions } from './command.js'
import { anchorsOptimizeCommand } from './commands/anchors-optimize.js'
import { anchorsReportCommand } from './commands/anchors-report.js'
import { buildCommand } from './commands/build.js'
import { compareCommand } from './commands/compare.js'
import { configInitCommand, configSchemaCommand, configShowCommand } from './commands/config.js'
import { cvCommand } from './commands/cv.js'
import { dataCheckCommand } from './commands/data-check.js'
import { dataPrepareCommand } from './commands/data-prepare.js'
import { dataSplitCommand } from './commands/data-split.js'
import { dataStatsCommand } from './commands/data-stats.js'
import { dataSynthCommand } from './commands/data-synth.js'
import { dataViewCommand } from './commands/data-view.js'
import { demoCommand } from './commands/demo.js'
import { doctorCommand } from './commands/doctor.js'
import { evaluateCommand } from './commands/evaluate.js'
import { exportCommand } from './commands/export.js'
import { infoCommand } from './commands/info.js'
import { predictCommand } from './commands/predict.js'
import { reportCommand } from './commands/report.js'
import { sweepCommand, sweepInferCommand, sweepReportCommand } from './commands/sweep.js'
import { trainCommand } from './commands/train.js'
import type { Io } from './io.js'
import { reportError } from './report-error.js'

const commands: readonly CommandFile[] = [
  demoCommand,
  dataCheckCommand,
  dataPrepareCommand,
  dataStatsCommand,
  dataViewCommand,
  dataSplitCommand,
  dataSynthCommand,
  anchorsReportCommand,
  anchorsOptimizeCommand,
  trainCommand,
  cvCommand,
  sweepCommand,
  sweepInferCommand,
  sweepReportCommand,
  evaluateCommand,
  compareCommand,
  reportCommand,
  exportCommand,
  predictCommand,
  infoCommand,
  configShowCommand,
  configInitCommand,
  configSchemaCommand,
  doctorCommand,
  buildCommand,
]

const groups: Record<string, string> = {
  data: 'prepare and inspect datasets',
  anchors: 'fit anchors to the lesions of a dataset',
  config: 'show, start or describe a configuration',
}

const footer = `
Options of every command: --config FILE, --set KEY=VALUE, --json, --quiet, ...: see \`mammo-retinanet --help\`.

Exit codes: 0 success, 1 internal error, 2 usage or configuration, 3 data, 4 resource or environment,
5 non-finite numbers, 6 a check failed, 129/130/143 interrupted.`

/** Runs one command line (without node and script name). Resolves to the exit code; prints errors itself. */
export async function runCli(argv: readonly string[], io: Io): Promise<number> {
  let code = 0
  const program = makeProgram(io, (value) => {
    code = value
  })
  try {
    await program.parseAsync([...argv], { from: 'user' })
    return code
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    return reportError(error, io)
  }
}

function makeProgram(io: Io, done: (code: number) => void): Command {
  const { version, description } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8'))
  const program = new Command('mammo-retinanet')
    .description(description)
    .version(version)
    .addOption(new Option('--config <file>', 'YAML configuration, or config.ini of keras-retinanet'))
    .addOption(
      new Option('--set <key=value>', 'override one key (repeatable)').argParser(collectSet).default({}, 'none'),
    )
    .addOption(new Option('--log <kind>', 'form of the log on stderr').choices(['text', 'json']).default('text'))
    .option('--quiet', 'errors only', false)
    .option('--verbose', 'more detail', false)
    .option('--no-color', 'plain text')
    .option('--json', 'stdout is one JSON document', false)
    .option('--no-build', 'a missing addon is an error instead of a build')
    .showHelpAfterError('(add --help for the options)')
  program.configureOutput({ writeOut: io.stdout, writeErr: io.stderr }).exitOverride()
  const parents = new Map<string, Command>()
  for (const file of commands) {
    const [first, second] = file.name.split(' ') as [string, string?]
    let parent = program
    if (second !== undefined) {
      parent = parents.get(first) ?? program.command(first).description(groups[first] ?? '')
      parents.set(first, parent)
    }
    const command = parent.command(second ?? first).description(file.summary)
    // A command can be a group too: `sweep SPEC`, `sweep infer RUN`.
    if (second === undefined) parents.set(first, command)
    file.declare(command)
    command.addHelpText(
      'after',
      `\nExamples:\n${file.examples.map((e) => `  mammo-retinanet ${e}`).join('\n')}\n${footer}`,
    )
    command.action(async (...all: unknown[]) => {
      const self = all.at(-1) as Command
      const args = self.args
      const global = normaliseGlobals(self.optsWithGlobals(), io)
      // Options that both know land at the outer command, wherever they stand.
      const outer = self.parent === program ? {} : self.parent?.opts()
      done(await file.run(io, global, { ...outer, ...self.opts() }, args))
    })
  }
  return program
}

function normaliseGlobals(all: Record<string, unknown>, io: Io): GlobalOptions {
  const color = all['color'] !== false && io.env['NO_COLOR'] === undefined
  return { ...(all as unknown as GlobalOptions), color }
}
