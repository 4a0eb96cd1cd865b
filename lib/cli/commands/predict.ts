// `predict`: images through an exported model.
import { Option } from 'commander'
import { UsageError } from '../../errors.js'
import { OUTPUTS, type Output } from '../../tasks/names.js'
import type { PredictSummary } from '../../tasks/predict.js'
import type { WatchOptions } from '../../tasks/watch.js'
import { type CommandFile, type GlobalOptions, integerFrom, numberOption } from '../command.js'
import type { Io } from '../io.js'
import { reportError } from '../report-error.js'

type Prediction = PredictSummary['predictions'][number]

interface PredictFlags {
  out: string
  output: string
  threshold?: number
  annotations?: string
  crop: boolean
  spacing?: 'resample' | 'warn' | 'ignore'
  workers?: number
  maxFindings: number
  allowFailures: number
  tile?: string
  tta?: 'hflip'
  merge?: 'nms' | 'fusion'
  assumeMammogram?: boolean
  isolation?: 'thread' | 'process'
  device?: 'cpu' | 'cuda'
  timeout?: number
  shard?: string
  resume?: boolean
  watch?: boolean
  untilIdle?: boolean
  settle?: number
  quietPeriod?: number
}

/** `SIZE` or `SIZE:STEP`; the step is half the size by default. */
function tileOption(text: string): { size: number; step: number } {
  const match = /^(\d+)(?::(\d+))?$/.exec(text)
  if (match === null) {
    throw new UsageError('ARGUMENT', `--tile: expected SIZE or SIZE:STEP in pixels, got "${text}"`, {
      fix: 'write --tile 2048:1024 for tiles of 2048 pixels every 1024',
    })
  }
  const size = Number(match[1])
  return { size, step: match[2] === undefined ? size / 2 : Number(match[2]) }
}

export const predictCommand: CommandFile = {
  name: 'predict',
  summary: 'detect masses in images, DICOM files, folders or a manifest with an exported model',
  examples: [
    'predict model.onnx exams/ --out results',
    'predict model.onnx study/ --threshold 0.3 --output json,png,cad-sr,tid1500',
  ],
  declare: (command) => {
    command
      .argument('<model>', 'ONNX model with its manifest beside it')
      .argument('<input...>', 'images, folders, or a manifest.jsonl')
      .option('--out <dir>', 'folder of the results', 'predictions')
      .option('--output <list>', `what to write: ${OUTPUTS.join(', ')}`, 'json,png,html')
      .option('--threshold <score>', "lowest score; default the model's", numberOption)
      .option('--annotations <file>', 'COCO JSON whose boxes are drawn in red')
      .option('--no-crop', 'see the whole image instead of the breast region')
      .addOption(
        new Option('--spacing <rule>', 'when the pixel spacing differs from the training').choices([
          'resample',
          'warn',
          'ignore',
        ]),
      )
      .option('--tile <size[:step]>', 'predict overlapping square tiles of this side in network pixels')
      .addOption(new Option('--tta <kind>', 'predict the mirrored image too').choices(['hflip']))
      .addOption(
        new Option('--merge <rule>', 'how mirrored and plain boxes become one list; default fusion').choices([
          'nms',
          'fusion',
        ]),
      )
      .option('--assume-mammogram', 'accept files that do not call themselves mammograms')
      .option('--workers <n>', 'images at a time', integerFrom(1))
      .addOption(
        new Option('--device <kind>', 'cuda where onnxruntime-node has its GPU libraries; default cpu').choices([
          'cpu',
          'cuda',
        ]),
      )
      .addOption(
        new Option('--isolation <kind>', 'workers as threads, or as processes that can be killed').choices([
          'thread',
          'process',
        ]),
      )
      .option('--timeout <seconds>', 'longest time of one image, waiting included', numberOption)
      .option('--shard <i/n>', 'only the i-th of n parts; --resume without --shard puts finished parts together')
      .option('--resume', 'go on where a run with the same model and settings stopped in --out')
      .option('--watch', 'keep watching the folder: files move to its done/ or failed/')
      .option('--until-idle', 'with --watch: end when the folder is empty')
      .option(
        '--settle <seconds>',
        'with --watch: a file is complete when unchanged for so long; default 2',
        numberOption,
      )
      .option(
        '--quiet-period <seconds>',
        'with --watch: a study is reported when no image came for so long; default 10',
        numberOption,
      )
      .option('--max-findings <n>', 'findings per DICOM report; the lowest scores are left out', integerFrom(1), 100)
      .option('--allow-failures <n>', 'rejected images that are tolerated', integerFrom(0), 0)
  },
  async run(io, global, options, [model, ...inputs]) {
    const flags = options as unknown as PredictFlags
    const wanted = flags.output.split(',')
    const unknown = wanted.filter((name) => !OUTPUTS.includes(name as Output))
    if (unknown.length > 0)
      throw new UsageError('ARGUMENT', `--output: expected some of ${OUTPUTS.join(', ')}, got "${unknown.join(',')}"`, {
        fix: 'list them with commas, such as --output json,png',
      })
    const watchOnly = [
      flags.untilIdle && '--until-idle',
      flags.settle && '--settle',
      flags.quietPeriod && '--quiet-period',
    ]
    const misplaced = flags.watch ? flags.resume && '--resume' : watchOnly.find(Boolean)
    if (misplaced)
      throw new UsageError('ARGUMENT', `${misplaced} has no meaning ${flags.watch ? 'with' : 'without'} --watch`, {
        fix: flags.watch ? 'leave it out: watching always goes on where it stopped' : 'add --watch, or leave it out',
      })
    const controller = new AbortController()
    const stop = (signal: NodeJS.Signals) => {
      process.off('SIGINT', stop).off('SIGTERM', stop)
      io.stderr(`${signal}: stopping; what is finished is recorded\n`)
      controller.abort(signal)
    }
    process.on('SIGINT', stop).on('SIGTERM', stop)
    const common = {
      out: flags.out,
      outputs: wanted as Output[],
      maxFindings: flags.maxFindings,
      signal: controller.signal,
      ...(flags.threshold === undefined ? {} : { threshold: flags.threshold }),
      ...(flags.annotations === undefined ? {} : { annotations: flags.annotations }),
      ...(flags.crop ? {} : { crop: false }),
      ...(flags.spacing === undefined ? {} : { spacing: flags.spacing }),
      ...(flags.workers === undefined ? {} : { workers: flags.workers }),
      ...(flags.tile === undefined ? {} : { tile: tileOption(flags.tile) }),
      ...(flags.tta === undefined ? {} : { mirror: true }),
      ...(flags.merge === undefined ? {} : { merge: flags.merge }),
      ...(flags.assumeMammogram ? { assumeMammogram: true } : {}),
      ...(flags.isolation === undefined ? {} : { isolation: flags.isolation }),
      ...(flags.device === undefined ? {} : { device: flags.device }),
      ...(flags.timeout === undefined ? {} : { timeoutMs: 1000 * flags.timeout }),
      onWarning: (path: string | null, { code, message }: { code: string; message: string }) => {
        if (!global.quiet) io.stderr(`warning ${code}: ${path === null ? '' : `${path}: `}${message}\n`)
      },
      onError: (_path: string, error: Error) => void reportError(error, io),
    }
    const show = (result: Prediction, count: string) => {
      const { image, detections, timingsMs, warnings } = result
      const top = detections[0]?.score.toFixed(3) ?? '-'
      if (!global.json) {
        io.stdout(
          `${count}${image.id} ${image.columns}x${image.rows}  ${detections.length} detections  top ${top}  ${Math.round(timingsMs.total)} ms\n`,
        )
      }
      for (const warning of warnings)
        if (!global.quiet) io.stderr(`warning ${warning.code}: ${image.id}: ${warning.message}\n`)
    }
    try {
      if (flags.watch) return await watchFolder(model!, inputs, flags, common, show, io)
      const { predict } = await import('../../tasks/predict.js')
      const { parseShard } = await import('../../tasks/predict-inputs.js')
      const summary = await predict(model!, inputs, {
        ...common,
        ...(flags.shard === undefined ? {} : { shard: parseShard(flags.shard) }),
        ...(flags.resume ? { resume: true } : {}),
        onResult: (result, done, total) => show(result, `${done}/${total} `),
      })
      return report(summary, flags, global, io)
    } catch (error) {
      if (!controller.signal.aborted || !(error instanceof UsageError && error.code === 'ERR_MAMMO_CANCELLED'))
        throw error
      io.stderr('stopped; the same command with --resume goes on\n')
      return controller.signal.reason === 'SIGTERM' ? 143 : 130
    } finally {
      process.off('SIGINT', stop).off('SIGTERM', stop)
    }
  },
}

