// `export`: a checkpoint as an ONNX model, or its weights with torchvision's names.
import { Option } from 'commander'
import { UsageError } from '../../errors.js'
import { chooseThreads, readMachine } from '../../machine.js'
import type { ExportOutcome } from '../../tasks/export.js'
import { type CommandFile, integerFrom, numberOption } from '../command.js'
import { textTable } from '../text-table.js'

interface ExportFlags {
  out?: string
  shape?: string
  graph: 'detect' | 'heads'
  twoStep?: boolean
  verify: 'default' | 'full' | false
  precision?: string
  data?: string
  calibrationImages: number
  percentile: number
  weightBits: number
  maxDrop: number
  licence?: string
}

const PRECISIONS = ['fp32', 'fp16', 'int8'] as const
type Precision = (typeof PRECISIONS)[number]

function precisionList(text: string): Precision[] {
  const list = text.split(',')
  if (list.every((name) => PRECISIONS.includes(name as Precision))) return list as Precision[]
  throw new UsageError('ARGUMENT', `--precision: expected some of ${PRECISIONS.join(', ')}, got "${text}"`, {
    fix: 'list them with commas, such as --precision fp32,int8',
  })
}

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
      .argument('[shapes...]', 'with --shape: further shapes')
      .option('--out <file>', 'file to write; default export/model.onnx or export/model.safetensors in the run folder')
      .addOption(
        new Option('--format <kind>', 'ONNX model, or weights with the names of torchvision')
          .choices(['onnx', 'safetensors'])
          .default('onnx'),
      )
      .option(
        '--shape <shapes>',
        'dynamic, or HxW in multiples of the coarsest stride; several, with commas or spaces, give a file each',
      )
      .addOption(
        new Option('--graph <kind>', 'final boxes, or raw head outputs').choices(['detect', 'heads']).default('detect'),
      )
      .option(
        '--two-step',
        'run the box head only around the best anchors: the same boxes, faster when few pass the floor',
      )
      .addOption(
        new Option('--verify <level>', 'images compared with the engine')
          .choices(['default', 'full'])
          .default('default'),
      )
      .option('--precision <list>', 'fp32 and variants of it, measured on validation images: fp16, int8')
      .option('--data <dir>', "prepared data; default: the training's")
      .addOption(
        new Option(
          '--calibration <split>',
          'int8: part whose images set the ranges; only train, the others judge the result',
        )
          .choices(['train'])
          .default('train'),
      )
      .option('--calibration-images <n>', 'int8: training images for the ranges', integerFrom(1), 48)
      .option('--percentile <p>', 'int8: share of values kept, 100 for the extremes', numberOption, 99.999)
      .option('--weight-bits <n>', 'int8: 7 for processors without VNNI', integerFrom(7), 8)
      .option('--max-drop <d>', 'largest accepted loss of AP50 or sensitivity by a variant', numberOption, 0.05)
      .option('--without-heads', 'safetensors: backbone and pyramid alone, to start a run whose heads are new')
      .option('--licence <text>', 'licence of the training data, for manifest and model card')
      .option('--no-verify', 'write an unverified model, and say so in its record')
  },
  async run(io, global, options, [target, ...more]) {
    const log = (line: string) => {
      if (!global.quiet) io.stderr(`${line}\n`)
    }
    if (options['format'] === 'safetensors') {
      const { exportWeights } = await import('../../tasks/export-weights.js')
      const written = await exportWeights(
        target!,
        options['out'] as string | undefined,
        options['withoutHeads'] !== true,
      )
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
    const flags = options as unknown as ExportFlags
    const shapes = shapeList(flags.shape, more)
    const { ensureAddon } = await import('../../tasks/build.js')
    const { exportOnnx } = await import('../../tasks/export.js')
    await ensureAddon({ allowed: global.build, log })
    const { out, graph, verify } = flags
    const outcomes: ExportOutcome[] = []
    for (const { shape, suffix } of shapes) {
      // Without --out the task knows the place; a suffix then needs it too.
      const path =
        suffix === '' ? out : `${(out ?? (await defaultOut(target!))).replace(/\.onnx$/i, '')}.${suffix}.onnx`
      const outcome = await exportOnnx(target!, {
        ...(path === undefined ? {} : { out: path }),
        ...(shape === undefined ? {} : { shape }),
        graph,
        ...(flags.twoStep === undefined ? {} : { twoStep: flags.twoStep }),
        verify: verify === false ? 'none' : verify,
        ...(flags.precision === undefined ? {} : { precision: precisionList(flags.precision) }),
        ...(flags.data === undefined ? {} : { data: flags.data }),
        ...(flags.licence === undefined ? {} : { licence: flags.licence }),
        calibration: {
          calibrationImages: flags.calibrationImages,
          percentile: flags.percentile,
          weightBits: flags.weightBits === 7 ? 7 : 8,
        },
        maxDrop: flags.maxDrop,
        threads: chooseThreads(readMachine()).intraOp,
        log,
      })
      outcomes.push(outcome)
      if (!global.json) io.stdout(describe(outcome))
    }
    if (global.json) {
      const records = outcomes.map(({ model, manifest }) => ({ path: model.path, sha256: model.sha256, manifest }))
      io.stdout(`${JSON.stringify(records.length === 1 ? records[0] : records, null, 2)}\n`)
    }
    return 0
  },
}

