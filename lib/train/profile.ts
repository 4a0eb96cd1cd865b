// Where the time of training steps goes: sums the parts that the engine reports and the wait for data. No clock of its own.
import type { Phase } from '../config/phases.js'

/** Order of the table; what the engine does not report stays out. */
const PARTS = [
  'data',
  'copy',
  'warp',
  'matching',
  'backbone',
  'neck',
  'classification',
  'box',
  'loss',
  'classificationBackward',
  'boxBackward',
  'neckBackward',
  'backboneBackward',
  'optimizer',
  'other',
]

export interface Profile {
  steps: number
  /** Seconds per step by part; `data` is the wait for input, `other` what is in no part. */
  seconds: Record<string, number>
  total: number
}

export interface StepTimes {
  seconds: number
  waited: number
  parts: readonly Record<string, number>[]
  phase: Phase
  /** Canvas of each micro-batch. */
  inputs: readonly { images: number; height: number; width: number }[]
}

/** Mean over the steps given. Zero steps give zeros. */
export function profileOf(steps: readonly Pick<StepTimes, 'seconds' | 'waited' | 'parts'>[]): Profile {
  const n = Math.max(1, steps.length)
  const sums: Record<string, number> = { data: 0, other: 0 }
  let total = 0
  for (const step of steps) {
    let known = step.waited
    sums['data']! += step.waited
    for (const parts of step.parts) {
      for (const [part, s] of Object.entries(parts)) {
        sums[part] = (sums[part] ?? 0) + s
        known += s
      }
    }
    sums['other']! += Math.max(0, step.seconds - known)
    total += step.seconds
  }
  const ordered = [
    ...PARTS.filter((p) => sums[p] !== undefined),
    ...Object.keys(sums).filter((p) => !PARTS.includes(p)),
  ]
  return {
    steps: steps.length,
    seconds: Object.fromEntries(ordered.map((part) => [part, sums[part]! / n])),
    total: total / n,
  }
}

/** Lines for a terminal. */
export function profileTable({ steps, seconds, total }: Profile): string[] {
  const share = (s: number) => `${((100 * s) / Math.max(total, 1e-12)).toFixed(1)}%`.padStart(6)
  return [
    `profile of ${steps} steps (the first left out), ${total.toFixed(3)} s each`,
    ...Object.entries(seconds).map(([part, s]) => `  ${part.padEnd(24)} ${s.toFixed(4).padStart(9)} s ${share(s)}`),
  ]
}
