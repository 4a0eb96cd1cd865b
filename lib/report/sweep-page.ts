// The report of a sweep as Markdown, small enough to be kept beside the sources: question, command, what differed, the number of every trial with its
// interval, paired differences to the first setting, and what may be concluded. Is handed the numbers; reads nothing.
import type { Estimate } from '../evaluate/evaluate.js'

/** AP50 below which no setting has learned enough to be compared. */
export const LEAST_AP50 = 0.2

export interface SweepPageTrial {
  setting: string
  seed: number
  images: number
  lesions: number
  AP50: Estimate
  /** Sensitivity at one false positive per image. */
  found: Estimate
  /** AP50 against the first setting of the same seed; null for that one, and where the images are not the same. */
  difference: Estimate | null
}

export interface SweepPage {
  name: string
  about: string
  /** Command lines that made it; none: the report does not say. */
  commands: readonly string[]
  /** Length of the training and the like, in words. */
  facts: readonly string[]
  /** Settings with their mean AP50 over the seeds, best first. */
  ranking: readonly { setting: string; mean: number | null; seeds: number }[]
  trials: readonly SweepPageTrial[]
  /** Configuration keys that differ: key and its value for each setting. */
  differences: { settings: readonly string[]; rows: readonly { key: string; values: readonly string[] }[] }
  missing: number
  /** Resamples of patients. */
  draws: number
  /** File name of the figure. */
  figure: string
}

const text = ({ value, interval }: Estimate, sign = false): string => {
  const shown = (v: number) => `${sign && v >= 0 ? '+' : ''}${v.toFixed(3)}`
  if (value === null) return 'undefined'
  return shown(value) + (interval === null ? '' : ` [${shown(interval.low)}, ${shown(interval.high)}]`)
}

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string[] =>
  [head, head.map(() => '---'), ...rows].map(
    (row) => `| ${row.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`,
  )

/** What the numbers allow to say. */
export function conclusion({ ranking, trials, missing }: Pick<SweepPage, 'ranking' | 'trials' | 'missing'>): string {
  const best = ranking.find(({ mean }) => mean !== null)
  const open = missing > 0 ? ` ${missing} trials were not run.` : ''
  if (best === undefined) return `Inconclusive: no setting is complete.${open}`
  if (best.mean! < LEAST_AP50)
    return `Inconclusive: the best setting, ${best.setting}, stays below AP50 ${LEAST_AP50} (${best.mean!.toFixed(3)}).${open}`
  const first = trials[0]!.setting
  const compared = ranking.filter(({ setting, mean }) => setting !== first && mean !== null)
  const verdicts = compared.flatMap(({ setting }) => {
    const own = trials
      .filter((trial) => trial.setting === setting)
      .map(({ difference }) => difference?.interval ?? null)
    if (own.some((range) => range === null)) return []
    if (own.every((range) => range!.low > 0)) return [`${setting} is better than ${first} with every seed`]
    if (own.every((range) => range!.high < 0)) return [`${setting} is worse than ${first} with every seed`]
    return [`${setting} cannot be told from ${first}`]
  })
  const paired = verdicts.length > 0 ? ` By the paired differences ${verdicts.join('; ')}.` : ''
  return `Highest mean: ${best.setting}, AP50 ${best.mean!.toFixed(3)}.${paired}${open}`
}

export function sweepMarkdown(page: SweepPage): string {
  const { trials, ranking, differences, draws } = page
  const comparable = trials.some(({ difference }) => difference !== null)
  const seeds = [...new Set(trials.map(({ seed }) => seed))].join(', ')
  return [
    `# ${page.name}`,
    '',
    page.about,
    '',
    `**${conclusion(page)}**`,
    '',
    `![AP50 of every trial with its interval](${page.figure})`,
    '',
    `AP50 on the validation part; brackets and lines: 95 % intervals from ${draws} resamples of patients. Seeds ${seeds}. Not corrected for several comparisons.`,
    '',
    ...table(
      [
        'setting',
        'seed',
        'images',
        'masses',
        'AP50',
        'found at 1 FP per image',
        ...(comparable ? ['AP50 against the first setting'] : []),
      ],
      trials.map((trial) => [
        ...[trial.setting, String(trial.seed), String(trial.images), String(trial.lesions)],
        ...[text(trial.AP50), text(trial.found)],
        ...(comparable ? [trial.difference === null ? '' : text(trial.difference, true)] : []),
      ]),
    ),
    '',
    ...table(
      ['setting', 'mean AP50', 'seeds'],
      ranking.map(({ setting, mean, seeds: n }) => [
        setting,
        mean === null ? 'incomplete' : mean.toFixed(3),
        String(n),
      ]),
    ),
    '',
    ...(differences.rows.length === 0
      ? []
      : [
          'What differs:',
          '',
          ...table(
            ['key', ...differences.settings],
            differences.rows.map(({ key, values }) => [key, ...values]),
          ),
          '',
        ]),
    ...page.facts.flatMap((fact) => [fact, '']),
    ...(page.commands.length === 0 ? [] : ['```', ...page.commands, '```', '']),
  ].join('\n')
}
