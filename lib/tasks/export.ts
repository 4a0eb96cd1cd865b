// `export`: a checkpoint becomes an ONNX model with manifest and card, after the native engine and onnxruntime (in a child
// process) agreed on the same images. When they do not agree, nothing is written and an older model of that name stays.
import { existsSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { diskError } from '../atomic-write.js'
import { native, type Session } from '../binding/session.js'
import type { DetectorConfig, ImageBatch } from '../binding/types.js'
import { detectorConfig, padMultiple } from '../config/detector.js'
import { phasesOf } from '../config/phases.js'
import { presets } from '../config/presets.js'
import { openPrepared, openReader } from '../data/prepared.js'
import { DeviceError, UsageError } from '../errors.js'
import {
  type ExportResult,
  type ManifestResult,
  parityRecord,
  placeModel,
  unverifiedRecord,
  type WriteModelOptions,
  writeManifest,
  writeModel,
} from '../onnx/export.js'
import { deviceUid, type ModelInput } from '../onnx/manifest.js'
import {
  compareDetections,
  mergeParity,
  type ParityResult,
  requireParity,
  runOnnx,
  splitDetections,
} from '../onnx/parity.js'
import type { Tensor } from '../onnx/runtime.js'
import { randomStream } from '../random.js'
import { type CheckpointMetadata, sha256OfFile } from '../train/checkpoints.js'
import { findCheckpoint, openCheckpointSession } from './checkpoint.js'
import { exportVariants, type Variant, type VariantOptions, type VariantResult } from './export-variants.js'

export interface ExportOptions {
  /** Path of the .onnx file; default `export/model.onnx` in the run folder, or beside the checkpoint. */
  out?: string
  /** `dynamic` or `HxW`. */
  shape?: string
  graph?: 'detect' | 'heads'
  /** The box head runs only around the best anchors: the same boxes, faster where few are above the floor. */
  twoStep?: boolean
  /** `default`: a batch of crops and an empty image; `full`: at least 20 crops more; `none`: unverified, and recorded so. */
  verify?: 'default' | 'full' | 'none'
  /** Variants beside the fp32 model, measured on the validation images; `export.precision` of the configuration by default. */
  precision?: readonly ('fp32' | Variant)[]
  /** For int8. */
  calibration?: Pick<VariantOptions, 'calibrationImages' | 'percentile' | 'weightBits'>
  /** Largest accepted loss of AP50 or of a reported sensitivity by a variant. */
  maxDrop?: number
  /** Prepared data for parity, calibration and measurement; default: that of the training. */
  data?: string
  /** Licence of the training data, for the record. */
  licence?: string
  threads: number
  log?: (line: string) => void
}

export interface ExportOutcome extends ManifestResult {
  model: ExportResult
  parity: ParityResult | null
  variants: VariantResult[]
}

/** Exports `target` (run folder or checkpoint). Rejects with ExportError ONNX_MISMATCH when the check fails. */
export async function exportOnnx(target: string, options: ExportOptions): Promise<ExportOutcome> {
  const log = options.log ?? (() => {})
  const checkpoint = await findCheckpoint(target)
  const { metadata, path } = checkpoint
  const { config } = metadata
  if (options.data !== undefined) config.data.root = resolve(options.data)
  const variants = (options.precision ?? config.export.precision).filter((p): p is Variant => p !== 'fp32')
  if (variants.length > 0 && options.graph === 'heads') {
    throw new UsageError('ARGUMENT', 'expected the graph "detect" for fp16 and int8, got "heads"', {
      fix: 'leave out --graph heads: a variant is measured by its detections',
    })
  }
  if (options.twoStep && options.graph === 'heads') {
    throw new UsageError('ARGUMENT', 'expected the graph "detect" for two steps, got "heads"', {
      fix: 'leave out --graph heads: it has no candidates to run the box head around',
    })
  }
  const out = options.out ?? besideCheckpoint(path, 'model.onnx')
  const shape = parseShape(options.shape ?? config.export.shape, padMultiple(config))
  const detector = detectorConfig(config)
  detector.post.scoreThreshold = config.export.scoreFloor
  const { threads } = await native().configure(options.threads)
  const session = await openCheckpointSession(checkpoint, (c) => {
    c.run.device = 'cpu'
    c.run.precision = 'fp32'
    c.predict.scoreThreshold = config.export.scoreFloor
  })
  // Until the check has passed, an older model of that name stays what it is.
  const unchecked = join(dirname(out), `.${basename(out)}.${process.pid}.unchecked`)
  try {
    log(`writing ${out}`)
    const write: WriteModelOptions = {
      detector,
      backbone: await native().describeBackbone(detector.model),
      parameters: await allTensors(session),
      input: inputContract(metadata),
      classes: config.data.classes,
      provenance: await provenanceOf(metadata, path, options.licence ?? null),
      out: unchecked,
      graph: options.graph ?? 'detect',
      twoStep: options.twoStep ?? false,
      shape,
      defaultThreshold: config.predict.scoreThreshold,
    }
    // The user knows the model by its own name.
    const written = await writeModel(write).catch((error) => {
      throw error instanceof DeviceError && error.where === unchecked ? diskError(error.cause, out) : error
    })
    const withVariants = async (model: ExportResult, placed: ManifestResult) =>
      variants.length === 0
        ? []
        : exportVariants(model, placed.manifest, write, config, {
            ...{ ...options.calibration, variants, threads, log },
            ...(options.maxDrop === undefined ? {} : { maxDrop: options.maxDrop }),
          })
    if (options.verify === 'none' || options.graph === 'heads') {
      const reason =
        options.graph === 'heads' ? 'the heads graph has no detections to compare' : 'switched off by the user'
      const model = await placeModel(written, out)
      const placed = await writeManifest(model, unverifiedRecord(reason))
      return { model, parity: null, ...placed, variants: await withVariants(model, placed) }
    }
    log('comparing with the native engine')
    const images = await parityImages(metadata, shape, options.verify === 'full')
    const { parity, runtime } = await compare(session, unchecked, detector, metadata, images, threads)
    requireParity(parity, out)
    const record = parityRecord(
      parity,
      images.map((i) => i.name),
      runtime,
      `LibTorch ${native().buildInfo().libtorch}`,
    )
    const model = await placeModel(written, out)
    const placed = await writeManifest(model, record)
    return { model, parity, ...placed, variants: await withVariants(model, placed) }
  } finally {
    await rm(unchecked, { force: true })
    await session.dispose()
  }
}

/** Grey levels of one canvas of the check. */
interface ParityImage {
  name: string
  pixels: Uint16Array
  height: number
  width: number
}

/** Runs both sides on each image; two crops of one size travel as a batch. */
async function compare(
  session: Session,
  model: string,
  detector: DetectorConfig,
  metadata: CheckpointMetadata,
  images: readonly ParityImage[],
  threads: number,
): Promise<{ parity: ParityResult; runtime: string }> {
  const groups = [images.slice(0, 2), ...images.slice(2).map((image) => [image])].filter((group) => group.length > 0)
  const { mean, std, kind } = metadata.provenance.normalise
  const inGraph = normalisesInGraph(metadata)
  const { type } = inputContract(metadata)
  const feeds: Record<string, Tensor>[] = []
  const expected: ParityResult[] = []
  const batches: { batch: ImageBatch; index: number }[] = []
  const native: { boxes: Float32Array; scores: Float32Array; labels: Int32Array }[] = []
  for (const group of groups) {
    const { height, width } = group[0]!
    const pixels = new Uint16Array(group.length * height * width)
    for (const [i, image] of group.entries()) pixels.set(image.pixels, i * height * width)
    const statistics = group.map((image) => (kind === 'image' ? imageStatistics(image.pixels) : [mean, std]))
    const batch: ImageBatch = {
      canvas: [height, width],
      sizes: Int32Array.from(group.flatMap(() => [height, width])),
      windows: {
        pixels,
        shapes: Int32Array.from(group.flatMap(() => [height, width])),
        affines: Float64Array.from(group.flatMap(() => [1, 0, 0, 0, 1, 0])),
        reduce: new Int32Array(group.length),
        normalise: Float32Array.from(statistics.flat()),
        intensity: Float32Array.from(group.flatMap(() => [1, 0, 1, 0])),
        noiseSeed: new Uint32Array(group.length),
      },
    }
    const found = await session.detect(batch)
    for (let i = 0; i < group.length; i++) batches.push({ batch, index: i })
    for (let i = 0; i < group.length; i++) {
      const [from, to] = [found.offsets[i]!, found.offsets[i + 1]!]
      native.push({
        boxes: found.boxes.slice(4 * from, 4 * to),
        scores: found.scores.slice(from, to),
        labels: found.labels.slice(from, to),
      })
    }
    feeds.push({
      image: inGraph
        ? { dims: [group.length, 1, height, width], data: type === 'uint16' ? pixels : Float32Array.from(pixels) }
        : { dims: [group.length, detector.model.channels, height, width], data: await session.preprocess(batch) },
      imageSize: {
        dims: [group.length, 2],
        data: BigInt64Array.from(group.flatMap(() => [BigInt(height), BigInt(width)])),
      },
    })
  }
  const { outputs, runtime } = await runOnnx(model, feeds, threads)
  const candidates = outputs.flatMap((output, i) => splitDetections(output, groups[i]!.length))
  const cuts = {
    scoreThreshold: detector.post.scoreThreshold,
    nmsIou: detector.post.nmsIou,
    maxDetections: detector.post.maxDetections,
    agnostic: detector.post.agnostic,
    topkPerLevel: detector.post.topkPerLevel,
  }
  for (const [i, reference] of native.entries()) {
    const plain = compareDetections(reference, candidates[i]!, cuts)
    // Only equal scores need the boxes before NMS: which of them it keeps is free.
    expected.push(
      plain.ok
        ? plain
        : compareDetections(reference, candidates[i]!, cuts, await beforeNms(session, detector, batches[i]!)),
    )
  }
  return { parity: mergeParity(expected.map((result, i) => ({ image: images[i]!.name, result }))), runtime }
}

/** All boxes above the score floor, nothing suppressed, no limit per level. */
async function beforeNms(
  session: Session,
  detector: DetectorConfig,
  { batch, index }: { batch: ImageBatch; index: number },
) {
  await session.update({ post: { ...detector.post, topkPerLevel: null, nmsIou: 1, maxDetections: 1_000_000 } })
  const { boxes, scores, labels, offsets } = await session.detect(batch)
  await session.update({ post: detector.post })
  const [from, to] = [offsets[index]!, offsets[index + 1]!]
  return { boxes: boxes.slice(4 * from, 4 * to), scores: scores.slice(from, to), labels: labels.slice(from, to) }
}

/** Crops of the training data where it is at hand, otherwise textures with its statistics; always an empty image. */
async function parityImages(
  metadata: CheckpointMetadata,
  shape: 'dynamic' | [number, number],
  full: boolean,
): Promise<ParityImage[]> {
  const multiple = padMultiple(metadata.config)
  const side = Math.max(multiple, Math.floor(512 / multiple) * multiple)
  const [height, width] = shape === 'dynamic' ? [side, side] : shape
  const count = full ? 22 : 2
  const root = metadata.config.data.root
  const images =
    root !== null && existsSync(join(root, 'prepared.json')) ? await realCrops(root, count, height, width) : []
  for (let i = images.length; i < count; i++) images.push(texture(metadata, i, height, width))
  images.push({ name: 'empty image', pixels: new Uint16Array(height * width), height, width })
  return images
}

async function realCrops(root: string, count: number, height: number, width: number): Promise<ParityImage[]> {
  const set = await openPrepared(root)
  const reader = openReader(set)
  try {
    const images: ParityImage[] = []
    const withLesions = [...set.records].sort((a, b) => Number(b.lesions.length > 0) - Number(a.lesions.length > 0))
    for (const record of withLesions.slice(0, count)) {
      const [x1, y1, x2, y2] = record.cache.crop
      const [w, h] = [Math.min(width, x2 - x1), Math.min(height, y2 - y1)]
      const box = record.lesions[0]?.box ?? [x1, y1, x2, y2]
      const start = (centre: number, low: number, high: number, size: number) =>
        Math.round(Math.min(Math.max(centre - low - size / 2, 0), high - low - size))
      const left = start((box[0] + box[2]) / 2, x1, x2, w)
      const top = start((box[1] + box[3]) / 2, y1, y2, h)
      const crop = new Uint16Array(w * h)
      await reader.read(record.id, [left, top, left + w, top + h], crop)
      const pixels = new Uint16Array(height * width)
      for (let y = 0; y < h; y++) pixels.set(crop.subarray(y * w, (y + 1) * w), y * width)
      images.push({ name: `${record.id} at ${x1 + left},${y1 + top}`, pixels, height, width })
    }
    return images
  } finally {
    await reader.close()
  }
}

/** A smooth random field around the training mean: no anatomy, but values and gradients of the right size. */
function texture({ provenance }: CheckpointMetadata, index: number, height: number, width: number): ParityImage {
  const { mean, std } = provenance.normalise
  const random = randomStream(index, 'export-texture')
  const waves = Array.from({ length: 24 }, () => ({
    fx: random.uniform(-0.2, 0.2),
    fy: random.uniform(-0.2, 0.2),
    phase: random.uniform(0, 6.3),
    size: random.normal() * 0.4,
  }))
  const pixels = new Uint16Array(height * width)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = waves.reduce((sum, w) => sum + w.size * Math.sin(w.fx * x + w.fy * y + w.phase), 0)
      pixels[y * width + x] = Math.max(1, Math.min(65535, Math.round(mean + std * value)))
    }
  }
  return { name: `texture ${index}`, pixels, height, width }
}

