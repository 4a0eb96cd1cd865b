// `predict`: images through an exported model.
import { Option } from 'commander'
import { UsageError } from '../../errors.js'
import { OUTPUTS, type Output } from '../../tasks/names.js'
import { type CommandFile, integerFrom, numberOption } from '../command.js'
import { reportError } from '../report-error.js'

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
      .option('--output <list>', `what to write: ${OUTPUTS.join(', ')}`, 'json,png')
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
      .option('--workers <n>', 'images at a time', integerFrom(1))
      .option('--max-findings <n>', 'findings per DICOM report; the lowest scores are left out', integerFrom(1), 100)
      .option('--allow-failures <n>', 'rejected images that are tolerated', integerFrom(0), 0)
  },
  async run(io, global, options, [model, ...inputs]) {
    const { predict } = await import('../../tasks/predict.js')
    const flags = options as unknown as PredictFlags
    const wanted = flags.output.split(',')
    const unknown = wanted.filter((name) => !OUTPUTS.includes(name as Output))
    if (unknown.length > 0)
      throw new UsageError('ARGUMENT', `--output: expected some of ${OUTPUTS.join(', ')}, got "${unknown.join(',')}"`, {
        fix: 'list them with commas, such as --output json,png',
      })
    const summary = await predict(model!, inputs, {
      out: flags.out,
      outputs: wanted as Output[],
      ...(flags.threshold === undefined ? {} : { threshold: flags.threshold }),
      ...(flags.annotations === undefined ? {} : { annotations: flags.annotations }),
      ...(flags.crop ? {} : { crop: false }),
      ...(flags.spacing === undefined ? {} : { spacing: flags.spacing }),
      ...(flags.workers === undefined ? {} : { workers: flags.workers }),
      maxFindings: flags.maxFindings,
      onResult: ({ image, detections, timingsMs, warnings }, done, total) => {
        const top = detections[0]?.score.toFixed(3) ?? '-'
        if (!global.json) {
          io.stdout(
            `${done}/${total} ${image.id} ${image.columns}x${image.rows}  ${detections.length} detections  top ${top}  ${Math.round(timingsMs.total)} ms\n`,
          )
        }
        for (const warning of warnings)
          if (!global.quiet) io.stderr(`warning ${warning.code}: ${image.id}: ${warning.message}\n`)
      },
      onWarning: (path, { code, message }) => {
        if (!global.quiet) io.stderr(`warning ${code}: ${path === null ? '' : `${path}: `}${message}\n`)
      },
      onError: (_path, error) => void reportError(error, io),
    })
    const { predictions, rejected } = summary
    if (global.json) io.stdout(`${JSON.stringify({ predictions, rejected }, null, 2)}\n`)
    else {
      const found = predictions.reduce((n, p) => n + p.detections.length, 0)
      io.stdout(
        `${predictions.length} images, ${found} detections, ${rejected.length} rejected; results in ${flags.out}\n`,
      )
      for (const { path, code } of rejected) io.stdout(`  rejected ${path}: ${code}\n`)
    }
    return rejected.length > flags.allowFailures ? 3 : 0
  },
}
