// Initial weights from local files: our own checkpoints, and .safetensors with torchvision's or our parameter names. Every tensor
// of the file and of the model is accounted for in the report. Nothing is downloaded, no pickle is executed.

import type { Session } from '../binding/session.js'
import type { LoadReport } from '../binding/types.js'
import { ConfigError, TrainingError } from '../errors.js'
import { fromTorchvision, mapParameters } from '../weights/names.js'
import { openSafetensors } from '../weights/safetensors.js'
import { CHECKPOINT_FORMAT, METADATA_KEY, sha256OfFile } from './checkpoints.js'

export interface InitReport extends LoadReport {
  source: string
  sha256: string
  /** Parameters of the model that the file does not give; they stay random. */
  missing: string[]
}

const STEM = 'backbone.conv1.weight'

/** Loads what fits. Throws ConfigError for another kind of file, TrainingError CHECKPOINT when it is damaged or nothing fits. */
export async function loadInitialWeights(session: Session, path: string): Promise<InitReport> {
  if (!path.endsWith('.safetensors')) {
    throw new ConfigError(
      [
        {
          key: 'model.weights',
          message: `${path}: expected a .safetensors file; .pth and .h5 files are not read by this version`,
        },
      ],
      { fix: 'convert the file: python -c "import torch,safetensors.torch as s; s.save_file(torch.load(IN), OUT)"' },
    )
  }
  const parameters = await session.parameters()
  const file = await openSafetensors(path)
  let report: LoadReport
  try {
    const own = file.metadata[METADATA_KEY]?.includes(CHECKPOINT_FORMAT) ?? false
    if (own) report = (await session.loadCheckpoint(path, 'weights')).report
    else {
      const ours = new Map(parameters.map((p) => [p.name, p.shape]))
      const names = mapParameters(file.tensors.keys(), (name) => ourName(name, ours))
      report = { loaded: [], skipped: Object.fromEntries(names.unused.map((n) => [n, 'no parameter of that name'])) }
      for (const [theirs, name] of names.mapped) {
        const tensor = await file.readFloat32(theirs)
        const data = fitted(name, tensor, ours.get(name))
        if (data === undefined) {
          report.skipped[theirs] = `shape [${tensor.shape}], the model's ${name} has [${ours.get(name) ?? 'none'}]`
        } else {
          await session.setTensor(name, data)
          report.loaded.push(name)
        }
      }
    }
  } finally {
    await file.close()
  }
  if (report.loaded.length === 0) {
    throw new TrainingError('CHECKPOINT', `expected weights of this model, got a file of which no tensor fits`, {
      where: path,
      fix: 'give weights of the same model.backbone',
    })
  }
  const loaded = new Set(report.loaded)
  const missing = parameters.map((p) => p.name).filter((name) => !loaded.has(name))
  return { ...report, source: path, sha256: await sha256OfFile(path), missing }
}

/** Our names pass; torchvision's detector names are mapped; a bare backbone's (`layer1.0.conv1.weight`) get their prefix. */
function ourName(name: string, ours: ReadonlyMap<string, number[]>): string | undefined {
  if (ours.has(name)) return name
  if (ours.has(`backbone.${name}`)) return `backbone.${name}`
  return fromTorchvision(name)
}

/** The values in the model's shape. Three equal grey channels fold into one exactly: the kernels add. */
function fitted(
  name: string,
  { shape, data }: { shape: number[]; data: Float32Array },
  wanted: number[] | undefined,
): Float32Array | undefined {
  if (wanted === undefined) return undefined
  if (String(shape) === String(wanted)) return data
  const [out, channels, height, width] = shape
  if (name !== STEM || channels !== 3 || String([out, 1, height, width]) !== String(wanted)) return undefined
  const area = height! * width!
  const folded = new Float32Array(out! * area)
  for (let o = 0; o < out!; o++) {
    for (let i = 0; i < area; i++) {
      const at = o * 3 * area + i
      folded[o * area + i] = data[at]! + data[at + area]! + data[at + 2 * area]!
    }
  }
  return folded
}
