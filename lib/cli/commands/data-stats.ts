// `data stats`: counts, lesion sizes and intensities of a dataset.
import type { DatasetStats } from '../../tasks/stats.js'
import type { CommandFile } from '../command.js'
import { dataConfig, declareReading, type ReadingFlags, sourceOptions } from '../reading-options.js'

export const dataStatsCommand: CommandFile = {
  name: 'data stats',
  summary: 'count views, sides, densities, BI-RADS; measure lesions and intensities',
  examples: ['data stats prepared', 'data stats INbreast --plots plots --json'],
  declare: (command) => {
    command
      .argument('<dir>', 'prepared folder, or a dataset as it was downloaded')
      .option('--plots <dir>', 'folder for the plots as SVG')
    declareReading(command)
  },
  async run(io, global, options, [dir]) {
    const { datasetStats } = await import('../../tasks/stats.js')
    const flags = options as unknown as ReadingFlags & { plots?: string }
    const { data } = await dataConfig(global, undefined)
    const stats = await datasetStats(dir!, {
      ...(await sourceOptions(flags, io)),
      classes: data.classes,
      ...(flags.plots === undefined ? {} : { plots: flags.plots }),
    })
    io.stdout(global.json ? `${JSON.stringify(stats, null, 2)}\n` : statsText(stats))
    return 0
  },
}

function statsText(stats: DatasetStats): string {
  const { counts, sizesPx, sizesMm, intensities } = stats
  const list = (record: Record<string, number>) =>
    Object.entries(record)
      .map(([name, n]) => `${name} ${n}`)
      .join(', ')
  const spread = (s: { min: number; p5: number; median: number; p95: number; max: number }, digits: number) =>
    [s.min, s.p5, s.median, s.p95, s.max].map((v) => v.toFixed(digits)).join(' / ')
  const lines = [
    `${stats.images} images of ${stats.patients} patients: ${stats.positive} positive, ${stats.negative} negative, ${stats.unannotated} not annotated`,
    `  view      ${list(counts.view)}`,
    `  side      ${list(counts.side)}`,
    `  density   ${list(counts.density)}`,
    `  BI-RADS   ${list(counts.biRads)}`,
    `  lesions   ${list(counts.lesionClass) || 'none'}`,
    `  per image ${list(stats.lesionsPerImage)}`,
  ]
  if (sizesPx !== null) {
    lines.push('lesions: minimum / 5 % / median / 95 % / maximum')
    lines.push(`  width px  ${spread(sizesPx.width, 0)}`, `  height px ${spread(sizesPx.height, 0)}`)
    lines.push(`  side px   ${spread(sizesPx.side, 0)}`)
    lines.push(sizesMm === null ? '  side mm   unknown: no pixel spacing' : `  side mm   ${spread(sizesMm, 1)}`)
  }
  if (intensities === null) lines.push('intensities: known once the dataset is prepared')
  else {
    const { mean, std, imageMean, imageStd } = intensities
    lines.push(`intensities of non-zero pixels: mean ${mean.toFixed(2)}, standard deviation ${std.toFixed(2)}`)
    lines.push(
      `  image mean               ${spread(imageMean, 0)}`,
      `  image standard deviation ${spread(imageStd, 0)}`,
    )
  }
  lines.push(...stats.plots.map((path) => `plot in ${path}`))
  return `${lines.join('\n')}\n`
}
