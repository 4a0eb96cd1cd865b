// Writes a detector as files: the ONNX model first, and, once it has been checked, its manifest and model card. Without a
// manifest no predictor accepts the model, so a failed check leaves nothing usable behind. Knows no checkpoint and no dataset.
import { createHash } from 'node:crypto'
import { rename, rm } from 'node:fs/promises'
import { cpus } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import type { BackboneGraph, DetectorConfig } from '../binding/types.js'
import type { Parameters } from './layers.js'
import {
  MANIFEST_SCHEMA,
  type ModelDescription,
  type ModelInput,
  type ModelManifest,
  manifestMetadata,
  manifestPath,
  type ParityRecord,
  type Provenance,
} from './manifest.js'
import { buildModel, IR_VERSION, OPSET } from './model.js'
import { modelCard } from './model-card.js'
import { type ParityResult, TOLERANCE } from './parity.js'
import { encodeModel, type ModelMessage } from './proto.js'

export interface WriteModelOptions {
  /** With `post.scoreThreshold` as the floor baked into the graph. */
  detector: DetectorConfig
  /** The engine's description of `detector.model.backbone`. */
  backbone: BackboneGraph
  /** By our names, running statistics included. */
  parameters: Parameters
  /** All but what follows from the detector and the graph. */
  input: Omit<ModelInput, 'name' | 'layout' | 'channels' | 'padValue'>
  classes: readonly string[]
  provenance: Provenance
  /** Path of the .onnx file. */
  out: string
  name?: string
  /** Semantic version of the model. */
  version?: string
  graph?: 'detect' | 'heads'
  twoStep?: boolean
  shape?: 'dynamic' | [number, number]
  /** Threshold that a predictor uses when the user gives none. */
  defaultThreshold?: number
  operatingPoints?: ModelDescription['operatingPoints']
  intendedUse?: ModelDescription['intendedUse']
  /** Rewrites the fp32 graph in another precision; see precision.ts. */
  variant?: { precision: 'fp16' | 'int8'; convert: (model: ModelMessage) => ModelMessage }
}

export interface ExportResult {
  /** Path of the model. */
  path: string
  bytes: number
  sha256: string
  opset: number
  inputs: { name: string; type: string; shape: string }[]
  outputs: { name: string; type: string; shape: string }[]
  /** What was encoded. */
  message: ModelMessage
  /** The manifest but for the parity record; `writeManifest` adds it. */
  draft: Omit<ModelManifest, 'parity'>
}

export interface ManifestResult {
  manifest: ModelManifest
  manifestPath: string
  cardPath: string
}

const INTENDED_USE: ModelDescription['intendedUse'] = {
  text: 'Detects masses in mammograms for research. Research software, not a medical device; not for diagnosis.',
  warnings: [
    'Measured only on the data named below; other vendors, acquisition modes and populations may differ.',
    'A detection is a region that resembles the training masses. A missing detection does not exclude a finding.',
  ],
  contact: null,
}

/**
 * Builds and writes the model. An older manifest of the same name is removed: it would describe other bytes. Throws
 * ConfigError, ExportError ONNX_UNSUPPORTED, DeviceError DISK_FULL.
 */
export async function writeModel(options: WriteModelOptions): Promise<ExportResult> {
  const { detector, parameters, out, graph = 'detect', shape = 'dynamic' } = options
  const description = describe(options, graph, shape)
  const built = buildModel({
    detector,
    backbone: options.backbone,
    parameters,
    input: { ...options.input, normalise: options.input.normalisedInGraph ? options.input.normalise : 'none' },
    graph,
    twoStep: options.twoStep ?? false,
    shape,
    doc: `${description.name} ${description.version}: RetinaNet ${detector.model.backbone}, ${description.intendedUse.text}`,
    metadata: manifestMetadata(description),
    producerVersion: options.provenance.toolVersion,
  })
  const message = options.variant === undefined ? built : options.variant.convert(built)
  const bytes = encodeModel(message)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  // In this order a full disk leaves the older pair as it was.
  await writeFileAtomic(out, bytes)
  await rm(manifestPath(out), { force: true })
  return {
    path: out,
    bytes: bytes.length,
    sha256,
    opset: OPSET,
    inputs: message.graph.input.map(summary),
    outputs: message.graph.output.map(summary),
    message,
    draft: {
      ...description,
      file: { path: basename(out), bytes: bytes.length, sha256, opset: OPSET, irVersion: IR_VERSION },
    },
  }
}

/**
 * Moves a written (and by now checked) model to its final path and returns the result there. The older pair stays until here, so that a
 * failed check costs nothing; the older manifest goes first, since it describes other bytes.
 */
