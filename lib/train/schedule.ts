// The learning rate as pure functions of the step. All rates are factor x peak; a resumed run needs only the step number and,
// for `plateau`, the small state below. Sources: torchvision (warm-up, milestones), SGDR (cosine), Smith (one cycle), Keras
// (plateau: the rate falls after `patience` evaluations without improvement of at least 1e-4).
import type { ScheduleConfig } from '../config/schema.js'

/** Length of a phase in updates. */
export interface Course {
  total: number
  perEpoch: number
}

export interface PlateauState {
  best: number | null
  /** Evaluations since the last improvement or reduction. */
  bad: number
  /** Product of all reductions so far. */
  factor: number
}

export const freshPlateau: PlateauState = { best: null, bad: 0, factor: 1 }

/** Share of a one-cycle phase in which the rate rises (Smith; fast.ai). */
const ONE_CYCLE_RISE = 0.3
/** Improvement that counts for the plateau rule (Keras' and keras-retinanet's min_delta). */
const PLATEAU_MIN_DELTA = 1e-4

/**
 * Factor of the peak rate for update number `step` of the phase (0-based, before the update).
 *
 *     warm-up, step < W:  w + (1 - w) step / W
 *     constant            1
 *     step                f ^ (milestones m with m * perEpoch <= step)
 *     cosine              e + (1 - e) (1 + cos(pi p)) / 2,  p = (step - W) / (total - W)
 *     onecycle            half cosine w -> 1 over the first 30 %, then half cosine 1 -> e; no linear warm-up
 *     plateau             the state's factor
 */
export function rateFactor(step: number, course: Course, schedule: ScheduleConfig, plateau = freshPlateau): number {
  const { kind, warmupSteps, warmupFactor, finalFactor } = schedule
  if (kind === 'onecycle') {
    const top = ONE_CYCLE_RISE * course.total
    if (step < top) return halfCosine(warmupFactor, 1, step / top)
    return halfCosine(1, finalFactor, progress(step, top, course.total))
  }
  const warmup = step < warmupSteps ? warmupFactor + ((1 - warmupFactor) * step) / warmupSteps : 1
  if (kind === 'plateau') return warmup * plateau.factor
  if (kind === 'step') {
    const passed = schedule.milestones.filter((epoch) => epoch * course.perEpoch <= step).length
    return warmup * schedule.factor ** passed
  }
  if (kind === 'cosine' && step >= warmupSteps) {
    return halfCosine(1, finalFactor, progress(step, warmupSteps, course.total))
  }
  return warmup
}

/** The plateau's state after an evaluation gave `value` for the monitored column. */
export function plateauAfter(state: PlateauState, value: number, schedule: ScheduleConfig): PlateauState {
  if (improves(schedule.monitor, value, state.best, PLATEAU_MIN_DELTA)) return { ...state, best: value, bad: 0 }
  const bad = state.bad + 1
  if (bad < Math.max(1, schedule.patience)) return { ...state, bad }
  return { ...state, bad: 0, factor: state.factor * schedule.factor }
}

/** Whether `value` of a results.csv column beats `best` by more than `minDelta`; losses are better when lower. NaN never improves. */
export function improves(column: string, value: number, best: number | null, minDelta = 0): boolean {
  if (!Number.isFinite(value)) return false
  if (best === null) return true
  return lowerIsBetter(column) ? value < best - minDelta : value > best + minDelta
}

export function lowerIsBetter(column: string): boolean {
  return column.includes('loss')
}

function progress(step: number, from: number, total: number): number {
  return total <= from ? 1 : Math.min(1, (step - from) / (total - from))
}

function halfCosine(from: number, to: number, share: number): number {
  return to + ((from - to) * (1 + Math.cos(Math.PI * share))) / 2
}
