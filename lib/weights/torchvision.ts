// Turns the tensors of a torchvision RetinaNet state dict into our parameters. The layout is the same; only names differ, and the
// classification layer's columns when the file was trained on other classes. Not a reader of files.
import { TrainingError } from '../errors.js'
import { fromTorchvision, mapParameters, type NameReport } from './names.js'
import type { Weights } from './weight-file.js'

export interface ImportedWeights {
  parameters: Map<string, Weights>
  report: NameReport
}

/** Renames a state dict. Throws TrainingError CHECKPOINT when no name matches: the file is then of another model. */
export function torchvisionParameters(source: ReadonlyMap<string, Weights>): ImportedWeights {
  const report = mapParameters(source.keys(), fromTorchvision)
  return { parameters: collect(source, report, (weights) => weights), report }
}

/** Keeps some columns (classes) of a classification layer, in the given order: rows a*K + k of weight and bias. */
export function selectClasses(layer: Weights, classes: number, keep: readonly number[]): Weights {
  return mergeClasses(layer, classes, keep, undefined)
}

/** The same, where null stands for a class that the layer does not know: its rows come from `own`, which has as many classes as asked. */
export function mergeClasses(
  layer: Weights,
  classes: number,
  columns: readonly (number | null)[],
  own: Weights | undefined,
): Weights {
  const [rows, ...rest] = layer.shape as [number, ...number[]]
  const perRow = rest.reduce((product, dim) => product * dim, 1)
  const anchors = rows / classes
  const data = new Float32Array(anchors * columns.length * perRow)
  for (let a = 0; a < anchors; a++) {
    columns.forEach((column, index) => {
      const to = (a * columns.length + index) * perRow
      const from = column === null ? to : (a * classes + column) * perRow
      const source = column === null ? own!.data : layer.data
      data.set(source.subarray(from, from + perRow), to)
    })
  }
  return { shape: [anchors * columns.length, ...rest], data }
}

/** Applies a name report to tensors, shared by all importers. */
export function collect(
  source: ReadonlyMap<string, Weights>,
  report: NameReport,
  convert: (weights: Weights, ours: string) => Weights,
): Map<string, Weights> {
  if (report.mapped.size === 0) {
    throw new TrainingError(
      'CHECKPOINT',
      `expected RetinaNet weights, got ${source.size} tensors of which none has a known name`,
      {
        fix: 'give a weight file of a ResNet RetinaNet of torchvision or keras-retinanet',
      },
    )
  }
  return new Map([...report.mapped].map(([name, ours]) => [ours, convert(source.get(name)!, ours)]))
}
