// `data split`: divides a prepared folder anew, proves that no patient is in two parts, and renews the statistics of each fold.
import { findLeaks, type Leak } from '../data/leak.js'
import { leakImagesOf, openRecords, splitImagesOf, writeSplit } from '../data/prepared.js'
import { partCounts, type Split, type SplitOptions, splitImages } from '../data/split.js'

export type { SplitOptions } from '../data/split.js'

export interface SplitSummary {
  folder: string
  split: Split
  /** Per fold: images, patients, images with lesions and lesions of each part. */
  counts: ReturnType<typeof partCounts>[]
  /** Per fold. Empty of errors unless the split is image-wise, whose leak is its point. */
  leaks: Leak[][]
}

/** Rejects with UsageError for impossible requests and DataError for a damaged folder. The folder's pixels are not touched. */
export async function splitDataset(folder: string, options: SplitOptions = {}): Promise<SplitSummary> {
  const { header, records } = await openRecords(folder)
  const images = splitImagesOf(records, header.classes)
  const split = splitImages(images, options)
  const leakImages = leakImagesOf(records)
  await writeSplit(folder, header, records, split)
  return {
    folder,
    split,
    counts: split.folds.map((fold) => partCounts(fold, images)),
    leaks: split.folds.map((fold) => findLeaks(fold, leakImages)),
  }
}
