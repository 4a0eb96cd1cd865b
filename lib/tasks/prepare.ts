// `data prepare`: from a dataset as it was downloaded to a prepared folder. Puts the adapters and the preparation together.
import { basename, resolve } from 'node:path'
import { readDataset } from '../data/formats/index.js'
import { manifestHeaderLine } from '../data/manifest.js'
import { type PreparedSummary, type PrepareOptions, prepareRecords } from '../data/prepare.js'
import type { AdapterName, AdapterOptions, Problem } from '../data/types.js'
import { DataError } from '../errors.js'
import { toolVersion } from '../package-root.js'

export { ADAPTERS, type AdapterName } from '../data/types.js'

export interface PrepareDatasetOptions extends PrepareOptions {
  /** Default: recognised from the folder. */
  adapter?: AdapterName
  reading?: AdapterOptions
  /** Problems of level warning, as they are found. */
  onProblem?: (problem: Problem) => void
}

/**
 * Reads the dataset in `root` and prepares it. Rejects with DataError ANNOTATION or MANIFEST listing every problem of level
 * error (nothing is written then), and with what the preparation rejects with.
 */
export async function prepareDataset(
  root: string,
  options: PrepareDatasetOptions,
): Promise<PreparedSummary & { problems: Problem[] }> {
  const { adapter, reading, onProblem, ...rest } = options
  const dataset = await readDataset(resolve(root), adapter, reading)
  for (const problem of dataset.problems) onProblem?.(problem)
  const errors = dataset.problems.filter((problem) => problem.level === 'error')
  if (errors.length > 0) throw problemsError(errors, root)
  const summary = await prepareRecords(
    {
      root: dataset.root,
      adapter: dataset.header.adapter,
      tool: toolVersion(),
      labelRules: dataset.header.labelRules,
      records: dataset.records,
      headerLine: manifestHeaderLine(dataset.header),
    },
    rest,
  )
  return { ...summary, problems: dataset.problems }
}

function problemsError(errors: readonly Problem[], root: string): DataError {
  const lines = errors.slice(0, 20).map((p) => `  ${p.rule}: ${p.message}${p.where ? ` (${p.where})` : ''}`)
  const more = errors.length > 20 ? [`  and ${errors.length - 20} more`] : []
  const code = errors.some((p) => p.rule.startsWith('manifest/')) ? 'MANIFEST' : 'ANNOTATION'
  return new DataError(code, [`${errors.length} problems in ${basename(root)}`, ...lines, ...more].join('\n'), {
    where: root,
    fix: 'correct the annotations, or leave items out with --exclude',
    details: { rule: errors[0]!.rule },
  })
}
