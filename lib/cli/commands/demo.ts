// `demo`: the main job on the bundled mammograms.
import { resolve } from 'node:path'
import { chooseThreads, readMachine } from '../../machine.js'
import { type CommandFile, integerFrom } from '../command.js'

export const demoCommand: CommandFile = {
  name: 'demo',
  summary: 'the main job on bundled real mammograms: prepare, train, evaluate, export, predict, report (minutes)',
  examples: ['demo', 'demo --out /tmp/demo --epochs 5'],
  declare: (command) => {
    command
      .option('--out <dir>', 'folder to write', 'runs/demo')
      .option('--epochs <n>', 'epochs instead of those of the preset', integerFrom(1))
  },
  async run(io, global, options) {
    const { ensureAddon } = await import('../../tasks/build.js')
    const { demo } = await import('../../tasks/demo.js')
    const { SIGNAL_EXIT } = await import('../../tasks/train.js')
    const { out, epochs } = options as { out: string; epochs?: number }
    const log = (line: string) => {
      if (!global.quiet) io.stderr(`${line}\n`)
    }
    await ensureAddon({ allowed: global.build, log })
    const result = await demo({
      out: resolve(out),
      ...(epochs === undefined ? {} : { epochs }),
      threads: chooseThreads(readMachine()).intraOp,
      display: {
        write: io.stderr,
        isTty: io.isTty,
        columns: io.columns,
        mode: global.quiet ? 'quiet' : global.log,
        logEvery: 20,
      },
      log,
      handleSignals: true,
    })
    const stopped = result.stopped as keyof typeof SIGNAL_EXIT | null
    const code = stopped === null ? 0 : (SIGNAL_EXIT[stopped] ?? 130)
    if (global.json) {
      io.stdout(`${JSON.stringify(result, null, 2)}\n`)
      return code
    }
    if (stopped !== null) {
      io.stdout(`${result.run}\n`)
      return code
    }
    io.stdout(
      [
        `AP at IoU 0.5 on its own training images: ${result.ap50?.toFixed(3)} (over-fitted on purpose; says nothing about other images)`,
        `run     ${result.run}`,
        `model   ${result.model}`,
        `report  ${result.report}`,
        '',
      ].join('\n'),
    )
    return 0
  },
}
