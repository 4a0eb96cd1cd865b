// `compare`: puts runs beside each other, on the terminal and as one page.
import { UsageError } from '../../errors.js'
import { type CommandFile, integerOption } from '../command.js'
import { textTable } from '../text-table.js'

interface CompareFlags {
  by?: string[]
  metric?: string
  out?: string
  bootstrap?: number
  parts?: ('val' | 'test')[]
  sides?: number[]
}

export const compareCommand: CommandFile = {
  name: 'compare',
  summary: 'compare runs: configuration, metrics, paired differences, histories on one plot',
  examples: [
    'compare runs/train/a-1 runs/train/b-1 --parts val,test --sides 32,64,128',
    'compare runs/sweep/focal --by loss.alpha,loss.gamma --out focal.html',
  ],
  declare: (command) => {
    command
      .argument('<run...>', 'run folders, or the folder of a sweep or cross-validation; the first is the reference')
      .option('--by <keys>', 'configuration keys that group the runs of the plots', (text: string) => text.split(','))
      .option('--metric <column>', 'column of results.csv in the table')
      .option('--out <file>', 'page to write (compare.html)')
      .option('--bootstrap <n>', 'resamples of patients for paired differences', integerOption)
      .option(
        '--parts <parts>',
        'parts whose stored detections are paired together: val, test; commas between',
        partsOf,
      )
      .option('--sides <pixels>', 'lesion sides that part the recall table, ascending; commas between', sidesOf)
  },
  async run(io, global, options, targets) {
    const { compareRuns, groupTables, metricTable, pairedTables } = await import('../../tasks/compare.js')
    const result = await compareRuns(targets, options as CompareFlags)
    if (!global.quiet) for (const warning of result.warnings) io.stderr(`warning: ${warning}\n`)
    if (global.json) {
      io.stdout(`${JSON.stringify(result, null, 2)}\n`)
      return 0
    }
    const tables = [...groupTables(result.groups), ...metricTable(result.metrics), ...pairedTables(result.paired)]
    const listed = (title: string, rows: typeof result.differences) =>
      rows.length === 0 ? [] : [title, ...rows.map(({ key, values }) => `  ${key}: ${values.join(' | ')}`), '']
    const lines = [
      ...listed('configuration', result.differences),
      ...listed('environment', result.environment),
      ...tables.flatMap(({ caption, head, rows }) => [caption, ...textTable(head, rows).map((l) => `  ${l}`), '']),
      `page: ${result.page}`,
    ]
    io.stdout(`${lines.join('\n')}\n`)
    return 0
  },
}

function partsOf(text: string): string[] {
  const parts = [...new Set(text.split(','))]
  if (parts.some((part) => part !== 'val' && part !== 'test')) {
    throw new UsageError('ARGUMENT', `--parts: expected val, test or val,test, got "${text}"`, {
      fix: 'name parts that `evaluate RUN --split PART` has scored',
    })
  }
  return parts
}

function sidesOf(text: string): number[] {
  const sides = text.split(',').map(Number)
  if (sides.some((side, i) => !(side > (i === 0 ? 0 : sides[i - 1]!) && Number.isFinite(side)))) {
    throw new UsageError('ARGUMENT', `--sides: expected positive ascending numbers, got "${text}"`, {
      fix: 'write sides in pixels of the film, such as 32,64,128',
    })
  }
  return sides
}
