// Options that divide images into parts, shared by `data prepare` and `data split`; no command.
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { SplitTaskOptions } from '../tasks/split.js'
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
