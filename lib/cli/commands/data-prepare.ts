// `data prepare`: a dataset as it was downloaded becomes a prepared folder.
import { Option } from 'commander'

import { UsageError } from '../../errors.js'
import { ADAPTERS, type AdapterName } from '../../tasks/names.js'
import type { PrepareDatasetOptions } from '../../tasks/prepare.js'
import { type CommandFile, integerOption } from '../command.js'
import { progressBar } from '../progress-bar.js'

interface PrepareFlags {
  out: string
  adapter?: AdapterName
  annotations?: string
  classesFile?: string
  images?: string
  patientPattern?: string
  crop: boolean
  maskBackground?: boolean
  split?: 'holdout' | 'kfold' | 'official' | 'image-wise'
  ratio?: string
  folds?: number
  seed: number
  exclude?: string
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
      .addOption(new Option('--adapter <name>', 'format; default: recognised').choices(ADAPTERS))
      .option('--annotations <file>', 'annotation file where it is not the customary one')
      .option('--classes-file <file>', 'class file of the keras-retinanet CSV, names file of YOLO')
      .option('--images <dir>', 'folder of the images where it is not the customary one')
      .option(
        '--patient-pattern <regex>',
        'regular expression on the path with a group (?<patient>...), also (?<laterality>...), (?<view>...)',
      )
      .option('--no-crop', 'keep whole images instead of the breast region')
      .option('--mask-background', 'set pixels outside the breast to 0')
      .addOption(
        new Option('--split <method>', 'how images are divided').choices([
          'holdout',
          'kfold',
          'official',
          'image-wise',
        ]),
      )
      .option('--ratio <list>', 'train, val, test shares such as 0.7,0.15,0.15')
      .option('--folds <k>', 'folds of a k-fold split', integerOption)
      .option('--seed <n>', 'seed of the split', integerOption, 0)
      .option('--exclude <ids>', 'image ids, paths or lesion ids to leave out, separated by commas')
      .option('--skip-broken', 'leave out unreadable images; they are counted and named')
      .option('--replace', 'rebuild a folder that was prepared with other options')
      .option('--workers <n>', 'images prepared at a time', integerOption)
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
      reading: readingOptions(flags),
      split: splitOptions(flags),
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
      ...(flags.adapter === undefined ? {} : { adapter: flags.adapter }),
      ...(flags.maskBackground === undefined ? {} : { maskBackground: true }),
      ...(flags.skipBroken === undefined ? {} : { skipBroken: true }),
      ...(flags.replace === undefined ? {} : { replace: true }),
      ...(flags.workers === undefined ? {} : { workers: flags.workers }),
    }
    const summary = await prepareDataset(dir!, taskOptions).finally(() => bar.stop())
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
      ...summary.skipped.map((s) => `  skipped ${s.id}: ${s.code}: ${s.message}`),
    ]
    io.stdout(`${lines.join('\n')}\n`)
    return 0
  },
}

function readingOptions(flags: PrepareFlags): NonNullable<PrepareDatasetOptions['reading']> {
  return {
    ...(flags.annotations === undefined ? {} : { annotations: flags.annotations }),
    ...(flags.classesFile === undefined ? {} : { classesFile: flags.classesFile }),
    ...(flags.images === undefined ? {} : { images: flags.images }),
    ...(flags.patientPattern === undefined ? {} : { patientPattern: flags.patientPattern }),
    ...(flags.exclude === undefined ? {} : { exclude: flags.exclude.split(',') }),
  }
}

function splitOptions(flags: PrepareFlags): NonNullable<PrepareDatasetOptions['split']> {
  const ratio = flags.ratio?.split(',').map(Number)
  if (ratio !== undefined && ratio.length !== 3) {
    throw new UsageError('ARGUMENT', `--ratio: expected three shares such as 0.7,0.15,0.15, got "${flags.ratio}"`)
  }
  return {
    seed: flags.seed,
    ...(flags.split === undefined ? {} : { method: flags.split }),
    ...(ratio === undefined ? {} : { ratio: ratio as [number, number, number] }),
    ...(flags.folds === undefined ? {} : { folds: flags.folds, method: flags.split ?? 'kfold' }),
  }
}
