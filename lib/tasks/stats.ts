// `data stats`: counts, lesion sizes and intensities of a dataset, with plots when asked for. Intensities are known once a dataset is
// prepared. It looks for no faults; that is `data check`.
import { join } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import { type CheckedRecord, type CheckReport, checkDataset, histogram, type Spread, spread } from '../data/check.js'
import { combineSums } from '../data/statistics.js'
import { type HistogramPlot, histogramSvg } from '../report/plots.js'
import { readRecords, type SourceOptions } from './training-boxes.js'

export interface DatasetStatsOptions extends SourceOptions {
  /** Lesion classes whose sizes are measured; default `mass`. */
  classes?: string[]
  /** Folder of SVG plots. */
  plots?: string
}

export interface DatasetStats
  extends Pick<
    CheckReport,
    | 'images'
    | 'patients'
    | 'positive'
    | 'negative'
    | 'unannotated'
    | 'counts'
    | 'lesionsPerImage'
    | 'sizesPx'
    | 'sizesMm'
    | 'sizeHistogram'
  > {
  /** Over non-zero pixels: of all images together, and the spread of the images' own. Null before preparation. */
  intensities: { mean: number; std: number; imageMeans: number[]; imageMean: Spread; imageStd: Spread } | null
  /** Paths of the written plots. */
  plots: string[]
}

export async function datasetStats(folder: string, options: DatasetStatsOptions = {}): Promise<DatasetStats> {
  const { classes, plots, ...source } = options
  const input = await readRecords(folder, source)
  const report = checkDataset({ ...input, problems: [] }, classes === undefined ? {} : { classes })
  const { images, patients, positive, negative, unannotated, counts, lesionsPerImage } = report
  const { sizesPx, sizesMm, sizeHistogram } = report
  const stats: DatasetStats = {
    ...{ images, patients, positive, negative, unannotated, counts, lesionsPerImage },
    ...{ sizesPx, sizesMm, sizeHistogram, intensities: intensitiesOf(input.records, folder), plots: [] },
  }
  if (plots !== undefined) stats.plots = await writePlots(stats, plots)
  return stats
}

function intensitiesOf(records: readonly CheckedRecord[], folder: string): DatasetStats['intensities'] {
  const entries = records.flatMap(({ cache }) => (cache === undefined ? [] : [cache]))
  if (entries.length === 0 || entries.length < records.length) return null
  const { mean, std } = combineSums(entries, folder)
  // An image without a non-zero pixel has no mean of its own.
  const own = entries.filter(({ n }) => n !== '0').map((entry) => combineSums([entry], folder))
  const imageMeans = own.map((s) => s.mean)
  return { mean, std, imageMeans, imageMean: spread(imageMeans), imageStd: spread(own.map((s) => s.std)) }
}

async function writePlots({ sizeHistogram, intensities }: DatasetStats, folder: string): Promise<string[]> {
  const plots: [string, HistogramPlot][] = []
  if (sizeHistogram !== null) {
    const { unit, width, counts } = sizeHistogram
    const xTitle = `square root of the box area in ${unit === 'px' ? 'source pixels' : unit}`
    plots.push(['lesion-sizes.svg', { title: 'Lesion sizes', xTitle, yTitle: 'lesions', binWidth: width, counts }])
  }
  if (intensities !== null) {
    const { width, counts } = histogram(intensities.imageMeans)
    const xTitle = 'mean of the non-zero pixels of an image'
    plots.push(['intensities.svg', { title: 'Intensities', xTitle, yTitle: 'images', binWidth: width, counts }])
  }
  for (const [name, plot] of plots) await writeFileAtomic(join(folder, name), await histogramSvg(plot))
  return plots.map(([name]) => join(folder, name))
}
