// `sweep report`: what a sweep found, as one Markdown page with a figure. Scores the stored detections of every finished trial with intervals; trains
// nothing and needs no addon.
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import { UsageError } from '../errors.js'
import { compareDetections } from '../evaluate/compare.js'
import { type Estimate, evaluateDetections } from '../evaluate/evaluate.js'
import { configDifferences } from '../experiments/compare-runs.js'
import { rankSettings, readSweep } from '../experiments/sweep.js'
import { checkSpec, planSweep, type Trial } from '../experiments/sweep-spec.js'
import { intervalPlotSvg } from '../report/interval-plot.js'
import { type SweepPageTrial, sweepMarkdown } from '../report/sweep-page.js'
import { evaluationRules } from '../train/validate.js'
import { readStoredRun, type StoredRun } from './compare.js'

export interface SweepReportOptions {
  /** Folder of the page and the figure; default the sweep's own. */
  out?: string
  /** Resamples of patients; default 2000. */
  bootstrap?: number
  /** Command lines to show. */
  commands?: readonly string[]
}

export interface SweepReportResult {
  page: string
  figure: string
  trials: SweepPageTrial[]
  missing: number
}

/** Rejects with UsageError ARGUMENT for a folder without a sweep, or one without a scored trial. */
export async function sweepReport(folder: string, options: SweepReportOptions = {}): Promise<SweepReportResult> {
  const path = join(folder, 'sweep.json')
  if (!existsSync(path)) {
    throw new UsageError('ARGUMENT', 'expected the folder of a sweep, with sweep.json', { where: folder })
  }
  const plan = planSweep(checkSpec((JSON.parse(await readFile(path, 'utf8')) as { spec: unknown }).spec, path))
  const ranked = rankSettings(plan, await readSweep(plan, folder))
  const draws = options.bootstrap ?? 2000
  const nameOf = ({ labels }: Pick<Trial, 'labels'>) => plan.axes.map((axis) => labels[axis]!).join(', ')
  const order = ranked.toSorted((a, b) => a.setting - b.setting).flatMap(({ trials }) => trials)
  const runs = new Map<number, StoredRun>()
  for (const { trial, outcome } of order) {
    if (outcome?.status !== 'finished') continue
    const run = await readStoredRun(join(folder, outcome.run), nameOf(trial))
    if (run.predictions !== null && run.truth !== null) runs.set(trial.index, run)
  }
  const scored = order.filter(({ trial }) => runs.has(trial.index)).map(({ trial }) => trial)
  if (scored.length === 0) {
    throw new UsageError('ARGUMENT', 'expected finished trials with stored detections and their prepared folder', {
      where: folder,
    })
  }
  const trials = scored.map((trial): SweepPageTrial => {
    const run = runs.get(trial.index)!
    const first = scored.find(({ setting, seed }) => setting === scored[0]!.setting && seed === trial.seed)
    const against = first === undefined || first === trial ? null : runs.get(first.index)!
    return {
      setting: nameOf(trial),
      seed: trial.seed,
      ...score(run, draws),
      difference: difference(against, run, draws),
    }
  })
  const settings = [...new Map(scored.map((trial) => [nameOf(trial), runs.get(trial.index)!]))]
  const figure = `${plan.spec.name}.svg`
  const missing = plan.trials.length - scored.length
  const { train, run } = settings[0]![1].config
  const markdown = sweepMarkdown({
    ...{
      name: `Study: ${plan.spec.name}`,
      about: plan.spec.about,
      commands: options.commands ?? [],
      trials,
      missing,
      draws,
      figure,
    },
    facts: [
      `Updates of each trial: ${[...new Set([...runs.values()].map(updates))].join(', ')}; precision ${run.precision}, optimiser ${train.optimizer}.`,
    ],
    ranking: ranked.map(({ labels, value, trials: own }) => {
      return { setting: nameOf({ labels }), mean: value.mean, seeds: own.length }
    }),
    differences: {
      settings: settings.map(([name]) => name),
      rows: configDifferences(settings.map(([, { config }]) => ({ config }))),
    },
  })
  const out = resolve(options.out ?? folder)
  const page = join(out, `${plan.spec.name}.md`)
  await writeFileAtomic(page, markdown)
  await writeFileAtomic(
    join(out, figure),
    await intervalPlotSvg({
      title: `${plan.spec.name}: AP50 with 95 % intervals over patients`,
      xTitle: 'AP50, validation part',
      marks: trials.flatMap(({ setting, seed, AP50: { value, interval } }) =>
        value === null || interval === null ? [] : [{ group: setting, repeat: `seed ${seed}`, value, ...interval }],
      ),
    }),
  )
  return { page, figure: join(out, figure), trials, missing }
}

function score({ config, truth, predictions }: StoredRun, draws: number) {
  const rules = evaluationRules(config)
  const metrics = evaluateDetections(truth!, predictions!, {
    ...{ ...rules, criteria: rules.criteria.slice(0, 1), fppi: [1] },
    bootstrap: { draws, seed: 0 },
  })
  const { images, lesions } = metrics.counts
  return { images, lesions, AP50: metrics.voc.map, found: metrics.froc[0]!.points[0]!.sensitivity }
}

function difference(a: StoredRun | null, b: StoredRun, draws: number): Estimate | null {
  if (a === null || a.predictions!.size !== b.predictions!.size) return null
  if (![...a.predictions!.keys()].every((id) => b.predictions!.has(id))) return null
  const rules = evaluationRules(b.config)
  const { ap } = compareDetections(b.truth!, a.predictions!, b.predictions!, {
    ...{ classes: rules.classes.length, iou: rules.iou, scoreThreshold: rules.scoreThreshold, fppi: [1] },
    ...{ maxDetections: rules.maxDetections, criterion: rules.criteria[0]!, credit: rules.credit },
    bootstrap: { draws, seed: 0 },
  })
  return { value: ap.difference, interval: ap.interval }
}

/** Updates of the whole run, from its last row. */
function updates({ history }: StoredRun): string {
  const steps = history.at(-1)?.['step']
  return steps === undefined ? 'unknown' : String(steps)
}
