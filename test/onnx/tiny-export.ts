// Export options of the tiny test detector, for tests of export and prediction.
import type { WriteModelOptions } from '../../lib/onnx/export.js'
import { deviceUid } from '../../lib/onnx/manifest.js'
import { resnetGraph } from './resnet-graph.js'
import { type TinyOptions, tinyDetector, tinyParameters } from './tiny-model.js'

export function tinyExport(
  out: string,
  options: TinyOptions = {},
  input: Partial<WriteModelOptions['input']> = {},
): WriteModelOptions {
  const detector = tinyDetector(options)
  return {
    detector,
    backbone: resnetGraph(detector.model),
    parameters: tinyParameters(detector),
    input: {
      type: 'uint16',
      padMultiple: 128,
      crop: { enabled: false, algorithm: 'breast-1', margin: 0.03 },
      intensity: 'grey levels after the modality transform',
      normalise: 'dataset',
      mean: [1000],
      std: [500],
      normalisedInGraph: true,
      resize: { rule: 'none', minSide: 800, maxSide: 1333, spacingMm: null, antialias: true },
      trainingSpacingMm: null,
      spacingRule: 'resample',
      spacingTolerance: 0.15,
      presentationIntents: ['FOR PRESENTATION'],
      ...input,
    },
    classes: Array.from({ length: detector.model.classes }, (_, i) => (i === 0 ? 'mass' : `class-${i}`)),
    provenance: {
      run: null,
      preset: null,
      semantics: 'mammo',
      toolVersion: '0.0.0',
      commit: null,
      checkpointSha256: null,
      dataset: null,
      deviceUID: deviceUid('tiny'),
    },
    out,
  }
}