/** The shapes of `--shape` and the words after it; a single one gives the file its plain name, several add theirs to it. */
function shapeList(text: string | undefined, more: readonly string[]): { shape: string | undefined; suffix: string }[] {
  if (text === undefined && more.length > 0) {
    throw new UsageError('ARGUMENT', `expected one run or checkpoint, got also ${more.join(', ')}`, {
      fix: 'name shapes with --shape, such as --shape 4096x3328 3328x2560',
    })
  }
  const shapes = text === undefined ? [undefined] : [text, ...more].flatMap((word) => word.split(','))
  if (shapes.length === 1) return [{ shape: shapes[0]?.trim(), suffix: '' }]
  return shapes.map((shape) => ({ shape: shape!.trim(), suffix: shape!.trim() }))
}

async function defaultOut(target: string): Promise<string> {
  const { findCheckpoint } = await import('../../tasks/checkpoint.js')
  const { besideCheckpoint } = await import('../../tasks/export.js')
  return besideCheckpoint((await findCheckpoint(target)).path, 'model.onnx')
}

function describe(outcome: ExportOutcome): string {
  const { model, manifest, parity } = outcome
  const tensors = (list: typeof model.inputs) => list.map((x) => `${x.name} ${x.type} ${x.shape}`).join(', ')
  return [
    `${model.path}  ${(model.bytes / 2 ** 20).toFixed(1)} MiB  opset ${model.opset}`,
    `  sha256   ${model.sha256}`,
    `  inputs   ${tensors(model.inputs)}`,
    `  outputs  ${tensors(model.outputs)}`,
    parity === null
      ? `  parity   not verified: ${manifest.parity.reason}`
      : `  parity   ${parity.matched} detections on ${manifest.parity.images.length} images agree: scores within ${parity.worstScore.toExponential(1)}, boxes within ${parity.worstBoxPixels.toFixed(4)} px, ${parity.borderline.length} borderline`,
    ...(parity?.borderline ?? []).map((text) => `           ${text}`),
    `  manifest ${outcome.manifestPath}`,
    ...variantTable(outcome.variants),
    '',
  ].join('\n')
}

/** One line per variant: what it costs and gains. */
function variantTable(variants: ExportOutcome['variants']): string[] {
  if (variants.length === 0) return []
  const signed = (value: number | null) => (value === null ? '-' : `${value < 0 ? '' : '+'}${value.toFixed(3)}`)
  const three = (value: number | null) => (value === null ? '-' : value.toFixed(3))
  const interval = (pair: [number, number] | null) => (pair === null ? '' : ` (${pair.map(signed).join(' to ')})`)
  const first = variants[0]!.manifest.accuracy!
  const fppi = first.sensitivity.map((s) => s.fppi)
  const head = ['', 'AP50', 'change', ...fppi.flatMap((f) => [`sens@${f}`, 'change']), 'score moved', 's/image', 'MiB']
  const seconds = (value: number) => value.toFixed(3)
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(1)
  const rows = [
    [
      ...['fp32', three(first.ap50.fp32), ''],
      ...first.sensitivity.flatMap((s) => [three(s.fp32), '']),
      ...['', seconds(first.networkSeconds.fp32), mib(first.bytes.fp32)],
    ],
    ...variants.map(({ precision, manifest }) => {
      const a = manifest.accuracy!
      return [
        ...[precision, three(a.ap50.value), signed(a.ap50.difference) + interval(a.ap50.interval)],
        ...a.sensitivity.flatMap((s) => [three(s.value), signed(s.difference) + interval(s.interval)]),
        ...[three(a.worstScoreChange), seconds(a.networkSeconds.value), mib(a.bytes.value)],
      ]
    }),
  ]
  const { images, split } = first
  return [
    '',
    `on ${images} images of the ${split} part, 95 % by paired resamples of patients:`,
    ...textTable(head, rows),
  ]
}