export async function placeModel(result: ExportResult, path: string): Promise<ExportResult> {
  await rm(manifestPath(path), { force: true })
  await rename(result.path, path)
  const file = { ...result.draft.file, path: basename(path) }
  return { ...result, path, draft: { ...result.draft, file } }
}

/** Writes the manifest and the model card beside the model. */
export async function writeManifest(
  result: ExportResult,
  parity: ParityRecord,
  measured: Partial<Pick<ModelManifest, 'accuracy' | 'operatingPoints' | 'calibration'>> = {},
): Promise<ManifestResult> {
  const manifest: ModelManifest = { ...result.draft, ...measured, parity }
  const path = manifestPath(result.path)
  // Variants and other shapes lie beside the model, with words such as .int8 or .4096x3328 in their names: each has a card of its own.
  const words = basename(result.path)
    .replace(/\.onnx$/i, '')
    .split('.')
    .slice(1)
  const cardPath = join(dirname(result.path), ['MODEL_CARD', ...words, 'md'].join('.'))
  await writeFileAtomic(cardPath, modelCard(manifest))
  await writeFileAtomic(path, `${JSON.stringify(manifest, null, 2)}\n`)
  return { manifest, manifestPath: path, cardPath }
}

/** The record of a check that passed. `engine` names the native side, such as `LibTorch 2.13.0 cpu`. */
export function parityRecord(result: ParityResult, images: string[], runtime: string, engine: string): ParityRecord {
  return {
    verified: true,
    reason: null,
    images,
    runtime: `onnxruntime-node ${runtime}`,
    engine,
    cpu: cpus()[0]?.model ?? null,
    matched: result.matched,
    worstScore: result.worstScore,
    worstBoxPixels: result.worstBoxPixels,
    worstBoxRatio: result.worstBoxRatio,
    borderline: result.borderline,
    tolerance: { ...TOLERANCE },
  }
}

/** The record of a check that was left out, with the reason. */
export function unverifiedRecord(reason: string): ParityRecord {
  return {
    verified: false,
    reason,
    images: [],
    runtime: null,
    engine: null,
    cpu: null,
    matched: 0,
    worstScore: 0,
    worstBoxPixels: 0,
    worstBoxRatio: 0,
    borderline: [],
    tolerance: { ...TOLERANCE },
  }
}

function describe(
  options: WriteModelOptions,
  graph: 'detect' | 'heads',
  shape: 'dynamic' | [number, number],
): ModelDescription {
  const { detector, classes, input } = options
  const { anchors, post, model } = detector
  const heads = model.levels.flatMap((level) => [`logits.p${level}`, `deltas.p${level}`])
  return {
    schema: MANIFEST_SCHEMA,
    name: options.name ?? 'mammo-retinanet',
    version: options.version ?? '1.0.0',
    graph,
    shape,
    ...(options.twoStep ? { boxHead: 'around candidates' as const } : {}),
    precision: options.variant?.precision ?? 'fp32',
    provenance: options.provenance,
    input: {
      name: 'image',
      layout: 'NCHW',
      channels: model.channels,
      padValue: 0,
      ...input,
    },
    output: {
      names: graph === 'heads' ? heads : ['boxes', 'scores', 'labels', 'imageIndex'],
      coordinates: 'x1, y1, x2, y2 in input pixels, pixel edges, exclusive maximum',
      scoreFloor: post.scoreThreshold,
      topkPerLevel: post.topkPerLevel,
      nmsIou: post.nmsIou,
      maxDetections: post.maxDetections,
    },
    anchors: {
      levels: model.levels,
      strides: anchors.strides,
      sizes: anchors.sizes,
      ratios: anchors.ratios,
      scales: anchors.scales,
      offset: anchors.offset,
    },
    classes: classes.map((name, index) => ({ index, name, codes: [] })),
    calibration: 'none',
    operatingPoints: options.operatingPoints ?? [],
    defaultThreshold: options.defaultThreshold ?? Math.max(0.05, post.scoreThreshold),
    pipeline: { tiling: 'whole image', testTimeAugmentation: 'none', merge: 'none' },
    intendedUse: options.intendedUse ?? INTENDED_USE,
  }
}

const TYPE_NAMES: Record<number, string> = { 1: 'float32', 4: 'uint16', 7: 'int64' }

function summary(value: ReturnType<typeof buildModel>['graph']['input'][number]) {
  const { elemType, shape } = value.type.tensorType
  const dims = shape.dim.map((dim) => ('dimValue' in dim ? String(dim.dimValue) : dim.dimParam))
  return { name: value.name, type: TYPE_NAMES[elemType]!, shape: `[${dims.join(', ')}]` }
}
