// Chooses the adapter of a dataset, by name or by what lies in the folder, and writes records in other formats. What an adapter does is in
// its own file.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { writeFileAtomic } from '../../atomic-write.js'
import { DataError, UsageError } from '../../errors.js'
import { throwErrors } from '../manifest.js'
import {
  ADAPTERS,
  type Adapter,
  type AdapterName,
  type AdapterOptions,
  type Dataset,
  EXPORT_FORMATS,
  type ExportFormat,
  type ImageRecord,
} from '../types.js'
import { cbisDdsm } from './cbis-ddsm.js'
import { coco, cocoText } from './coco.js'
import { inbreast } from './inbreast.js'
import { kerasCsv, kerasCsvTexts } from './keras-csv.js'
import { mias } from './mias.js'
import { vindr } from './vindr.js'
import { voc, vocFiles } from './voc.js'
import { yolo, yoloFiles } from './yolo.js'

/** In the order of detection: the particular before the general. */
export const adapters: readonly Adapter[] = [inbreast, cbisDdsm, vindr, mias, coco, kerasCsv, voc, yolo]

export interface ReadDatasetOptions extends AdapterOptions {
  adapter?: AdapterName
}

/**
 * Reads a dataset as it was downloaded. Faults of single items are listed in `problems`, which may be of level error: the caller
 * decides with `throwErrors`. Throws ERR_MAMMO_ANNOTATION when the folder as a whole is no dataset, ERR_MAMMO_ARGUMENT for an
 * unknown adapter.
 */
export async function readDataset(root: string, options: ReadDatasetOptions = {}): Promise<Dataset> {
  const { adapter: name, ...rest } = options
  if (!existsSync(root)) {
    throw new DataError('ANNOTATION', 'expected the folder or the annotation file of a dataset, nothing exists there', {
      where: root,
      fix: 'check the path',
      details: { rule: 'data/layout' },
    })
  }
  const adapter = name === undefined ? await detectAdapter(root) : adapters.find((each) => each.name === name)
  if (adapter === undefined && name !== undefined) {
    throw new UsageError('ARGUMENT', `expected an adapter of ${ADAPTERS.join(', ')}, got ${name}`, {
      fix: 'choose one of them',
    })
  }
  if (adapter === undefined) {
    throw new DataError('ANNOTATION', `expected a dataset of ${ADAPTERS.join(', ')}, recognised none`, {
      where: root,
      fix: 'name the format with --adapter; other formats (KITTI, Open Images, ...) come in as COCO JSON',
      details: { rule: 'data/layout' },
    })
  }
  return adapter.read(root, rest)
}

/** The first adapter whose layout is in the folder. */
export async function detectAdapter(root: string): Promise<Adapter | undefined> {
  for (const adapter of adapters) if (await adapter.detect(root)) return adapter
  return undefined
}

/**
 * Texts of a dataset in another format, by file name. Images are not copied: COCO, CSV and VOC name them by the records' paths; YOLO
 * expects them at `images/`, named like the labels.
 */
export function exportTexts(format: ExportFormat, records: readonly ImageRecord[]): Map<string, string> {
  if (format === 'coco') return new Map([['annotations.json', cocoText(records)]])
  if (format === 'voc') return vocFiles(records)
  if (format === 'yolo') return yoloFiles(records)
  const { annotations, classes } = kerasCsvTexts(records)
  return new Map([
    ['annotations.csv', annotations],
    ['classes.csv', classes],
  ])
}

/** Writes exportTexts below a folder; returns the paths. */
export async function exportDataset(
  format: ExportFormat,
  records: readonly ImageRecord[],
  folder: string,
): Promise<string[]> {
  const texts = exportTexts(format, records)
  for (const [name, text] of texts) await writeFileAtomic(join(folder, name), text)
  return [...texts.keys()]
}

export { EXPORT_FORMATS, type ExportFormat, throwErrors }
