// `export --format safetensors`: the parameters of a checkpoint under torchvision's names, for its RetinaNet built with the same backbone,
// levels and heads. Needs no engine: names change, numbers do not. Optimiser states and the rest of the checkpoint stay behind.
import { stat } from 'node:fs/promises'
import type { Config } from '../config/schema.js'
import { ExportError } from '../errors.js'
import { type CheckpointMetadata, sha256OfFile } from '../train/checkpoints.js'
import { toTorchvision } from '../weights/names.js'
import { openSafetensors, type Tensor, writeSafetensors } from '../weights/safetensors.js'
import { findCheckpoint } from './checkpoint.js'
import { besideCheckpoint } from './export.js'

export interface ExportedWeights {
  path: string
  sha256: string
  bytes: number
  checkpoint: string
  tensors: number
  /** Numbers in them, running statistics included. */
  parameters: number
  /** In the order of torchvision's labels, which begin at 0 here: there is no background column. */
  classes: string[]
  /** Where torchvision's own rules give other detections from these weights. */
  notes: string[]
}

/**
 * Writes the weights of `target` (run folder or checkpoint); with `heads` false, those of backbone and pyramid alone, for a run whose heads start
 * anew. Throws ExportError when a parameter has no name in torchvision.
 */
export async function exportWeights(target: string, out?: string, heads = true): Promise<ExportedWeights> {
  const { path: checkpoint, metadata } = await findCheckpoint(target)
  const path = out ?? besideCheckpoint(checkpoint, 'model.safetensors')
  const tensors = new Map<string, Tensor>()
  const file = await openSafetensors(checkpoint)
  try {
    for (const name of file.tensors.keys()) {
      if (!/^(backbone|fpn|head)\./.test(name) || (!heads && name.startsWith('head.'))) continue
      const theirs = toTorchvision(name, metadata.config.model.levels[0])
      if (theirs === undefined) {
        throw new ExportError('CHECK_FAILED', `expected a name of torchvision for "${name}", there is none`, {
          where: checkpoint,
          fix: 'export an ONNX model instead',
        })
      }
      tensors.set(theirs, await file.read(name))
      // torchvision's batch norm counts its batches; loading strictly asks for the number.
      if (theirs.endsWith('.running_var')) {
        const counter = theirs.replace(/running_var$/, 'num_batches_tracked')
        tensors.set(counter, { shape: [], data: BigInt64Array.of(0n) })
      }
    }
  } finally {
    await file.close()
  }
  const { config, run } = metadata
  const notes = differences(config)
  await writeSafetensors(path, tensors, {
    format: 'pt',
    'mammo-retinanet': JSON.stringify({ run, classes: config.data.classes, ...facts(metadata), notes }),
  })
  return {
    path,
    sha256: await sha256OfFile(path),
    bytes: (await stat(path)).size,
    checkpoint,
    tensors: tensors.size,
    parameters: [...tensors.values()].reduce((sum, { data }) => sum + data.length, 0),
    classes: config.data.classes,
    notes,
  }
}

/** What a program needs beside the weights to build the same detector. */
function facts({ config, provenance }: CheckpointMetadata) {
  const { semantics, backbone, levels, norm, normEps, p6Source, headNorm, fpnChannels } = config.model
  return {
    model: {
      semantics,
      backbone,
      levels,
      norm,
      normEps,
      p6Source,
      headNorm,
      fpnChannels,
      channels: config.input.channels,
    },
    anchors: config.anchors,
    normalise: provenance.normalise,
  }
}

function differences({ model, input }: Config): string[] {
  const notes: string[] = []
  if (!model.semantics.startsWith('torchvision')) {
    notes.push(
      `model.semantics is ${model.semantics}: torchvision needs the same anchors and box code to give the same detections (both are in the header)`,
    )
  }
  if (input.channels === 1) notes.push('the first convolution has one input channel')
  if (model.norm === 'group')
    notes.push('the backbone has group norm: build it with norm_layer = GroupNorm of 32 groups')
  if (model.strideIn1x1 || model.padding === 'tf') {
    notes.push('bottleneck strides or padding are those of Keras, which torchvision cannot be told')
  }
  return notes
}
