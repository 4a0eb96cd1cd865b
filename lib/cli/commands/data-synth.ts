// `data synth`: synthetic mammograms in the layout of INbreast.
import { InvalidArgumentError, Option } from 'commander'
import { type CommandFile, integerOption } from '../command.js'
import { progressBar } from '../progress-bar.js'

interface SynthFlags {
  out: string
  count: number
  size: [number, number]
  seed: number
  quirks?: boolean
}

export const dataSynthCommand: CommandFile = {
  name: 'data synth',
  summary: 'write synthetic mammograms as DICOM files with contours, in the layout of INbreast',
  examples: ['data synth --count 8 --size 1024x768 --out phantoms', 'data synth --count 40 --seed 7 --out phantoms'],
  declare: (command) => {
    command
      .requiredOption('--out <dir>', 'folder to write')
      .option('--count <n>', 'images', integerOption, 8)
      .addOption(
        new Option('--size <HxW>', 'rows x columns, up to 4096x3328')
          .argParser(parseSize)
          .default([3328, 2560], '3328x2560'),
      )
      .option('--seed <n>', 'image k depends on the seed and k alone', integerOption, 0)
      .option('--quirks', 'with the irregularities of the real set')
  },
  async run(io, global, options) {
    const { synthesize } = await import('../../tasks/synth.js')
    const { out, count, size, seed, quirks = false } = options as unknown as SynthFlags
    const [height, width] = size
    const bar = progressBar(io, 'drawing', !global.quiet)
    const summary = await synthesize({
      ...{ out, count, height, width, seed, quirks },
      onProgress: (done, total) => bar.update(done, total),
    }).finally(() => bar.stop())
    const { images, patients, positive, masses, seconds } = summary
    io.stdout(
      global.json
        ? `${JSON.stringify(summary, null, 2)}\n`
        : `${out}: ${images} synthetic images of ${patients} patients, ${masses} masses on ${positive} images, ${seconds.toFixed(1)} s\nno clinical evidence: phantoms show that the software works\n`,
    )
    return 0
  },
}

function parseSize(text: string): [number, number] {
  const found = /^(\d+)x(\d+)$/.exec(text)
  if (found === null) throw new InvalidArgumentError(`expected rows x columns such as 1024x768, got "${text}"`)
  return [Number(found[1]), Number(found[2])]
}
