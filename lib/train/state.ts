// Everything about the course of a run that is not in the session: where it stands and its counters. Plain JSON, stored in each
// checkpoint, so that a resumed run continues as if it had never stopped. Saved only between updates: the accumulation position
// is always 0, because a stop request first finishes the micro-batches of the update in hand.
import { freshPlateau, type PlateauState } from './schedule.js'

export interface Best {
  /** results.csv column. */
  metric: string
  value: number
  epoch: number
  step: number
}

/** Sums over the epoch in hand, for its means. */
export interface EpochSums {
  updates: number
  loss: number
  lossCls: number
  lossBox: number
  seconds: number
  waitedSeconds: number
}

export interface TrainingState {
  /** Index of the phase in hand. The run is complete when the last one has `ended` or has no epochs left. */
  phase: number
  /** Early stopping ended the phase in hand. */
  ended: boolean
  /** Epoch of the phase in hand, 0-based. */
  epoch: number
  /** Micro-batches of that epoch already used: the sampler's position. */
  batch: number
  /** Micro-batches accumulated but not applied; 0 in every checkpoint. */
  accumulated: 0
  /** Updates of the phase in hand, and of the run. Skipped updates count. */
  phaseStep: number
  step: number
  /** Finished epochs of the run (trained, evaluated, recorded). */
  epochsDone: number
  sums: EpochSums
  best: Best | null
  earlyStop: { best: number | null; bad: number }
  plateau: PlateauState
  /** Updates left out because of non-finite numbers, overflows of fp16 included. */
  skipped: number
  /** Wall time of all parts of the run. */
  wallSeconds: number
}

export const emptySums: EpochSums = { updates: 0, loss: 0, lossCls: 0, lossBox: 0, seconds: 0, waitedSeconds: 0 }

export function freshState(): TrainingState {
  return {
    ...{ phase: 0, ended: false, epoch: 0, batch: 0, accumulated: 0, phaseStep: 0, step: 0, epochsDone: 0 },
    sums: { ...emptySums },
    best: null,
    earlyStop: { best: null, bad: 0 },
    plateau: { ...freshPlateau },
    skipped: 0,
    wallSeconds: 0,
  }
}

/** The next epoch of the phase. */
export function nextEpoch(state: TrainingState): TrainingState {
  return { ...state, epoch: state.epoch + 1, batch: 0, sums: { ...emptySums } }
}

/** The first epoch of the next phase; schedule and stopping counters start anew, `best` stays. */
export function nextPhase(state: TrainingState): TrainingState {
  return {
    ...state,
    ...{ phase: state.phase + 1, ended: false, epoch: 0, batch: 0, phaseStep: 0 },
    sums: { ...emptySums },
    earlyStop: { best: null, bad: 0 },
    plateau: { ...freshPlateau },
  }
}