/** Mean and population standard deviation over non-zero pixels; 0 and 1 for an empty image, as in the graph. */
function imageStatistics(pixels: Uint16Array): [number, number] {
  let n = 0
  let sum = 0
  for (const value of pixels) {
    if (value > 0) n++
    sum += value
  }
  if (n === 0) return [0, 1]
  const mean = sum / n
  let squares = 0
  for (const value of pixels) if (value > 0) squares += (value - mean) ** 2
  const std = Math.sqrt(squares / n)
  return [mean, std > 0 ? std : 1]
}

async function allTensors(session: Session): Promise<Map<string, { shape: number[]; data: Float32Array }>> {
  const tensors = new Map<string, { shape: number[]; data: Float32Array }>()
  for (const { name } of await session.parameters()) tensors.set(name, await session.getTensor(name))
  return tensors
}

/** What a predictor must do before the network: the rules of the training's last phase. */
function inputContract(metadata: CheckpointMetadata): Parameters<typeof writeModel>[0]['input'] {
  const { config, provenance } = metadata
  const resized = phasesOf(config).at(-1)!.strategy === 'resized'
  const { resize } = config.data
  const spacing = provenance.spacingMm
  const rule: ModelInput['resize']['rule'] = resized ? resize.rule : 'none'
  const { kind } = provenance.normalise
  return {
    // Resampled pixels are no whole grey levels: uint16 would round them.
    type: normalisesInGraph(metadata) && rule === 'none' ? 'uint16' : 'float32',
    padMultiple: padMultiple(config),
    crop: { enabled: config.predict.crop ?? provenance.crop, algorithm: 'breast@1', margin: config.predict.cropMargin },
    intensity: 'stored values after modality transform, MONOCHROME1 inverted, padding 0, as uint16',
    normalise: kind,
    mean: [provenance.normalise.mean],
    std: [provenance.normalise.std],
    normalisedInGraph: normalisesInGraph(metadata),
    resize: {
      rule,
      minSide: resize.minSide,
      maxSide: resize.maxSide,
      spacingMm: resize.spacingMm,
      antialias: config.data.antialias,
    },
    trainingSpacingMm: spacing === null ? null : spacing[0],
    spacingRule: config.predict.spacing,
    spacingTolerance: config.predict.spacingTolerance,
    presentationIntents: ['FOR PRESENTATION'],
  }
}

