// Searches ratios and scales that fit the boxes of a data set: several independent runs of differential evolution on a condensed set of boxes, then a
// polish of the best few on all boxes. The result depends on the seed only, never on the number of threads. A better fit is no promise of a better
// detector (the MSc project whose experiments this software repeats lost accuracy with optimised anchors): report both.
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { UsageError } from '../errors.js'
import {
  type Bounds,
  differentialEvolution,
  type Minimum,
  nelderMead,
  type Objective,
  valueAt,
} from './differential-evolution.js'
import { condense, decodePoint, judge, type ObjectiveOptions, prepareSearch } from './objective.js'

export interface SearchOptions extends ObjectiveOptions {
  /** Number of ratios: odd, 1 and pairs v, 1/v; even, pairs only. */
  ratios: number
  scales: number
  seed: number
  /** Bounds of v and of the scales. */
  ratioBounds?: readonly [number, number]
  scaleBounds?: readonly [number, number]
  /** Independent runs; more for certainty, the time grows with them. */
  runs?: number
  /** Threads; the result does not depend on it. */
  threads?: number
  onProgress?: (done: number, runs: number) => void
}

export interface AnchorFit {
  ratios: number[]
  scales: number[]
  /** The objective, smaller is better. */
  value: number
  meanIou: number
  /** Boxes whose best IoU is below 0.5. */
  unmatched: number
  evaluations: number
  /** Processor time of the search. */
  cpuSeconds: number
}

/** What one run needs; plain data, as it crosses to a thread. */
export interface RunInput {
  boxes: Float64Array
  options: Omit<SearchOptions, 'onProgress' | 'threads'>
  run: number
}

/** A search looks at so many boxes; at 64, or a fifth of them, where each is tried at many places. */
const CELLS = 512
const CELLS_OF_RECALL = 64
const RECALL_SHARE = 1 / 5

/**
 * Individuals per variable and the spread at which a run ends. Small populations in several runs find the lowest valley more surely than one large one
 * does; a run need only find a valley, as the polish goes to its bottom.
 */
const POPULATION = 8
const SPREAD = 0.02

/** Runs by number of boxes: of larger sets the valleys differ less, and all of them cost less than one search on all boxes. */
const BOXES_PER_RUN = 64
const RUNS = [4, 12] as const

/** Different minima that are polished, and how far apart minima are different, as a share of the bounds. */
const POLISHED = 3
const APART = 0.03
const POLISH = 5e-4

function searchBounds(options: RunInput['options']): Bounds {
  return [
    ...Array.from({ length: options.ratios >> 1 }, () => options.ratioBounds ?? ([1, 4] as const)),
    ...Array.from({ length: options.scales }, () => options.scaleBounds ?? ([0.4, 2] as const)),
  ]
}

/** One run of differential evolution; also what a thread executes. */
export function searchRun({ boxes, options, run }: RunInput): Minimum {
  return evolution(fewerBoxes(boxes, options) ?? objectiveOfAll(boxes, options), options)(options.seed, run)
}

/** The objective of fewer boxes that stand for all, where there are many. Places on the grid cannot be condensed. */
function fewerBoxes(boxes: Float64Array, options: RunInput['options']): Objective | undefined {
  const n = boxes.length / 4
  const cells = options.objective === 'recall' ? Math.max(CELLS_OF_RECALL, n * RECALL_SHARE) : CELLS
  return options.grid || n <= cells ? undefined : prepareSearch(condense(boxes, cells), options)
}

function objectiveOfAll(boxes: Float64Array, options: RunInput['options']): Objective {
  return prepareSearch({ boxes, weights: new Float64Array(boxes.length / 4).fill(1) }, options)
}

function evolution(objective: Objective, options: RunInput['options']) {
  return differentialEvolution(objective, searchBounds(options), {
    populationPerVariable: POPULATION,
    mutation: 0.5,
    recombination: 0.7,
    tolerance: SPREAD,
    maxGenerations: 1000,
  })
}

/**
 * Searches anchors for the boxes (flat [n,4] xyxy, any unit that sizes share).
 * @throws UsageError without boxes, for a box without area, or fewer than one ratio or scale.
 */
