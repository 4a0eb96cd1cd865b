// `data prepare`: a dataset as it was downloaded becomes a prepared folder.
import { InvalidArgumentError, Option } from 'commander'
import { EXPORT_FORMATS, type ExportFormat } from '../../tasks/names.js'
import type { PrepareDatasetOptions } from '../../tasks/prepare.js'
import { type CommandFile, integerFrom } from '../command.js'
import { progressBar } from '../progress-bar.js'
import { dataConfig, declareReading, type ReadingFlags, sourceOptions } from '../reading-options.js'
import { declareSplit, type SplitFlags, splitOptions, thinParts } from '../split-options.js'

interface PrepareFlags extends ReadingFlags, SplitFlags {
  out: string
  crop: boolean
  maskBackground?: boolean
  writeLabels?: ExportFormat[]
  crops?: 'msc' | 'ours' | true
  skipBroken?: boolean
  replace?: boolean
  workers?: number
}

export const dataPrepareCommand: CommandFile = {
  name: 'data prepare',
  summary: 'decode, crop, measure, cache and split a dataset',
  examples: [
    'data prepare INbreast --out prepared',
    "data prepare images --adapter coco --patient-pattern '^(?<patient>\\d+)_' --no-crop --out prepared",
  ],
  declare: (command) => {
    command
      .argument('<dir>', 'dataset as it was downloaded')
      .requiredOption('--out <dir>', 'folder to write')
      .option('--no-crop', 'keep whole images instead of the breast region')
      .option('--mask-background', 'set pixels outside the breast to 0')
      .addOption(
        new Option(
          '--write-labels <formats>',
          'also write the annotations as coco, csv, voc or yolo, separated by commas, to labels/ in the folder',
        ).argParser(parseFormats),
      )
      .addOption(
        new Option(
          '--crops [rule]',
          'also write the fixed set of patches as 16-bit PNG and COCO to crops/ in the folder, placed as the MSc project did or by our rules',
        ).choices(['msc', 'ours']),
      )
      .option('--skip-broken', 'leave out unreadable images; they are counted and named')
      .option('--replace', 'rebuild a folder that was prepared with other options')
      .option('--workers <n>', 'images prepared at a time', integerFrom(1))
    declareReading(command)
    declareSplit(command)
  },
  async run(io, global, options, [dir]) {
    const { prepareDataset } = await import('../../tasks/prepare.js')
    const flags = options as unknown as PrepareFlags
    const say = (line: string) => {
      if (!global.quiet) io.stderr(`${line}\n`)
    }
    const bar = progressBar(io, 'preparing', !global.quiet)
    const taskOptions: PrepareDatasetOptions = {
      out: flags.out,
      crop: flags.crop,
      ...(await sourceOptions(flags, io)),
      split: splitOptions(flags),
      writeLabels: flags.writeLabels ?? [],
      onProblem: (p) => {
        if (p.level === 'warning') say(`warning ${p.rule}: ${p.message} (${p.where})`)
      },
      onPlan: (plan) => {
        const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`
        say(
          `${plan.images} images; disk: about ${mib(plan.expectedBytes)}, at most ${mib(plan.maximumBytes)}, ${mib(plan.freeBytes)} free`,
        )
      },
      onProgress: ({ done, total }) => bar.update(done, total),
      ...(flags.crops === undefined
        ? {}
        : { crops: { rule: flags.crops === 'ours' ? 'ours' : 'msc', config: await dataConfig(global, undefined) } }),
      ...(flags.maskBackground === undefined ? {} : { maskBackground: true }),
      ...(flags.skipBroken === undefined ? {} : { skipBroken: true }),
      ...(flags.replace === undefined ? {} : { replace: true }),
      ...(flags.workers === undefined ? {} : { workers: flags.workers }),
    }
    const summary = await prepareDataset(dir!, taskOptions).finally(() => bar.stop())
    for (const line of thinParts(summary)) say(`warning: ${line}`)
    if (global.json) {
      io.stdout(`${JSON.stringify(summary, null, 2)}\n`)
      return 0
    }
    const lines = [
      `${summary.folder}: ${summary.images} images (${summary.read} read, ${summary.cached} from an earlier run, ${summary.skipped.length} skipped), ${(summary.bytes / 2 ** 20).toFixed(0)} MiB in ${summary.seconds.toFixed(1)} s`,
      `  crop removed ${(100 * summary.meanRemoved).toFixed(1)} % of the pixels on average; data hash ${summary.cacheHash.slice(0, 16)}`,
      ...summary.counts.map((parts, k) => {
        const fold = summary.counts.length > 1 ? ` fold ${k}` : ''
        const text = Object.entries(parts).map(
          ([part, c]) => `${part} ${c.images} images, ${c.patients} patients, ${c.lesions} lesions`,
        )
        return `  split${fold} (${summary.split.method}): ${text.join('; ')}`
      }),
      ...summary.statistics.map(
        (s, k) =>
          `  statistics fold ${k}: mean ${s.mean.toFixed(3)}, standard deviation ${s.std.toFixed(3)} over non-zero training pixels`,
      ),
      ...summary.labels.map((folder) => `  annotations in ${folder}`),
      ...(summary.crops === null
        ? []
        : [
            `  ${summary.crops.patches} patches in ${summary.crops.folder}: ${summary.crops.positive} of lesions, ${summary.crops.negative} negative, ${summary.crops.boxes} boxes, ${summary.crops.skippedLesions} lesions too large`,
          ]),
      ...summary.skipped.map((s) => `  skipped ${s.id}: ${s.code}: ${s.message}`),
    ]
    io.stdout(`${lines.join('\n')}\n`)
    return 0
  },
}

function parseFormats(text: string): ExportFormat[] {
  return text.split(',').map((word) => {
    const name = word === 'csv' ? 'keras-csv' : EXPORT_FORMATS.find((each) => each === word)
    if (name === undefined) throw new InvalidArgumentError(`expected coco, csv, voc or yolo, got "${word}"`)
    return name
  })
}