/** Statistics of an image are those of its original pixels; a graph that gets the resampled image cannot take them. */
function normalisesInGraph({ config, provenance }: CheckpointMetadata): boolean {
  const resampled = phasesOf(config).at(-1)!.strategy === 'resized' && config.data.resize.rule !== 'none'
  return config.export.normalise && !(provenance.normalise.kind === 'image' && resampled)
}

async function provenanceOf(
  metadata: CheckpointMetadata,
  path: string,
  licence: string | null,
): Promise<Parameters<typeof writeModel>[0]['provenance']> {
  const checkpointSha256 = await sha256OfFile(path)
  const { dataset, tool, commit } = metadata.provenance
  return {
    run: metadata.run,
    preset: await presetOf(path),
    semantics: metadata.config.model.semantics,
    toolVersion: tool,
    commit,
    checkpointSha256,
    dataset: { adapter: dataset.adapter, hash: dataset.hash, licence },
    deviceUID: deviceUid(checkpointSha256),
  }
}

/** The preset that the run was started with, from its record beside the checkpoints; null when none was named or there is no record. */
async function presetOf(checkpoint: string): Promise<string | null> {
  const text = await readFile(join(dirname(checkpoint), '..', 'run.json'), 'utf8').catch(() => '{}')
  const { argv = [] } = JSON.parse(text) as { argv?: string[] }
  return argv.find((word) => Object.hasOwn(presets, word)) ?? null
}

/** Default place of an exported file: `export/` of the run folder, or beside a checkpoint that lies elsewhere. */
export function besideCheckpoint(checkpoint: string, name: string): string {
  const folder = join(checkpoint, '..')
  return basename(folder) === 'checkpoints' ? join(folder, '..', 'export', name) : join(folder, name)
}

function parseShape(text: string, multiple: number): 'dynamic' | [number, number] {
  if (text === 'dynamic') return 'dynamic'
  const match = /^(\d+)x(\d+)$/.exec(text)
  const size: [number, number] = [Number(match?.[1]), Number(match?.[2])]
  if (match === null || size.some((side) => side % multiple !== 0)) {
    throw new UsageError('ARGUMENT', `expected --shape dynamic or HxW with multiples of ${multiple}, got "${text}"`, {
      fix: `write height x width, such as ${8 * multiple}x${6 * multiple}`,
    })
  }
  return size
}