export async function optimizeAnchors(boxes: Float64Array, options: SearchOptions): Promise<AnchorFit> {
  checkBoxes(boxes)
  const { ratios, scales } = options
  if (!(Number.isInteger(ratios) && Number.isInteger(scales) && ratios >= 1 && scales >= 1))
    throw new UsageError(
      'ARGUMENT',
      `anchor search: expected at least one ratio and one scale, got ${ratios} and ${scales}`,
    )
  const started = process.cpuUsage()
  const { onProgress, threads, ...plain } = options
  const bounds = searchBounds(plain)
  const n = boxes.length / 4
  const [least, most] = RUNS
  const runs = options.runs ?? (bounds.length <= 2 ? 3 : Math.min(most, Math.max(least, Math.round(n / BOXES_PER_RUN))))
  const inputs = Array.from({ length: runs }, (_, run): RunInput => ({ boxes, options: plain, run }))
  const all = objectiveOfAll(boxes, plain)
  const minima = await runAll(inputs, all, Math.min(threads ?? 1, runs, availableParallelism()), onProgress)
  // Judged on all boxes from here.
  const polished = differentMinima(minima, all, plain).map((x) => nelderMead(all, bounds, x, POLISH))
  const best = polished.reduce((a, b) => (b.value < a.value ? b : a))
  const found = decodePoint(best.x, ratios)
  const used = process.cpuUsage(started)
  return {
    ...found,
    ...scoreAnchors(boxes, plain, found.ratios, found.scales),
    evaluations: [...minima, ...polished].reduce((sum, m) => sum + m.evaluations, 0) + runs + 1,
    cpuSeconds: (used.user + used.system) / 1e6,
  }
}

/** The lowest minima of which no two are the same valley; runs that found it in another order of the variables count as one. */
function differentMinima(minima: readonly Minimum[], objective: Objective, options: RunInput['options']): number[][] {
  const pairs = options.ratios >> 1
  const bounds = searchBounds(options)
  const ascending = (x: readonly number[]) => [
    ...x.slice(0, pairs).sort((a, b) => a - b),
    ...x.slice(pairs).sort((a, b) => a - b),
  ]
  const sorted = minima
    .map(({ x }) => ({ x: ascending(x), value: valueAt(objective, x) }))
    .sort((a, b) => a.value - b.value)
  const kept: number[][] = []
  for (const { x } of sorted) {
    const near = (other: readonly number[]) =>
      x.every((v, i) => Math.abs(v - other[i]!) < APART * (bounds[i]![1] - bounds[i]![0]))
    if (kept.length < POLISHED && !kept.some(near)) kept.push(x)
  }
  return kept
}

/** The objective, mean IoU and unmatched boxes of given anchors. */
export function scoreAnchors(
  boxes: Float64Array,
  options: ObjectiveOptions,
  ratios: readonly number[],
  scales: readonly number[],
): Pick<AnchorFit, 'value' | 'meanIou' | 'unmatched'> {
  const { value, ious } = judge(boxes, options, ratios, scales)
  return {
    value,
    meanIou: ious.reduce((sum, v) => sum + v, 0) / ious.length,
    unmatched: ious.filter((v) => v < 0.5).length,
  }
}

function checkBoxes(boxes: Float64Array): void {
  if (boxes.length === 0 || boxes.length % 4 !== 0)
    throw new UsageError('ARGUMENT', `anchor search: expected boxes as flat [n,4], n > 0, got ${boxes.length} numbers`)
  for (let i = 0; i < boxes.length; i += 4)
    if (!(boxes[i + 2]! > boxes[i]! && boxes[i + 3]! > boxes[i + 1]!))
      throw new UsageError(
        'ARGUMENT',
        `anchor search: expected boxes with area, got box ${i / 4}: ${boxes.slice(i, i + 4).join(', ')}`,
      )
}

async function runAll(
  inputs: readonly RunInput[],
  all: Objective,
  threads: number,
  onProgress: SearchOptions['onProgress'],
): Promise<Minimum[]> {
  let done = 0
  const finished = (minimum: Minimum) => {
    onProgress?.(++done, inputs.length)
    return minimum
  }
  if (threads <= 1) {
    const { boxes, options } = inputs[0]!
    const run = evolution(fewerBoxes(boxes, options) ?? all, options)
    return inputs.map((input) => finished(run(options.seed, input.run)))
  }
  const results: Minimum[] = []
  let next = 0
  const lane = async () => {
    while (next < inputs.length) {
      const at = next++
      results[at] = finished(await inThread(inputs[at]!))
    }
  }
  await Promise.all(Array.from({ length: threads }, lane))
  return results
}

function inThread(input: RunInput): Promise<Minimum> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./optimize-worker.js', import.meta.url), { workerData: input })
    worker.once('message', resolve)
    worker.once('error', reject)
  })
}
