// `data prepare`: from a dataset as it was downloaded to a prepared folder. Puts the adapters and the preparation together.
import { join, resolve } from 'node:path'
import type { Config } from '../config/schema.js'
import { type CropSummary, writeCrops } from '../data/crops.js'
import { type ExportFormat, exportDataset, readDataset } from '../data/formats/index.js'
import { headerLine, throwErrors } from '../data/manifest.js'
import { type PreparedSummary, type PrepareOptions, prepareRecords } from '../data/prepare.js'
import { openPrepared } from '../data/prepared.js'
import type { AdapterName, AdapterOptions, Problem } from '../data/types.js'
import { toolVersion } from '../package-root.js'

export interface PrepareDatasetOptions extends PrepareOptions {
  /** Default: recognised from the folder. */
  adapter?: AdapterName
  reading?: AdapterOptions
  /** Problems of level warning, as they are found. */
  onProblem?: (problem: Problem) => void
  /** Also write the annotations in these formats, to `labels/<format>` in the prepared folder; paths are those of the source. */
  writeLabels?: readonly ExportFormat[]
  /** Also write the fixed patch set to `crops` in the prepared folder, by this rule and the configuration's `data` and `run.seed`. */
  crops?: { rule: 'msc' | 'ours'; config: Config; onProgress?: (done: number, total: number) => void }
}

/**
 * Reads the dataset in `root` and prepares it. Rejects with DataError ANNOTATION or MANIFEST listing every problem of level
 * error (nothing is written then), and with what the preparation rejects with.
 */
export async function prepareDataset(
  root: string,
  options: PrepareDatasetOptions,
): Promise<PreparedSummary & { problems: Problem[]; labels: string[]; crops: CropSummary | null }> {
  const { adapter, reading, onProblem, writeLabels = [], crops, ...rest } = options
  const dataset = await readDataset(resolve(root), { ...reading, ...(adapter === undefined ? {} : { adapter }) })
  for (const problem of dataset.problems) onProblem?.(problem)
  throwErrors(dataset.problems, root)
  const summary = await prepareRecords(
    {
      root: dataset.root,
      adapter: dataset.header.adapter,
      tool: toolVersion(),
      labelRules: dataset.header.labelRules,
      records: dataset.records,
      headerLine: headerLine(dataset.header),
    },
    rest,
  )
  const skipped = new Set(summary.skipped.map(({ id }) => id))
  const records = dataset.records.filter(({ id }) => !skipped.has(id))
  const labels = writeLabels.map((format) => join(summary.folder, 'labels', format))
  for (const [n, format] of writeLabels.entries()) await exportDataset(format, records, labels[n]!)
  if (crops === undefined) return { ...summary, problems: dataset.problems, labels, crops: null }
  const { rule, config, onProgress: progress } = crops
  const written = await writeCrops(await openPrepared(summary.folder), join(summary.folder, 'crops'), {
    ...{ rule, classes: config.data.classes, data: config.data, seed: config.run.seed },
    ...(progress === undefined ? {} : { onProgress: progress }),
  })
  return { ...summary, problems: dataset.problems, labels, crops: written }
}
