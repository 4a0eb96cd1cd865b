// `data check`: what is in a dataset, what is wrong with it and what would mend it.
import { writeFileAtomic } from '../../atomic-write.js'
import type { CommandFile } from '../command.js'
import { dataConfig, declarePreset, declareReading, type ReadingFlags, sourceOptions } from '../reading-options.js'
import { anchorText } from './anchors-report.js'

interface CheckFlags extends ReadingFlags {
  preset?: string
  strict?: boolean
  fixPlan?: string
  out?: string
}

export const dataCheckCommand: CommandFile = {
  name: 'data check',
  summary: 'validate a dataset: counts, sizes, anchor coverage, duplicates, leaks, memory plan',
  examples: ['data check INbreast --fix-plan plan.txt', 'data check prepared --preset cbis-resized --out check.html'],
  declare: (command) => {
    command
      .argument('<dir>', 'dataset as it was downloaded, or a prepared folder')
      .option('--strict', 'warnings fail too')
      .option('--fix-plan <file>', 'write what to leave out or correct, one proposal per problem')
      .option('--out <file>', 'write the findings as an HTML page')
    declarePreset(command)
    declareReading(command)
  },
  async run(io, global, options, [dir]) {
    const { checkDataset, fixPlan, formatCheck, writeCheckPage } = await import('../../tasks/check.js')
    const flags = options as unknown as CheckFlags
    const config = await dataConfig(global, flags.preset)
    const source = await sourceOptions(flags, io)
    const check = await checkDataset(dir!, { ...source, config, strict: flags.strict ?? false })
    if (flags.fixPlan !== undefined) await writeFileAtomic(flags.fixPlan, fixPlan(check))
    if (flags.out !== undefined) await writeCheckPage(dir!, check, flags.out)
    if (global.json) io.stdout(`${JSON.stringify(check, null, 2)}\n`)
    else {
      io.stdout(formatCheck(check))
      for (const leak of check.leaks.slice(0, 10)) {
        io.stdout(`leak ${leak.level} ${leak.rule}: ${leak.parts.join(' and ')} share ${leak.key}\n`)
      }
      if (check.leaksChecked && check.leaks.length === 0) io.stdout('leaks: none between the parts\n')
      if (check.anchors !== null && check.anchors.coverage.boxes.length > 0) io.stdout(anchorText(check.anchors))
      if (flags.fixPlan !== undefined) io.stdout(`plan in ${flags.fixPlan}\n`)
      if (flags.out !== undefined) io.stdout(`page in ${flags.out}\n`)
    }
    return check.exitCode
  },
}
