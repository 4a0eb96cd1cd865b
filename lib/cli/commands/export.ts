// `export`: a checkpoint as an ONNX model, or its weights with torchvision's names.
import { Option } from 'commander'
import { chooseThreads, readMachine } from '../../machine.js'
import type { CommandFile } from '../command.js'

export const exportCommand: CommandFile = {
  name: 'export',
  summary: 'write a checkpoint as an ONNX model, checked against the native engine, or its weights for torchvision',
  examples: [
    'export runs/train/cbis-resized-1 --shape 4096x3328 --out film.onnx',
    'export runs/train/cbis-resized-1 --format safetensors',
  ],
  declare: (command) => {
    command
      .argument('<run>', 'run folder or checkpoint')
      .option('--out <file>', 'file to write; default export/model.onnx or export/model.safetensors in the run folder')
      .addOption(
        new Option('--format <kind>', 'ONNX model, or weights with the names of torchvision')
          .choices(['onnx', 'safetensors'])
          .default('onnx'),
      )
      .option('--shape <shape>', 'dynamic, or HxW in multiples of the coarsest stride')
      .addOption(
        new Option('--graph <kind>', 'final boxes, or raw head outputs').choices(['detect', 'heads']).default('detect'),
      )
      .addOption(
        new Option('--verify <level>', 'images compared with the engine')
          .choices(['default', 'full'])
          .default('default'),
      )
      .option('--no-verify', 'write an unverified model, and say so in its record')
  },
  async run(io, global, options, [target]) {
    const log = (line: string) => {
      if (!global.quiet) io.stderr(`${line}\n`)
    }
    if (options['format'] === 'safetensors') {
      const { exportWeights } = await import('../../tasks/export-weights.js')
      const written = await exportWeights(target!, options['out'] as string | undefined)
      io.stdout(
        global.json
          ? `${JSON.stringify(written, null, 2)}\n`
          : [
              `${written.path}  ${(written.bytes / 2 ** 20).toFixed(1)} MiB  ${written.tensors} tensors, ${written.parameters} parameters`,
              `  sha256   ${written.sha256}`,
              `  from     ${written.checkpoint}`,
              `  classes  ${written.classes.map((name, i) => `${i} ${name}`).join(', ')}`,
              ...written.notes.map((note) => `  note     ${note}`),
              '',
            ].join('\n'),
      )
      return 0
    }
    const { ensureAddon } = await import('../../tasks/build.js')
    const { exportOnnx } = await import('../../tasks/export.js')
    await ensureAddon({ allowed: global.build, log })
    const { out, shape, graph, verify } = options as {
      out?: string
      shape?: string
      graph: 'detect' | 'heads'
      verify: 'default' | 'full' | false
    }
    const outcome = await exportOnnx(target!, {
      ...(out === undefined ? {} : { out }),
      ...(shape === undefined ? {} : { shape }),
      graph,
      verify: verify === false ? 'none' : verify,
      threads: chooseThreads(readMachine()).intraOp,
      log,
    })
    const { model, manifest, parity } = outcome
    if (global.json) {
      io.stdout(`${JSON.stringify({ path: model.path, sha256: model.sha256, manifest }, null, 2)}\n`)
      return 0
    }
    const tensors = (list: typeof model.inputs) => list.map((x) => `${x.name} ${x.type} ${x.shape}`).join(', ')
    io.stdout(
      [
        `${model.path}  ${(model.bytes / 2 ** 20).toFixed(1)} MiB  opset ${model.opset}`,
        `  sha256   ${model.sha256}`,
        `  inputs   ${tensors(model.inputs)}`,
        `  outputs  ${tensors(model.outputs)}`,
        parity === null
          ? `  parity   not verified: ${manifest.parity.reason}`
          : `  parity   ${parity.matched} detections on ${manifest.parity.images.length} images agree: scores within ${parity.worstScore.toExponential(1)}, boxes within ${parity.worstBoxPixels.toFixed(4)} px, ${parity.borderline.length} borderline`,
        ...(parity?.borderline ?? []).map((text) => `           ${text}`),
        `  manifest ${outcome.manifestPath}`,
        '',
      ].join('\n'),
    )
    return 0
  },
}
