// What a run draws while it goes on: plots/ (history, and the curves of the newest evaluation), samples/ (what the network is trained on, and
// scored images with ground truth and predictions), the latter also for TensorBoard. lib/report and lib/data draw; this chooses.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import type { Phase } from '../config/phases.js'
import type { Config } from '../config/schema.js'
import { readPlans } from '../data/loader.js'
import { type PreparedRecord, readCrop } from '../data/prepared.js'
import type { Sampler } from '../data/sampler.js'
import type { Box } from '../data/types.js'
import { encodePicture, renderImage } from '../data/view.js'
import { drawPlan } from '../data/view-plan.js'
import { evaluateDetections, type Metrics } from '../evaluate/evaluate.js'
import type { Detection } from '../evaluate/types.js'
import { type Dataset, firstPlans } from '../train/data.js'
import { parseResults } from '../train/results.js'
import type { RunLog } from '../train/run-log.js'
import { evaluationRules, type Predictions, truthOf } from '../train/validate.js'
import { tellingImages } from './gallery.js'
import { markHits } from './view.js'

/** Longer side of a picture in pixels. */
const SIDE = 768
/** Predictions drawn on an image, the strongest: an early detector has a hundred. */
const SHOWN = 10
/** Plots are drawn again at most this often while epochs are short; the last drawing is complete. */
const PLOT_EVERY_MS = 30_000

export interface RunPictures {
  /** The first training samples of every phase. */
  training(): Promise<void>
  /** After an epoch. `predictions`: those of its evaluation; undefined when it had none. */
  epoch(predictions: Predictions | undefined): Promise<void>
  /** The last plots. */
  close(): Promise<void>
}

export function runPictures(
  folder: string,
  config: Config,
  phases: readonly Phase[],
  samplers: readonly Sampler[],
  dataset: Dataset,
  log: Pick<RunLog, 'picture'>,
  clock: () => number,
): RunPictures {
  const count = config.run.pictures
  const records = new Map(dataset.set.records.map((record) => [record.id, record]))
  let newest: Predictions | undefined
  let drawnAt = Number.NEGATIVE_INFINITY
  let stale = false

  const write = async (name: string, tag: string, png: Uint8Array) => {
    await writeFileAtomic(join(folder, 'samples', `${name}.png`), png)
    log.picture(tag, { ...pngSize(png), channels: 3, png })
  }
  const plot = async () => {
    drawnAt = clock()
    stale = false
    await writePlots(folder, phases, newest === undefined ? null : metricsOf(dataset, config, newest))
  }

  return {
    async training() {
      for (const [i, phase] of phases.entries()) {
        for (const [n, plan] of firstPlans(samplers[i]!, phase, i, count).entries()) {
          const { batch } = await readPlans([plan], plan.size, dataset.reader)
          const view = { classes: config.data.classes, maxSide: SIDE }
          const png = await encodePicture(drawPlan(plan, batch.windows.pixels, view))
          await write(`phase${i + 1}-train-${n}`, `samples/phase${i + 1}_train_${n}`, png)
        }
      }
    },
    async epoch(predictions) {
      stale = true
      if (predictions !== undefined) {
        newest = predictions
        const shown = count === 0 ? [] : shownImages(dataset, config, predictions, count)
        for (const [n, id] of shown.entries()) {
          const png = await drawScored(dataset, records.get(id)!, predictions.get(id) ?? [], config)
          await write(`val-${n}`, `samples/val_${n}`, png)
        }
      }
      if (clock() - drawnAt >= PLOT_EVERY_MS) await plot()
    },
    async close() {
      if (stale) await plot()
    },
  }
}

/** Half of them the same in every epoch, lesions first; the others the most telling of this one: misses, highest false alarms, hits. */
function shownImages(dataset: Dataset, config: Config, predictions: Predictions, count: number): string[] {
  const truth = truthOf(dataset, config, [...predictions.keys()])
  const fixed = [...truth].sort((a, b) => Number(b.boxes.length > 0) - Number(a.boxes.length > 0))
  const telling = tellingImages(truth, predictions, config)
  const ids = [...fixed.slice(0, Math.ceil(count / 2)), ...telling].map((image) => image.id)
  return [...new Set(ids)].slice(0, count)
}

