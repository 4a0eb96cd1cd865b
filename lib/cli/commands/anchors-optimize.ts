// `anchors optimize`: a search for ratios and scales that fit the lesions of a dataset, beside the configured ones.
import { Option } from 'commander'
import { writeFileAtomic } from '../../atomic-write.js'
import type { AnchorSetting, ObjectiveName, SearchPart } from '../../tasks/anchors.js'
import { type CommandFile, integerOption } from '../command.js'
import { progressBar } from '../progress-bar.js'
import { dataConfig, declarePreset, declareReading, type ReadingFlags, sourceOptions } from '../reading-options.js'

interface OptimizeFlags extends ReadingFlags {
  preset?: string
  scales: number
  ratios: number
  includeGrid?: boolean
  objective: ObjectiveName
  part?: SearchPart
  seed: number
  top: number
  out?: string
}

export const anchorsOptimizeCommand: CommandFile = {
  name: 'anchors optimize',
  summary: 'search anchor ratios and scales that fit the lesions; prints a configuration fragment',
  examples: [
    'anchors optimize prepared --scales 3 --ratios 3',
    'anchors optimize prepared --preset inbreast-resized --objective recall --out anchors.yaml',
  ],
  declare: (command) => {
    command
      .argument('<dir>', 'prepared folder, or a dataset as it was downloaded')
      .option('--scales <n>', 'number of scales', integerOption, 3)
      .option('--ratios <n>', 'number of ratios', integerOption, 3)
      .option('--include-grid', 'search with the boxes at their places on the anchor grid')
      .addOption(
        new Option('--objective <name>', 'what is minimised')
          .choices(['focal', 'avg', 'ce', 'recall'])
          .default('focal'),
      )
      .addOption(
        new Option('--part <part>', 'images of a prepared folder that are read; default train').choices([
          'train',
          'val',
          'test',
          'all',
        ]),
      )
      .option('--seed <n>', 'seed of the search', integerOption, 0)
      .option('--top <n>', 'independent searches, all shown', integerOption, 1)
      .option('--out <file>', 'write the fragment')
    declarePreset(command)
    declareReading(command)
  },
  async run(io, global, options, [dir]) {
    const { optimizeAnchors } = await import('../../tasks/anchors.js')
    const flags = options as unknown as OptimizeFlags
    const { scales, ratios, objective, seed, top, includeGrid = false } = flags
    const config = await dataConfig(global, flags.preset)
    const source = await sourceOptions(flags, io)
    const bar = progressBar(io, 'searching', !global.quiet)
    const search = await optimizeAnchors(dir!, {
      ...{ ...source, config, scales, ratios, objective, seed, top, includeGrid },
      ...(flags.part === undefined ? {} : { part: flags.part }),
      onProgress: (done, total) => bar.update(done, total),
    }).finally(() => bar.stop())
    if (flags.out !== undefined) await writeFileAtomic(flags.out, search.fragment)
    if (global.json) {
      io.stdout(`${JSON.stringify(search, null, 2)}\n`)
      return 0
    }
    const place = includeGrid ? 'on the grid' : 'boxes centred on the anchors'
    const best = search.optimised[0]!
    io.stdout(
      [
        `${search.boxes} lesions${search.part === 'all' ? '' : ` of the ${search.part} part`}, objective ${search.objective} (smaller is better), ${place}`,
        `  ${'setting'.padEnd(18)} ${'objective'.padStart(10)} ${'mean IoU'.padStart(9)} ${'< 0.5'.padStart(6)} | grid: mean IoU  least  no anchor  positives`,
        row('configured', search.configured),
        ...search.optimised.map((found) => row(`optimised, seed ${found.seed}`, found)),
        `  search: ${best.evaluations} evaluations, ${best.cpuSeconds.toFixed(1)} s of processor time`,
        'A better fit is no promise of a better detector: train both.',
        '',
        search.fragment,
      ].join('\n'),
    )
    return 0
  },
}

function row(name: string, { value, meanIou, unmatched, grid }: AnchorSetting): string {
  const cells = [
    value.toPrecision(4).padStart(10),
    meanIou.toFixed(4).padStart(9),
    String(unmatched).padStart(6),
    `|  ${grid.meanBestIou.toFixed(3).padStart(13)}`,
    grid.minimumBestIou.toFixed(3).padStart(6),
    String(grid.unmatched).padStart(10),
    String(grid.medianPositives).padStart(10),
  ]
  return `  ${name.padEnd(18)} ${cells.join(' ')}`
}
