// `info`: what a file is and where it came from. Checkpoints, runs, ONNX models, presets and images; needs no addon.
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { loadConfig } from '../config/load.js'
import { presets } from '../config/presets.js'
import { readImage } from '../data/image.js'
import { UsageError } from '../errors.js'
import { type GraphTable, readGraphTable } from '../onnx/graph-table.js'
import { type ModelManifest, readManifest } from '../onnx/manifest.js'
import { readCheckpointMetadata } from '../train/checkpoints.js'
import { readRunRecord } from '../train/run-folder.js'
import { openSafetensors } from '../weights/safetensors.js'

export interface Info {
  kind: 'run' | 'checkpoint' | 'onnx' | 'image' | 'preset'
  /** Label and value, in the order to show. */
  facts: [string, string][]
  /** The whole record. */
  record: unknown
}

/** Describes `target`. Throws UsageError ARGUMENT for what it does not know, and the reader's errors for damaged files. */
export async function describeTarget(target: string): Promise<Info> {
  const info = await stat(target).catch(() => undefined)
  const isRun = existsSync(join(target, 'run.json'))
  // A folder that happens to have a preset's name, as demo/ of this repository, does not hide the preset.
  if (presets[target] !== undefined && (info === undefined || (info.isDirectory() && !isRun)))
    return describePreset(target)
  if (info === undefined) {
    throw new UsageError(
      'ARGUMENT',
      `expected a file, a run folder or a preset (${Object.keys(presets).join(', ')}), got "${target}"`,
      { fix: 'check the path or the name' },
    )
  }
  if (info.isDirectory()) return describeRun(target)
  const extension = extname(target).toLowerCase()
  if (extension === '.safetensors') return describeCheckpoint(target)
  if (extension === '.onnx') return describeOnnx(target)
  return describeImage(target)
}

/** The whole manifest of an ONNX model. Throws as `readManifest` does. */
export function describeManifest(target: string): Promise<ModelManifest> {
  return readManifest(target)
}

/** The nodes of an ONNX model. Throws UsageError ARGUMENT for what is no .onnx file, DataError MODEL_MANIFEST for one that cannot be read. */
export async function describeGraph(target: string): Promise<GraphTable> {
  if (extname(target).toLowerCase() !== '.onnx' || !(await stat(target).catch(() => undefined))?.isFile()) {
    throw new UsageError('ARGUMENT', `--graph: expected an ONNX model, got "${target}"`, {
      fix: 'give the .onnx file that `mammo-retinanet export` wrote',
    })
  }
  return readGraphTable(target)
}

async function describePreset(name: string): Promise<Info> {
  const { config } = await loadConfig({ preset: name })
  return {
    kind: 'preset',
    facts: [
      ['about', presets[name]!.about],
      ['backbone', config.model.backbone],
      ['levels', `P${config.model.levels.join(', P')}`],
    ],
    record: config,
  }
}

async function describeRun(folder: string): Promise<Info> {
  if (!existsSync(join(folder, 'run.json'))) {
    throw new UsageError('ARGUMENT', 'expected a run folder with run.json, found none', {
      where: folder,
      fix: 'give the folder that `train` printed, such as runs/train/NAME-1',
    })
  }
  const record = await readRunRecord(folder)
  const best = record.best
  return {
    kind: 'run',
    facts: [
      ['run', record.id],
      ['status', record.status],
      ['started', record.startedAt],
      ['best', best === null || best === undefined ? 'none yet' : JSON.stringify(best)],
      ['dataset', JSON.stringify(record.dataset)],
    ],
    record,
  }
}

async function describeCheckpoint(path: string): Promise<Info> {
  const file = await openSafetensors(path)
  const tensors = [...file.tensors.entries()]
  await file.close()
  const count = (wanted: (name: string) => boolean) =>
    tensors.filter(([name]) => wanted(name)).reduce((sum, [, t]) => sum + t.shape.reduce((a, b) => a * b, 1), 0)
  const metadata = await readCheckpointMetadata(path)
  const { config, state, provenance } = metadata
  const isParameter = (name: string) => /^(backbone|fpn|head)\./.test(name)
  return {
    kind: 'checkpoint',
    facts: [
      ['run', metadata.run],
      [
        'model',
        `${config.model.backbone}, P${config.model.levels.join(', P')}, semantics ${config.model.semantics}, classes ${config.data.classes.join(', ')}`,
      ],
      ['parameters', `${count(isParameter).toLocaleString('en')} (${tensors.length} tensors in the file)`],
      ['trained', `${state.step} updates, ${state.epochsDone} epochs`],
      [
        'best',
        state.best === null
          ? 'not evaluated'
          : `${state.best.metric} ${state.best.value.toFixed(4)} at epoch ${state.best.epoch}`,
      ],
      ['data', `${provenance.dataset.adapter}, hash ${provenance.dataset.hash.slice(0, 16)}`],
      [
        'input',
        `${provenance.normalise.kind} mean ${provenance.normalise.mean.toFixed(2)}, std ${provenance.normalise.std.toFixed(2)}`,
      ],
    ],
    record: metadata,
  }
}

async function describeOnnx(path: string): Promise<Info> {
  const manifest = await readManifest(path)
  const { file, input, parity, provenance } = manifest
  return {
    kind: 'onnx',
    facts: [
      ['model', `${manifest.name} ${manifest.version}, ${manifest.graph}, ${manifest.precision}`],
      ['file', `${(file.bytes / 2 ** 20).toFixed(1)} MiB, opset ${file.opset}, sha256 ${file.sha256}`],
      [
        'input',
        `${input.type}, multiples of ${input.padMultiple}, ${input.normalise} normalisation${input.normalisedInGraph ? ' in the graph' : ' by the caller'}`,
      ],
      ['parity', parity.verified ? `verified on ${parity.images.length} images` : `not verified: ${parity.reason}`],
      ['trained', `run ${provenance.run ?? 'unknown'}, data ${provenance.dataset?.adapter ?? 'unknown'}`],
    ],
    record: manifest,
  }
}

async function describeImage(path: string): Promise<Info> {
  // Looking is not predicting: what an image may be used for is decided elsewhere.
  const { pixels, ...rest } = await readImage(path, { assumeMammogram: true, allowForProcessing: true })
  const record = rest as Record<string, unknown>
  return {
    kind: 'image',
    facts: Object.entries(record).map(([k, v]) => [k, typeof v === 'string' ? v : JSON.stringify(v)]),
    record,
  }
}