async function drawScored(
  dataset: Dataset,
  record: PreparedRecord,
  detections: readonly Detection[],
  config: Config,
): Promise<Uint8Array> {
  const { pixels, width, height } = await readCrop(dataset.reader, record)
  const [dx, dy] = record.cache.crop
  const shift = ([x1, y1, x2, y2]: Box): Box => [x1 - dx, y1 - dy, x2 - dx, y2 - dy]
  const lesions = record.lesions.map((l) => ({ box: shift(l.box), label: l.class, ignore: l.ignore }))
  const strongest = [...detections].sort((a, b) => b.score - a.score).slice(0, SHOWN)
  const found = strongest.map((one) => ({ ...one, box: shift(one.box) }))
  const marked = markHits(lesions, found, config)
  return renderImage({ pixels, width, height, ...marked, title: record.id, maxSide: SIDE })
}

function metricsOf(dataset: Dataset, config: Config, predictions: Predictions): Metrics {
  const truth = truthOf(dataset, config, [...predictions.keys()])
  return evaluateDetections(truth, predictions, { ...evaluationRules(config), bootstrap: null })
}

/** Writes plots/*.svg of a run folder: history with phase borders from results.csv, curves of the given evaluation. */
export async function writePlots(folder: string, phases: readonly Phase[], metrics: Metrics | null): Promise<void> {
  // Vega is only loaded where something is drawn.
  const [{ historyLinePlots }, { calibrationPlot, frocPlot, precisionRecallPlot }, { linePlotSvg }] = await Promise.all(
    [import('../report/run-report.js'), import('../report/evaluation-sections.js'), import('../report/plots.js')],
  )
  const history = parseResults(await readFile(join(folder, 'results.csv'), 'utf8').catch(() => ''))
  if (history.length === 0) return
  const files: Record<string, string> = {
    Loss: 'loss',
    'Average precision': 'map',
    Sensitivity: 'sensitivity',
    'Learning rate': 'lr',
  }
  const plots = historyLinePlots({ history, phaseBorders: phaseBorders(phases) }).map(
    ([plot]) => [files[plot.title] ?? plot.title, plot] as const,
  )
  if (metrics !== null && metrics.counts.lesions > 0) {
    plots.push(['froc', frocPlot(metrics)])
    if (metrics.curves.precisionRecall.length > 0) plots.push(['pr', precisionRecallPlot(metrics)])
    if (metrics.calibration.expectedError !== null) plots.push(['calibration', calibrationPlot(metrics.calibration)])
    plots.push(['sizeRecall', sizeRecallPlot(metrics)])
  }
  for (const [name, plot] of plots) await writeFileAtomic(join(folder, 'plots', `${name}.svg`), await linePlotSvg(plot))
}

/** Epochs after which a phase ends, with the name of the next. */
export function phaseBorders(phases: readonly Phase[]): { epoch: number; label: string }[] {
  const ends = phases.map((_, i) => phases.slice(0, i).reduce((sum, { epochs }) => sum + epochs, 0))
  return phases.map(({ name }, i) => ({ epoch: ends[i]!, label: name })).slice(1)
}

function sizeRecallPlot({ strata, options }: Metrics) {
  const groups = strata.size.filter(({ lesions }) => lesions > 0)
  return {
    title: 'Recall by size',
    xTitle: 'false positives per image (logarithmic)',
    yTitle: 'share of lesions found',
    ...{ yDomain: [0, 1] as [number, number], xLog: true },
    series: groups.map(({ name, lesions, sensitivity }) => {
      return { name: `${name} (${lesions})`, x: [...options.fppi], y: sensitivity.map((value) => value ?? Number.NaN) }
    }),
  }
}

/** Width and height of a PNG, from its header. */
function pngSize(png: Uint8Array): { width: number; height: number } {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength)
  return { width: view.getUint32(16), height: view.getUint32(20) }
}
