// `data split`: divides a prepared folder anew, proves that no patient is in two parts, and renews the statistics of each fold.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { findLeaks, type Leak } from '../data/leak.js'
import { leakImagesOf, openRecords, splitImagesOf, writeSplit } from '../data/prepared.js'
import { partCounts, type Split, type SplitOptions, splitImages } from '../data/split.js'
import { UsageError } from '../errors.js'

export interface SplitTaskOptions extends Omit<SplitOptions, 'exclude'> {
  /** Folders of runs. Images of patients that one of them trained on are in no part: what starts from its weights is then scored fairly. */
  excludeRuns?: readonly string[]
}

export interface SplitSummary {
  folder: string
  split: Split
  /** Per fold: images, patients, images with lesions and lesions of each part. */
  counts: ReturnType<typeof partCounts>[]
  /** Per fold. Empty of errors unless the split is image-wise, whose leak is its point. */
  leaks: Leak[][]
}

/** Rejects with UsageError for impossible requests and DataError for a damaged folder. The folder's pixels are not touched. */
export async function splitDataset(folder: string, options: SplitTaskOptions = {}): Promise<SplitSummary> {
  const { excludeRuns = [], ...rules } = options
  const { header, records } = await openRecords(folder)
  const images = splitImagesOf(records, header.classes)
  const trained = new Set((await Promise.all(excludeRuns.map(trainedPatients))).flat())
  const exclude = new Set(images.filter((image) => trained.has(image.patient)).map((image) => image.id))
  const split = splitImages(images, { ...rules, exclude })
  const leakImages = leakImagesOf(records)
  await writeSplit(folder, header, records, split)
  return {
    folder,
    split,
    counts: split.folds.map((fold) => partCounts(fold, images)),
    leaks: split.folds.map((fold) => findLeaks(fold, leakImages)),
  }
}

/** Patients of the images that a run trained on, from the list that it keeps. */
async function trainedPatients(run: string): Promise<string[]> {
  const path = join(run, 'data', 'split.json')
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new UsageError('ARGUMENT', 'expected the folder of a run with data/split.json', { where: path, cause })
  })
  const { train } = JSON.parse(text) as { train: { patient: string }[] }
  return train.map(({ patient }) => patient)
}
