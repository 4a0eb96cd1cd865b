// `build`: the native addon.

import { Option } from 'commander'
import { UsageError } from '../../errors.js'
import { type CommandFile, integerFrom } from '../command.js'

export const buildCommand: CommandFile = {
  name: 'build',
  summary: 'build the native addon; finds LibTorch or fetches it through pip',
  examples: ['build', 'build --libtorch /opt/libtorch --jobs 4'],
  declare: (command) => {
    command
      .addOption(new Option('--variant <kind>', 'LibTorch without or with CUDA').choices(['cpu', 'cuda']))
      .option('--libtorch <dir>', 'folder of a LibTorch 2.11 to 2.13')
      .option('--archive <file>', 'archive of LibTorch; needs --sha256')
      .option('--sha256 <hex>', 'expected sha256 of the archive')
      .option('--arch <list>', 'CUDA compute capability, such as 90')
      .option('--jobs <n>', 'compiler processes at a time', integerFrom(1))
      .option('--clean', 'start from nothing')
  },
  async run(io, global, options) {
    const { build } = await import('../../tasks/build.js')
    const { archive, sha256, ...rest } = options as { archive?: string; sha256?: string }
    if ((archive === undefined) !== (sha256 === undefined)) {
      throw new UsageError('ARGUMENT', 'expected --archive and --sha256 together, got one of them', {
        fix: 'give the sha256 that the source of the archive states',
      })
    }
    const result = await build({
      ...rest,
      ...(archive === undefined ? {} : { archive: { file: archive, sha256: sha256! } }),
      ...(global.quiet ? {} : { log: (line: string) => io.stderr(`${line}\n`) }),
    })
    const { libtorch } = result
    io.stdout(
      global.json
        ? `${JSON.stringify(result, null, 2)}\n`
        : `LibTorch ${libtorch.version} in ${libtorch.path}\n${result.addon} ${result.rebuilt ? `built in ${result.seconds} s` : 'is up to date'}\n`,
    )
    return 0
  },
}
