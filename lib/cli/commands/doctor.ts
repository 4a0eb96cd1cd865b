// `doctor`: what is installed and what to do about what is missing.
import type { CommandFile } from '../command.js'

export const doctorCommand: CommandFile = {
  name: 'doctor',
  summary: 'explain the installation: what is there, what was chosen and why, what is missing and how to mend it',
  examples: ['doctor', 'doctor --json'],
  declare: () => {},
  async run(io, global) {
    const { doctor, formatDoctor } = await import('../../tasks/doctor.js')
    const report = await doctor()
    io.stdout(global.json ? `${JSON.stringify(report, null, 2)}\n` : `${formatDoctor(report)}\n`)
    return report.ready.train ? 0 : 4
  },
}
