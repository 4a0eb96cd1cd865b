// `sweep infer`: tunes suppression, fusion and score threshold on stored detections of the validation part. Needs no addon and no GPU;
// lib/experiments/infer.ts does the search.
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import { defaultConfig } from '../config/load.js'
import type { Config } from '../config/schema.js'
import { partIds } from '../data/prepared.js'
import { DataError, UsageError } from '../errors.js'
import { type InferOptions, type InferResult, type InferRow, tuneInference } from '../experiments/infer.js'
import { openDataset } from '../train/data.js'
import { readPredictions } from '../train/predictions.js'
import { findRunFolder } from '../train/run-folder.js'
import { evaluationRules, truthOf } from '../train/validate.js'
import { runConfig } from './train.js'

export interface SweepInferOptions {
  method?: InferOptions['method']
  /** Settings of random and sobol; default 64. */
  trials?: number
  /** AP50, AP, sens@F, sensitivity, precision, F1 or FP/image; default F1. */
  rankBy?: string
  seed?: number
  /** Resamples of patients for the gain of the best setting. */
  bootstrap?: number
  /** Overrides of the run's configuration. */
  set?: Record<string, unknown>
  /** Rules and data for stored predictions without a run. */
  config?: Config
  /** CSV to write; default sweep-infer.csv beside the first predictions. */
  out?: string
  onRow?: (done: number, total: number) => void
}

export interface SweepInferResult extends InferResult {
  rankBy: string
  images: number
  /** Scored files. */
  sources: string[]
  csv: string
  /** What to set for the best setting; null when the stored detections are best, or several
   * sources or fusion are (no setting of one model's). */
  fragment: Record<string, number> | null
  warnings: string[]
}

/**
 * Tunes on one or several sources: runs (their stored detections) or files of predictions. Rejects with UsageError ARGUMENT when images of
 * the test part are among them.
 */
export async function sweepInfer(
  targets: readonly string[],
  options: SweepInferOptions = {},
): Promise<SweepInferResult> {
  const files = await Promise.all(targets.map(predictionsOf))
  if (!['grid', 'random', 'sobol', undefined].includes(options.method)) {
    throw new UsageError('ARGUMENT', `expected method grid, random or sobol, got ${options.method}`)
  }
  if (files.length === 0) throw new UsageError('ARGUMENT', 'expected a run or a file of predictions, got none')
  const run = await findRunFolder(targets[0]!).catch(() => undefined)
  const config = options.config ?? (run === undefined ? defaultConfig() : await runConfig(run, options.set ?? {}))
  const stored = await Promise.all(files.map((file) => readPredictions(file, config.data.classes)))
  const dataset = await openDataset(config)
  try {
    const test = new Set(partIds(dataset.set, 'test', config.data.fold))
    const ids = [...stored[0]!.detections.keys()]
    const known = new Set(dataset.set.records.map((record) => record.id))
    for (const [i, { info, detections }] of stored.entries()) {
      const tested = [...detections.keys()].filter((id) => test.has(id)).length
      if (info.split === 'test' || tested > 0) {
        throw new UsageError('ARGUMENT', `settings are never chosen on the test part, got ${tested} of its images`, {
          where: files[i]!,
          fix: 'give predictions of the validation part: `mammo-retinanet evaluate RUN --split val --out DIR`',
        })
      }
      const other = [...detections.keys()].find((id) => !known.has(id)) ?? ids.find((id) => !detections.has(id))
      if (other !== undefined || detections.size !== ids.length) {
        throw new DataError(
          'ANNOTATION',
          'expected predictions of the same images of the prepared folder in every file',
          {
            where: files[i]!,
            fix: `image ${other ?? '(more than in the first file)'} is not in all of them`,
          },
        )
      }
    }
    const rankBy = options.rankBy ?? 'F1'
    const floor = Math.max(config.evaluate.scoreThreshold, ...stored.map(({ info }) => info.scoreThreshold ?? 0))
    const found = tuneInference(
      truthOf(dataset, config, ids),
      stored.map(({ detections }) => detections),
      {
        ...{ method: options.method ?? 'grid', trials: options.trials ?? 64, seed: options.seed ?? 0, rankBy },
        rules: { ...evaluationRules(config), scoreThreshold: floor },
        bootstrap: { draws: options.bootstrap ?? 2000, seed: config.run.seed },
        ...(options.onRow === undefined ? {} : { onRow: options.onRow }),
      },
    )
    const csv = resolve(options.out ?? join(files[0]!, '..', 'sweep-infer.csv'))
    await writeFileAtomic(csv, csvOf(found.rows))
    const best = found.rows[0]!.setting
    const warnings = [...dataset.warnings]
    if (stored.some(({ info }) => (info.nmsIou ?? config.predict.nmsIou) < 1)) {
      warnings.push(
        `the detections were stored after suppression at IoU ${config.predict.nmsIou}: a higher IoU changes nothing, and fusion sees what was left; ` +
          'store more with `evaluate RUN --set predict.nmsIou=1 --set evaluate.maxDetections=1000 --out DIR`',
      )
    }
    const fragment =
      best === null || best.combination !== 'nms' || files.length > 1
        ? null
        : { 'predict.nmsIou': best.iou, 'predict.scoreThreshold': best.scoreThreshold }
    return { ...found, rankBy, images: ids.length, sources: files, csv, fragment, warnings }
  } finally {
    await dataset.close()
  }
}

async function predictionsOf(target: string): Promise<string> {
  const path = resolve(target)
  const info = await stat(path).catch(() => undefined)
  if (info?.isFile() && path.endsWith('.json')) return path
  const file = join(info?.isDirectory() ? path : await findRunFolder(target), 'eval', 'predictions.coco.json')
  if (existsSync(file)) return file
  throw new UsageError('ARGUMENT', 'expected stored predictions of a run, found none', {
    where: file,
    fix: 'run `mammo-retinanet evaluate RUN` once, or give a predictions.coco.json',
  })
}

function csvOf(rows: readonly InferRow[]): string {
  const metrics = Object.keys(rows[0]!.metrics)
  const number = (value: number | null | undefined) =>
    typeof value === 'number' ? String(Number(value.toPrecision(6))) : ''
  const lines = rows.map(({ setting, metrics: values }, i) => [
    ...[String(i + 1), setting?.combination ?? 'as stored', number(setting?.iou), number(setting?.scoreThreshold)],
    ...metrics.map((name) => number(values[name])),
  ])
  return [['rank', 'combination', 'iou', 'scoreThreshold', ...metrics], ...lines]
    .map((l) => `${l.join(',')}\n`)
    .join('')
}
