// Which settings a search tries: every combination (grid), independent draws (random), or Sobol's evenly spread points. Pure, and
// deterministic by seed: point n does not depend on how many points there are. Direction numbers of Sobol's sequence: Joe and Kuo,
// "Constructing Sobol sequences with better two-dimensional projections", 2008; Gray code order of Antonov and Saleev, 1979.
import { UsageError } from '../errors.js'
import { randomStream } from '../random.js'

/** One value of an axis and the keys that it sets. */
export interface Choice {
  label: string
  set: Readonly<Record<string, unknown>>
}

/** A list of choices, or a range of one numeric key. */
export type Axis =
  | { name: string; choices: readonly Choice[] }
  | { name: string; min: number; max: number; log: boolean; integer: boolean }

/** One choice per axis, in the order of the axes. */
export type Point = readonly Choice[]

/** Every combination; the last axis changes fastest. Throws UsageError ARGUMENT for an axis that is a range. */
export function gridPoints(axes: readonly Axis[]): Point[] {
  return axes.reduce<Point[]>(
    (points, axis) => {
      if (!('choices' in axis)) {
        throw new UsageError('ARGUMENT', `grid: expected a list of values for ${axis.name}, got a range`, {
          fix: 'list the values, or use method random, sobol or halving',
        })
      }
      return points.flatMap((point) => axis.choices.map((choice) => [...point, choice]))
    },
    [[]],
  )
}

/** `count` independent draws. */
export function randomPoints(axes: readonly Axis[], count: number, seed: number): Point[] {
  return Array.from({ length: count }, (_, n) =>
    axes.map((axis) => choiceAt(axis, randomStream(seed, 'sweep', axis.name, n).uniform())),
  )
}

/** The first `count` points of Sobol's sequence, moved by a digital shift that the seed chooses, which keeps their even spread. */
export function sobolPoints(axes: readonly Axis[], count: number, seed: number): Point[] {
  const shifts = axes.map((axis) => randomStream(seed, 'sobol', axis.name).uint32())
  return sobolIntegers(axes.length, count).map((point) =>
    axes.map((axis, d) => choiceAt(axis, ((point[d]! ^ shifts[d]!) >>> 0) / 2 ** 32)),
  )
}

/** The choice of an axis at u in [0, 1). */
export function choiceAt(axis: Axis, u: number): Choice {
  if ('choices' in axis) return axis.choices[Math.floor(u * axis.choices.length)]!
  const { name, min, max, log, integer } = axis
  const continuous = log ? Math.exp(Math.log(min) + u * Math.log(max / min)) : min + u * (max - min)
  const value = integer
    ? Math.min(max, Math.floor(min + u * (max - min + 1)))
    : // Four digits: a value that can be read, typed and repeated.
      Math.min(max, Math.max(min, Number(continuous.toPrecision(4))))
  return { label: String(value), set: { [name]: value } }
}

/** Per dimension from the second: degree s and coefficients a of the primitive polynomial, initial direction numbers m. */
const DIRECTIONS: readonly (readonly [number, number, readonly number[]])[] = [
  [1, 0, [1]],
  [2, 1, [1, 3]],
  [3, 1, [1, 3, 1]],
  [3, 2, [1, 1, 1]],
  [4, 1, [1, 1, 3, 3]],
  [4, 4, [1, 3, 5, 13]],
  [5, 2, [1, 1, 5, 5, 17]],
  [5, 4, [1, 1, 5, 5, 5]],
  [5, 7, [1, 1, 7, 11, 19]],
  [5, 11, [1, 1, 5, 1, 1]],
  [5, 13, [1, 1, 1, 3, 11]],
  [5, 14, [1, 3, 5, 5, 31]],
  [6, 1, [1, 3, 3, 9, 7, 49]],
  [6, 13, [1, 1, 1, 15, 21, 21]],
  [6, 16, [1, 3, 1, 13, 27, 49]],
  [6, 19, [1, 1, 1, 15, 7, 5]],
  [6, 22, [1, 3, 1, 15, 13, 25]],
  [6, 25, [1, 1, 5, 5, 19, 61]],
]
export const SOBOL_DIMENSIONS = DIRECTIONS.length + 1
const BITS = 32

/** Unshifted points [count][dimensions] as integers in units of 2^-32; the first is 0. Throws UsageError ARGUMENT for too many dimensions. */
export function sobolIntegers(dimensions: number, count: number): Uint32Array[] {
  if (dimensions > SOBOL_DIMENSIONS) {
    throw new UsageError('ARGUMENT', `sobol: expected at most ${SOBOL_DIMENSIONS} keys, got ${dimensions}`, {
      fix: 'use method random',
    })
  }
  const directions = Array.from({ length: dimensions }, (_, d) => directionNumbers(d))
  const state = new Uint32Array(dimensions)
  return Array.from({ length: count }, (_, n) => {
    if (n > 0) {
      // Position of the lowest zero bit of n - 1.
      const bit = 31 - Math.clz32(~(n - 1) & n)
      for (let d = 0; d < dimensions; d++) state[d] = (state[d]! ^ directions[d]![bit]!) >>> 0
    }
    return state.slice()
  })
}

function directionNumbers(dimension: number): Uint32Array {
  const v = new Uint32Array(BITS)
  if (dimension === 0) {
    for (let i = 0; i < BITS; i++) v[i] = (1 << (BITS - 1 - i)) >>> 0
    return v
  }
  const [s, a, m] = DIRECTIONS[dimension - 1]!
  for (let i = 0; i < BITS; i++) {
    if (i < s) {
      v[i] = (m[i]! << (BITS - 1 - i)) >>> 0
      continue
    }
    let value = v[i - s]! ^ (v[i - s]! >>> s)
    for (let k = 1; k < s; k++) if ((a >>> (s - 1 - k)) & 1) value ^= v[i - k]!
    v[i] = value >>> 0
  }
  return v
}
