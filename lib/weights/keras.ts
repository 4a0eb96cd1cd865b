// Turns the tensors of a keras-retinanet model (ResNet) into our parameters: names and layout, kernels [height, width, in, out] to
// [out, in, height, width]. Not a reader of HDF5.
import { fromKeras, mapParameters } from './names.js'
import { collect, type ImportedWeights } from './torchvision.js'
import type { Weights } from './weight-file.js'

export interface KerasOptions {
  /** Caffe stems expect blue, green, red: reverse the stem's input channels for red, green, blue. */
  reverseStem?: boolean
}

/** Renames and transposes. Throws TrainingError CHECKPOINT when no name matches. */
export function kerasParameters(source: ReadonlyMap<string, Weights>, options: KerasOptions = {}): ImportedWeights {
  const report = mapParameters(source.keys(), fromKeras)
  const parameters = collect(source, report, (weights, ours) => {
    if (weights.shape.length !== 4) return weights
    return toOihw(weights, options.reverseStem === true && ours === 'backbone.conv1.weight')
  })
  return { parameters, report }
}

/** A kernel [height, width, in, out] as [out, in, height, width]. */
export function toOihw({ shape, data }: Weights, reverseInputs = false): Weights {
  const [height, width, inputs, outputs] = shape as [number, number, number, number]
  const area = height * width
  const result = new Float32Array(data.length)
  for (let p = 0; p < area; p++) {
    for (let i = 0; i < inputs; i++) {
      const from = (p * inputs + (reverseInputs ? inputs - 1 - i : i)) * outputs
      for (let o = 0; o < outputs; o++) result[(o * inputs + i) * area + p] = data[from + o]!
    }
  }
  return { shape: [outputs, inputs, height, width], data: result }
}
