// Reads the weights of Keras' HDF5 files (save_weights and model.save of Keras 1 and 2): names as `layer/kernel:0`, arrays as they are
// stored. The only importer of h5wasm, loaded when the first such file is opened. Not their meaning (names.ts) and not their
// layout in memory (import.ts transposes). Layout: keras/saving/legacy/hdf5_format.py; the oracle keras_h5_layout.json.
import type { Dataset, Group, File as H5File } from 'h5wasm/node'
import { TrainingError } from '../errors.js'
import type { TensorEntry, WeightFile } from './weight-file.js'

/** Arrays of Keras 1 files are called `layer_W_1:0` or `layer_running_std:0` (which holds the variance). */
const OLD_ARRAYS: Record<string, string> = {
  W: 'kernel',
  b: 'bias',
  running_mean: 'moving_mean',
  running_std: 'moving_variance',
}

/** Opens a file and lists its arrays. Throws TrainingError CHECKPOINT when it is damaged or has another layout. */
export async function openKerasFile(path: string): Promise<WeightFile> {
  const h5 = await import('h5wasm/node')
  const library = await h5.ready
  // Otherwise the library prints its diagnosis on the error stream.
  library.activate_throwing_error_handler()
  const file = attempt(path, () => new h5.File(path, 'r'))
  try {
    const { datasets, outside } = attempt(path, () => listArrays(path, file))
    const tensors = new Map<string, TensorEntry>()
    for (const [name, dataset] of datasets) tensors.set(name, { type: typeOf(dataset), shape: dataset.shape ?? [] })
    return {
      format: 'keras',
      metadata: {},
      tensors,
      outside,
      async read(name) {
        const dataset = datasets.get(name)
        if (dataset === undefined) throw refused(path, `there is no array "${name}"`)
        const data = attempt(path, () => dataset.value)
        if (!(data instanceof Float32Array || data instanceof Float64Array)) {
          throw refused(path, `array "${name}" has the type ${typeOf(dataset)}, not float32 or float64`)
        }
        return { shape: dataset.shape ?? [], data: data instanceof Float32Array ? data : Float32Array.from(data) }
      },
      close: async () => {
        file.close()
      },
    }
  } catch (error) {
    file.close()
    throw error
  }
}

function listArrays(path: string, file: H5File): { datasets: Map<string, Dataset>; outside: Record<string, string> } {
  const whole = file.get('model_weights')
  const root = (whole ?? file) as Group
  const layers = texts(root, 'layer_names')
  if (layers === undefined) {
    throw refused(path, 'it has no list "layer_names"', {
      fix: 'save it with model.save_weights("NAME.h5") of Keras 2 (tf.keras up to TensorFlow 2.15)',
    })
  }
  const datasets = new Map<string, Dataset>()
  for (const layer of layers) {
    const group = root.get(layer)
    if (!isGroup(group)) throw refused(path, `layer "${layer}" is listed and missing`)
    const names = texts(group, 'weight_names') ?? []
    const inner = new Set(names.map(layerOf))
    for (const name of names) {
      const dataset = group.get(name)
      if (!isDataset(dataset)) throw refused(path, `array "${name}" of layer "${layer}" is listed and missing`)
      // A model within the model lists the arrays of several layers; elsewhere the group has the better name.
      const owner = inner.size > 1 && layerOf(name) !== '' ? layerOf(name) : layer
      const array = arrayOf(name, layer)
      const key = `${owner}/${array}`
      if (datasets.has(key)) throw refused(path, `array "${key}" occurs twice`)
      datasets.set(key, dataset)
    }
  }
  const outside: Record<string, string> = {}
  const optimizer = file.get('optimizer_weights')
  for (const name of isGroup(optimizer) ? optimizer.paths() : []) {
    if (isDataset((optimizer as Group).get(name))) {
      outside[`optimizer_weights/${name}`] = 'optimiser state: a new run starts its own'
    }
  }
  return { datasets, outside }
}

function layerOf(weight: string): string {
  return weight.slice(0, Math.max(0, weight.lastIndexOf('/')))
}

/** `kernel:0` of `conv1/kernel:0`, of `conv1_W:0` and of `block1_conv1_W_1:0`. */
function arrayOf(weight: string, layer: string): string {
  const last = weight.slice(weight.lastIndexOf('/') + 1)
  const old = last.startsWith(`${layer}_`) ? /^(.*?)(?:_\d+)?:0$/.exec(last.slice(layer.length + 1))?.[1] : undefined
  return old === undefined ? last : `${OLD_ARRAYS[old] ?? old}:0`
}

/** A list of texts; Keras spreads long ones over `name0`, `name1`... */
function texts(group: Group, name: string): string[] | undefined {
  const names = Object.keys(group.attrs)
  // An empty list is stored as an empty number.
  const read = (key: string) => [group.get_attribute(key, false)].flat().map(String).filter(Boolean)
  if (names.includes(name)) return read(name)
  const parts: string[] = []
  for (let i = 0; names.includes(`${name}${i}`); i++) parts.push(...read(`${name}${i}`))
  return names.includes(`${name}0`) ? parts : undefined
}

function isGroup(value: unknown): value is Group {
  return typeof (value as Partial<Group> | null)?.keys === 'function'
}

function isDataset(value: unknown): value is Dataset {
  return Array.isArray((value as Partial<Dataset> | null)?.shape)
}

/** Type as safetensors names it; HDF5 class 1 is floating point. */
function typeOf(dataset: Dataset): string {
  const { type, size } = dataset.metadata
  return type === 1 ? `F${8 * size}` : `HDF5 class ${type} of ${size} bytes`
}

function attempt<T>(path: string, action: () => T): T {
  try {
    return action()
  } catch (cause) {
    if (cause instanceof TrainingError) throw cause
    // The library's report ends with the innermost fault: `#006: file line n in function(): what`.
    const what = [...String((cause as Error).message).matchAll(/#\d+: .*?\(\): (.*)/g)].at(-1)?.[1]
    throw refused(path, what ?? 'its structure is damaged', {}, cause)
  }
}

function refused(path: string, what: string, parts: { fix?: string } = {}, cause?: unknown): TrainingError {
  return new TrainingError('CHECKPOINT', `expected a weight file of Keras: ${what}`, {
    where: path,
    fix: parts.fix ?? 'download or copy the file again',
    cause,
  })
}
