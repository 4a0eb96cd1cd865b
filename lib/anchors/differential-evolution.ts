// Minimises a function of a few bounded variables by differential evolution (Storn and Price, 1997: best/1/bin with immediate updating from a Latin
// hypercube start), and polishes a point by Nelder and Mead's simplex (1965) within bounds. Deterministic by seed. Knows nothing of anchors.
import { type RandomStream, randomStream } from '../random.js'

export interface EvolutionOptions {
  seed: number
  /** Independent stream of this run. */
  run: number
  /** Individuals per variable. */
  populationPerVariable: number
  /** Factor of the difference vector. */
  mutation: number
  /** Chance that a variable comes from the mutant. */
  recombination: number
  /** Ends when the energies' standard deviation is below this share of their mean. */
  tolerance: number
  maxGenerations: number
  /** Called after each generation; true stops the search. */
  onGeneration?: (generation: number, best: number) => boolean
}

export interface Minimum {
  x: number[]
  value: number
  generations: number
  evaluations: number
}

/** May return Infinity once its value is sure to exceed `limit`. `x` is reused: copy it to keep it. */
export type Objective = (x: readonly number[], limit: number) => number

export function differentialEvolution(
  objective: Objective,
  bounds: readonly (readonly [number, number])[],
  options: EvolutionOptions,
): Minimum {
  const random = randomStream(options.seed, 'differential evolution', options.run)
  const variables = bounds.length
  const size = Math.max(5, options.populationPerVariable * variables)
  const low = Float64Array.from(bounds, (bound) => bound[0])
  const range = Float64Array.from(bounds, (bound) => bound[1] - bound[0])
  // The population lives in the unit cube, row by row.
  const population = latinHypercube(size, variables, random)
  const x = new Array<number>(variables).fill(0)
  const evaluate = (unit: Float64Array, at: number, limit: number) => {
    for (let v = 0; v < variables; v++) x[v] = low[v]! + unit[at + v]! * range[v]!
    return objective(x, limit)
  }
  const energies = Float64Array.from({ length: size }, (_, i) => evaluate(population, i * variables, Infinity))
  const trial = new Float64Array(variables)
  let best = energies.indexOf(Math.min(...energies))
  let evaluations = size
  let generations = 0
  while (generations < options.maxGenerations && !converged(energies, options.tolerance)) {
    generations++
    for (let i = 0; i < size; i++) {
      let p = random.integer(size)
      while (p === i) p = random.integer(size)
      let q = random.integer(size)
      while (q === i || q === p) q = random.integer(size)
      const certain = random.integer(variables)
      for (let v = 0; v < variables; v++) {
        trial[v] = population[i * variables + v]!
        if (v !== certain && random.uniform() >= options.recombination) continue
        const difference = population[p * variables + v]! - population[q * variables + v]!
        const mutant = population[best * variables + v]! + options.mutation * difference
        trial[v] = mutant >= 0 && mutant <= 1 ? mutant : random.uniform()
      }
      const energy = evaluate(trial, 0, energies[i]!)
      evaluations++
      if (energy > energies[i]!) continue
      population.set(trial, i * variables)
      energies[i] = energy
      if (energy < energies[best]!) best = i
    }
    if (options.onGeneration?.(generations, energies[best]!)) break
  }
  const value = evaluate(population, best * variables, Infinity)
  return { x: [...x], value, generations, evaluations }
}

/** [size, variables]: one point in each of `size` equal slices of every axis. */
function latinHypercube(size: number, variables: number, random: RandomStream): Float64Array {
  const points = new Float64Array(size * variables)
  for (let v = 0; v < variables; v++) {
    const slices = random.shuffle(Array.from({ length: size }, (_, i) => i))
    for (let i = 0; i < size; i++) points[i * variables + v] = (slices[i]! + random.uniform()) / size
  }
  return points
}

function converged(energies: Float64Array, tolerance: number): boolean {
  let mean = 0
  for (const energy of energies) mean += energy / energies.length
  if (!Number.isFinite(mean)) return false
  let variance = 0
  for (const energy of energies) variance += (energy - mean) ** 2 / energies.length
  return Math.sqrt(variance) <= tolerance * Math.abs(mean)
}

/** First step of the simplex, in shares of the bounds. */
const STEP = 0.02

/**
 * Walks downhill from `from` by Nelder and Mead's simplex; points outside the bounds are moved to their border. Ends when the simplex is smaller than
 * `tolerance` (a share of the bounds), or its values differ by less than a tenth of that share of the least.
 */
export function nelderMead(
  objective: Objective,
  bounds: readonly (readonly [number, number])[],
  from: readonly number[],
  tolerance = 1e-5,
): Minimum {
  const n = from.length
  const start = from.map((x, v) => (x - bounds[v]![0]) / (bounds[v]![1] - bounds[v]![0]))
  const place = (unit: readonly number[]) => unit.map((u, v) => bounds[v]![0] + u * (bounds[v]![1] - bounds[v]![0]))
  const inside = (x: number[]) => x.map((v) => Math.min(1, Math.max(0, v)))
  let evaluations = 0
  const point = (x: number[], limit = Number.POSITIVE_INFINITY) => {
    evaluations++
    return { x, value: objective(place(x), limit) }
  }
  const simplex = [point(start)]
  for (let v = 0; v < n; v++) {
    const x = [...start]
    x[v] = x[v]! + (x[v]! + STEP <= 1 ? STEP : -STEP)
    simplex.push(point(x))
  }
  const byValue = () => simplex.sort((a, b) => a.value - b.value)
  byValue()
  while (evaluations < 200 * n) {
    const [least, worst] = [simplex[0]!, simplex[n]!]
    const spread = Math.max(...simplex.flatMap(({ x }) => x.map((v, i) => Math.abs(v - least.x[i]!))))
    if (spread < tolerance || worst.value - least.value <= 0.1 * tolerance * Math.abs(least.value)) break
    const middle = least.x.map((_, i) => simplex.slice(0, n).reduce((sum, { x }) => sum + x[i]!, 0) / n)
    const along = (t: number) => inside(middle.map((m, i) => m + t * (worst.x[i]! - m)))
    const reflected = point(along(-1), worst.value)
    if (reflected.value < least.value) {
      const expanded = point(along(-2), reflected.value)
      simplex[n] = expanded.value < reflected.value ? expanded : reflected
    } else if (reflected.value < simplex[n - 1]!.value) {
      simplex[n] = reflected
    } else {
      const contracted = point(
        along(reflected.value < worst.value ? -0.5 : 0.5),
        Math.min(worst.value, reflected.value),
      )
      if (contracted.value < Math.min(worst.value, reflected.value)) simplex[n] = contracted
      else
        for (let k = 1; k <= n; k++)
          simplex[k] = point(inside(least.x.map((v, i) => v + 0.5 * (simplex[k]!.x[i]! - v))))
    }
    byValue()
  }
  return { x: place(simplex[0]!.x), value: simplex[0]!.value, generations: 0, evaluations }
}
