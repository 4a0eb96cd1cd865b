// Initial weights from local files: our own checkpoints, .safetensors, PyTorch's .pth and Keras' .h5. Every tensor of the file and of
// the model is accounted for in the report. Nothing is downloaded and nothing of a file is run. What goes where is decided in
// lib/weights/import.ts; here the numbers are moved.
import { resolve } from 'node:path'
import type { Session } from '../binding/session.js'
import { describePlan, type ImportModel, type ImportPlan, type LeftOut, planImport } from '../weights/import.js'
import { openWeightFile, type WeightFile } from '../weights/weight-file.js'
import { CHECKPOINT_FORMAT, type CheckpointMetadata, METADATA_KEY, sha256OfFile } from './checkpoints.js'

/** init.json of a run folder. */
export interface InitReport {
  source: string
  sha256: string
  format: WeightFile['format']
  layout: ImportPlan['layout']
  /** Parameter of the model, tensors of the file that give it, what was done on the way. */
  loaded: { parameter: string; from: string[]; how: string[] }[]
  skipped: LeftOut[]
  /** Parameters that keep their initial values. */
  initial: LeftOut[]
  hints: string[]
}

export interface InitialWeights {
  report: InitReport
  /** The report as a table for people. */
  lines: string[]
}

/**
 * Fills the session's model from a file. Throws TrainingError CHECKPOINT when the file is missing, damaged, unsafe, or of another model;
 * the model is untouched then unless reading failed half-way.
 */
export async function loadInitialWeights(
  session: Session,
  path: string,
  model: Omit<ImportModel, 'parameters'>,
): Promise<InitialWeights> {
  const file = await openWeightFile(path)
  try {
    const parameters = await session.parameters()
    const contents = { ...file, classes: classesOf(file) }
    const plan = planImport(contents, { ...model, parameters }, path)
    for (const { to, from, convert, keepsOwn } of plan.tensors) {
      const parts = []
      for (const name of from) parts.push(await file.read(name))
      const own = keepsOwn ? await session.getTensor(to) : undefined
      await session.setTensor(to, convert(parts, own).data)
    }
    const report: InitReport = {
      source: resolve(path),
      sha256: await sha256OfFile(path),
      format: file.format,
      layout: plan.layout,
      loaded: plan.tensors.map(({ to, from, how }) => ({ parameter: to, from, how })),
      skipped: plan.skipped,
      initial: plan.initial,
      hints: plan.hints,
    }
    return { report, lines: describePlan(plan, parameters.length) }
  } finally {
    await file.close()
  }
}

/** What the columns of our own checkpoint's classification layer mean. */
function classesOf({ metadata }: WeightFile): string[] | null {
  try {
    const own = JSON.parse(metadata[METADATA_KEY] ?? '') as CheckpointMetadata
    return own.format === CHECKPOINT_FORMAT ? own.provenance.classes : null
  } catch {
    return null
  }
}