async function watchFolder(
  model: string,
  inputs: readonly string[],
  flags: PredictFlags,
  common: WatchOptions & { signal: AbortSignal },
  show: (result: Prediction, count: string) => void,
  io: Io,
): Promise<number> {
  if (inputs.length !== 1 || flags.shard !== undefined) {
    throw new UsageError('ARGUMENT', '--watch: expected one folder and no --shard', {
      fix: 'watch one folder per process',
    })
  }
  const { watch } = await import('../../tasks/watch.js')
  const { done, failed } = await watch(model, inputs[0]!, {
    ...common,
    ...(flags.untilIdle ? { untilIdle: true } : {}),
    ...(flags.settle === undefined ? {} : { settleMs: 1000 * flags.settle }),
    ...(flags.quietPeriod === undefined ? {} : { quietMs: 1000 * flags.quietPeriod }),
    onResult: (result) => show(result, ''),
  })
  io.stdout(`${done} files done, ${failed} failed; results in ${flags.out}\n`)
  if (common.signal.aborted) return common.signal.reason === 'SIGTERM' ? 143 : 130
  return failed > flags.allowFailures ? 3 : 0
}

function report(summary: PredictSummary, flags: PredictFlags, global: GlobalOptions, io: Io): number {
  const { predictions, rejected, resumed } = summary
  if (global.json) io.stdout(`${JSON.stringify({ predictions, rejected }, null, 2)}\n`)
  else {
    const found = predictions.reduce((n, p) => n + p.detections.length, 0)
    const earlier = resumed === 0 ? '' : `, ${resumed} of them finished earlier`
    io.stdout(
      `${predictions.length} images${earlier}, ${found} detections, ${rejected.length} rejected; results in ${flags.out}\n`,
    )
    for (const { path, code } of rejected) io.stdout(`  rejected ${path}: ${code}\n`)
  }
  if (rejected.some(({ code }) => code === 'ERR_MAMMO_TIMEOUT' || code === 'ERR_MAMMO_WORKER_LOST')) return 4
  return rejected.length > flags.allowFailures ? 3 : 0
}
