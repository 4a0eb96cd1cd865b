// `report`: the HTML page of a run.
import { type CommandFile, integerOption, numberOption } from '../command.js'

interface ReportFlags {
  out?: string
  gallery?: number
  maxMb?: number
  pictures?: string
}

export const reportCommand: CommandFile = {
  name: 'report',
  summary: 'write the HTML page of a run: one file that opens offline',
  examples: ['report runs/train/cbis-resized-1', 'report runs/train/cbis-resized-1 --gallery 24 --out page.html'],
  declare: (command) => {
    command
      .argument('<run>', 'run folder')
      .option('--out <file>', 'page to write (report.html in the run folder)')
      .option('--gallery <n>', 'images shown at most: misses, false alarms and hits in turn (8)', integerOption)
      .option('--max-mb <size>', 'size of the page; pictures beyond it are left out (20)', numberOption)
      .option('--pictures <dir>', 'folder of PNG pictures, such as the output of predict')
  },
  async run(io, global, options, [run]) {
    const { writeReport } = await import('../../tasks/report.js')
    const path = await writeReport(run!, options as ReportFlags)
    io.stdout(global.json ? `${JSON.stringify({ report: path })}\n` : `${path}\n`)
    return 0
  },
}
