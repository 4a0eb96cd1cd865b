// Options of every command that reads a dataset: the format, where its parts lie, and how it is read. Shared by command files; no command.
import { readFile } from 'node:fs/promises'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { type LoadedConfig, loadConfig } from '../config/load.js'
import { presets } from '../config/presets.js'
import { UsageError } from '../errors.js'
import { ADAPTERS, type AdapterName, BI_RADS, type BiRads } from '../tasks/names.js'
import type { SourceOptions } from '../tasks/training-boxes.js'
import { configSource, type GlobalOptions } from './command.js'
import type { Io } from './io.js'

export interface ReadingFlags {
  adapter?: AdapterName
  annotations?: string
  classesFile?: string
  images?: string
  patientPattern?: string
  exclude?: string
  excludeFrom?: string
  hashIds?: boolean
  allowForProcessing?: boolean
  assumeMammogram?: boolean
  boxRounding?: 'outward' | 'none'
  spiculatedAsMass?: boolean
  malignantFrom?: BiRads
  zeroBased?: boolean
  missingIsNegative?: boolean
}

/** The key that identities are hashed with stays out of the command line, where every user of a machine can read it. */
const KEY_VARIABLE = 'MAMMO_SITE_KEY'

const SHORT_NAMES: Record<string, AdapterName> = { vindr: 'vindr-mammo', mias: 'mini-mias', csv: 'keras-csv' }

export function declareReading(command: Command): void {
  command
    .addOption(
      new Option('--adapter <name>', `format: ${ADAPTERS.join(', ')}; default: recognised`).argParser(parseAdapter),
    )
    .option('--annotations <file>', 'annotation file where it is not the customary one')
    .option('--classes-file <file>', 'class file of the keras-retinanet CSV, names file of YOLO')
    .option('--images <dir>', 'folder of the images where it is not the customary one')
    .option(
      '--patient-pattern <regex>',
      'regular expression on the path with a group (?<patient>...), also (?<laterality>...), (?<view>...)',
    )
    .option(
      '--exclude <ids>',
      'image ids, paths or lesion ids (<image id>#<lesion id>) to leave out, separated by commas',
    )
    .option('--exclude-from <file>', 'the same, one per line; the plan of `data check --fix-plan` is such a file')
    .option('--hash-ids', `hash published patient pseudonyms too, with the key in ${KEY_VARIABLE}`)
    .addOption(new Option('--box-rounding <rule>', 'fractional extents of contours').choices(['outward', 'none']))
    .option('--allow-for-processing', 'accept DICOM images that are not for presentation')
    .option('--assume-mammogram', 'accept DICOM images that do not call themselves mammograms')
    .option('--spiculated-as-mass', 'INbreast: spiculated regions are masses')
    .addOption(
      new Option(
        '--malignant-from <assessment>',
        'INbreast: lesions of images from this BI-RADS on are malignant, the others benign; customary: 4',
      ).choices([...BI_RADS]),
    )
    .option('--zero-based', 'Pascal VOC: boxes count pixels from 0')
    .option('--missing-is-negative', 'YOLO: an image without label file is a negative instead of not annotated')
}

function parseAdapter(text: string): AdapterName {
  const name = SHORT_NAMES[text] ?? ADAPTERS.find((each) => each === text)
  if (name !== undefined) return name
  throw new InvalidArgumentError(
    `expected one of ${ADAPTERS.join(', ')}; other formats (KITTI, Open Images, ...) come in as COCO JSON`,
  )
}

/** The flags as options of a task. */
export async function sourceOptions(flags: ReadingFlags, io: Io): Promise<Pick<SourceOptions, 'adapter' | 'reading'>> {
  const { adapter, annotations, classesFile, images, patientPattern, boxRounding, malignantFrom } = flags
  const exclude = [...(flags.exclude?.split(',') ?? []), ...(await excludedIn(flags.excludeFrom))]
  const hashKey = io.env[KEY_VARIABLE]
  if (flags.hashIds === true && !hashKey) {
    throw new UsageError('ARGUMENT', `--hash-ids: expected a secret key in the environment variable ${KEY_VARIABLE}`, {
      fix: 'set it to a long random text of this site, the same each time',
    })
  }
  return {
    ...(adapter === undefined ? {} : { adapter }),
    reading: {
      ...(annotations === undefined ? {} : { annotations }),
      ...(classesFile === undefined ? {} : { classesFile }),
      ...(images === undefined ? {} : { images }),
      ...(patientPattern === undefined ? {} : { patientPattern }),
      ...(boxRounding === undefined ? {} : { boxRounding }),
      ...(exclude.length === 0 ? {} : { exclude }),
      ...(hashKey ? { hashKey } : {}),
      ...(flags.hashIds === true ? { hashIds: true } : {}),
      ...(flags.allowForProcessing === true ? { allowForProcessing: true } : {}),
      ...(flags.assumeMammogram === true ? { assumeMammogram: true } : {}),
      ...(flags.spiculatedAsMass === true || malignantFrom !== undefined
        ? {
            inbreast: {
              ...(flags.spiculatedAsMass === true ? { spiculatedAsMass: true } : {}),
              ...(malignantFrom === undefined ? {} : { malignantFrom }),
            },
          }
        : {}),
      ...(flags.zeroBased === true ? { voc: { zeroBased: true } } : {}),
      ...(flags.missingIsNegative === true ? { yolo: { missingIsNegative: true } } : {}),
    },
  }
}

async function excludedIn(file: string | undefined): Promise<string[]> {
  if (file === undefined) return []
  const { parsePlan } = await import('../tasks/check.js')
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new UsageError('ARGUMENT', '--exclude-from: expected a text file, it cannot be read', { where: file, cause })
  })
  return parsePlan(text)
}

/** `--preset NAME` of commands that look at data with a configuration but train nothing. */
export function declarePreset(command: Command): void {
  command.option('--preset <name>', `preset: ${Object.keys(presets).join(', ')}; default: the schema's defaults`)
}

/** The configuration that data is looked at with: no weights are asked for. */
export async function dataConfig(global: GlobalOptions, preset: string | undefined): Promise<LoadedConfig['config']> {
  return (await loadConfig({ ...configSource(global, preset), hasWeights: true })).config
}
