// Options that divide images into parts, shared by `data prepare` and `data split`; no command.
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { SplitSummary, SplitTaskOptions } from '../tasks/split.js'
import { integerOption } from './command.js'

export interface SplitFlags {
  split?: 'holdout' | 'kfold' | 'official' | 'image-wise'
  ratio?: [number, number, number]
  folds?: number
  stratify?: ('mass' | 'density')[]
  seed: number
}

export function declareSplit(command: Command): void {
  command
    .addOption(
      new Option('--split <method>', 'how images are divided; image-wise leaks and is for comparison only').choices([
        'holdout',
        'kfold',
        'official',
        'image-wise',
      ]),
    )
    .addOption(new Option('--ratio <list>', 'train, val, test shares such as 0.7,0.15,0.15').argParser(parseRatio))
    .option('--folds <k>', 'folds of a k-fold split', integerOption)
    .addOption(new Option('--stratify <list>', 'balance of mass, density; default both').argParser(parseStratify))
    .option('--seed <n>', 'seed of the split', integerOption, 0)
}

/** The flags as options of the splitter; `--folds` alone means a k-fold split. */
export function splitOptions(flags: SplitFlags): SplitTaskOptions {
  const { split, ratio, folds, stratify, seed } = flags
  return {
    seed,
    ...(split === undefined ? {} : { method: split }),
    ...(ratio === undefined ? {} : { ratio }),
    ...(folds === undefined ? {} : { folds, method: split ?? 'kfold' }),
    ...(stratify === undefined ? {} : { stratify }),
  }
}

/** What a part cannot be used for: one sentence per fold and part that was asked for and has no image, or none with a lesion. */
export function thinParts({ split, counts }: Pick<SplitSummary, 'split' | 'counts'>): string[] {
  return counts.flatMap((parts, fold) => {
    const where = counts.length > 1 ? `fold ${fold}: ` : ''
    return (['train', 'val', 'test'] as const).flatMap((part, n) => {
      if (split.ratio !== null && split.ratio[n] === 0 && parts[part].images === 0) return []
      if (parts[part].images === 0) return [`${where}${part} has no image: too few patients for these shares`]
      const lost = part === 'train' ? 'there is nothing to learn' : 'AP and FROC mean nothing there'
      return parts[part].lesions === 0 ? [`${where}${part} has no lesion: ${lost}; try another --seed`] : []
    })
  })
}

function parseRatio(text: string): [number, number, number] {
  const shares = text.split(',').map((word) => (word.trim() === '' ? Number.NaN : Number(word)))
  if (shares.length !== 3 || !shares.every(Number.isFinite)) {
    throw new InvalidArgumentError(`expected three shares such as 0.7,0.15,0.15, got "${text}"`)
  }
  return shares as [number, number, number]
}

function parseStratify(text: string): ('mass' | 'density')[] {
  return text.split(',').map((word) => {
    if (word === 'mass' || word === 'density') return word
    throw new InvalidArgumentError(`expected mass, density or both, got "${word}"`)
  })
}
