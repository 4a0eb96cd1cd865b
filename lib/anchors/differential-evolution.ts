// Minimises a function of a few bounded variables by differential evolution (Storn and Price, 1997: best/1/bin with immediate updating, from evenly spread
// points), and polishes a point by Nelder and Mead's simplex (1965) within bounds. Deterministic by seed. Knows nothing of anchors. The generations are
// WebAssembly and call the function directly when it is WebAssembly too: a short search is over before JavaScript has been compiled.
import { randomStream } from '../random.js'
import {
  type Code,
  call,
  compile,
  f64,
  i32,
  instantiate,
  type Local,
  newSpace,
  repeatWhile,
  type Space,
  type ValueType,
  type WasmFunction,
  wasmModule,
  when,
} from './wasm.js'

export interface EvolutionOptions {
  /** Individuals per variable. */
  populationPerVariable: number
  /** Factor of the difference vector. */
  mutation: number
  /** Chance that a variable comes from the mutant. */
  recombination: number
  /** Ends when the energies' standard deviation is below this share of their mean. */
  tolerance: number
  maxGenerations: number
}

export interface Minimum {
  x: number[]
  value: number
  generations: number
  evaluations: number
}

/** A function of the point that lies in a space. */
export interface Objective {
  space: Space
  /** Position of the point in the space. */
  point: number
  variables: number
  /** May return Infinity once the value is sure to exceed `limit`. */
  value(limit: number): number
}

export type Bounds = readonly (readonly [number, number])[]

/** A function in JavaScript as an objective. `x` is reused: copy it to keep it. */
export function plainObjective(variables: number, f: (x: Float64Array, limit: number) => number): Objective {
  const space = newSpace()
  const point = space.take(variables)
  const x = new Float64Array(variables)
  return {
    space,
    point,
    variables,
    value(limit) {
      for (let v = 0; v < variables; v++) x[v] = space.numbers[point + v]!
      return f(x, limit)
    },
  }
}

export function valueAt(
  { space, point, value }: Objective,
  x: readonly number[],
  limit = Number.POSITIVE_INFINITY,
): number {
  const { numbers } = space
  for (let v = 0; v < x.length; v++) numbers[point + v] = x[v]!
  return value(limit)
}

/** Prepares runs of differential evolution: (seed, run) -> what the run found. Runs of different numbers are independent. */
export function differentialEvolution(
  objective: Objective,
  bounds: Bounds,
  options: EvolutionOptions,
): (seed: number, run: number) => Minimum {
  const { space, point, variables } = objective
  const size = Math.max(5, options.populationPerVariable * variables)
  const [state, low, range, trial] = [2, variables, variables, variables].map((count) => space.take(count)) as [
    ...[number, number, number, number],
  ]
  // The population lives in the unit cube, row by row.
  const population = space.take(size * variables)
  const energies = space.take(size)
  const end = space.take(0)
  const wasm = instantiate(evolution, space, { objective: objective.value })
  const addresses = [state, low, range, trial, population, energies, end, point].map((position) => 8 * position)
  const { numbers } = space
  for (let v = 0; v < variables; v++) {
    numbers[low + v] = bounds[v]![0]
    numbers[range + v] = bounds[v]![1] - bounds[v]![0]
  }
  const energyOf = (individual: number) => {
    for (let v = 0; v < variables; v++)
      numbers[point + v] = numbers[low + v]! + numbers[population + individual * variables + v]! * numbers[range + v]!
    return objective.value(Number.POSITIVE_INFINITY)
  }
  const places = evenlySpread(variables)
  return (seed, run) => {
    const stream = randomStream(seed, 'differential evolution', run)
    new Uint32Array(numbers.buffer, 8 * state, 4).set([stream.uint32(), stream.uint32(), stream.uint32(), 1])
    for (let v = 0; v < variables; v++) {
      const shift = stream.uniform()
      for (let i = 0; i < size; i++) numbers[population + i * variables + v] = (shift + i * places[v]!) % 1
    }
    let best = 0
    for (let i = 0; i < size; i++) {
      numbers[energies + i] = energyOf(i)
      if (numbers[energies + i]! < numbers[energies + best]!) best = i
    }
    let generations = 0
    while (generations < options.maxGenerations) {
      if (wasm['unevenness']!(8 * energies, 8 * end, options.tolerance) <= 0) break
      generations++
      const found = wasm['generation']!(...addresses, 8 * (energies + best), options.mutation, options.recombination)
      best = found / 8 - energies
    }
    const value = energyOf(best)
    return {
      x: [...numbers.subarray(point, point + variables)],
      value,
      generations,
      evaluations: size * (generations + 1) + 1,
    }
  }
}

/**
 * Steps of an additive recurrence that fills the unit cube evenly, whatever the number of points: powers of 1/g, where g is the root above 1 of
 * g^(d+1) = g + 1, the golden ratio at d = 1 (M. Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018).
 */
function evenlySpread(variables: number): number[] {
  let g = 1.5
  for (let i = 0; i < 40; i++) g = (1 + g) ** (1 / (variables + 1))
  return Array.from({ length: variables }, (_, v) => g ** -(v + 1))
}

/** Positions of the functions: the imported one first. */
const [OBJECTIVE, RANDOM] = [0, 1]
const EIGHT = i32.of(8)

/** A number in [0, 1) of 32 random bits: the generator of lib/random.ts, whose state lies at the address. */
const random: WasmFunction = {
  parameters: ['i32'],
  body(local, state) {
    const [a, b, c, counter] = [0, 4, 8, 12].map((offset) => i32.load(state.get, offset)) as [Code, Code, Code, Code]
    const t = local('i32')
    return [
      t.set(i32.add(i32.add(a, b), counter)),
      i32.store(state.get, 12, i32.add(counter, i32.of(1))),
      i32.store(state.get, 0, i32.xor(b, i32.shiftRight(b, i32.of(9)))),
      i32.store(state.get, 4, i32.add(c, i32.shiftLeft(c, i32.of(3)))),
      i32.store(state.get, 8, i32.add(i32.rotateLeft(c, i32.of(21)), t.get)),
      f64.mul(f64.fromI32(t.get), f64.of(2 ** -32)),
    ]
  },
}

/** Tries a successor of every individual. Takes addresses (of `best`: of its energy) and returns that of the best energy. */
const generation: WasmFunction = {
  parameters: [...Array<ValueType>(9).fill('i32'), 'f64', 'f64'],
  body(local, ...parameters) {
    const [state, low, range, trial, population, energies, end, point, best, mutation, recombination] = parameters as [
      ...[Local, Local, Local, Local, Local, Local, Local, Local, Local, Local, Local],
    ]
    const [e, p, q, v, certain] = [local('i32'), local('i32'), local('i32'), local('i32'), local('i32')]
    const [x, energy] = [local('f64'), local('f64')]
    const uniform = call(RANDOM, state.get)
    /** A number below that of the eights in `bytes`, times eight. */
    const anyOf = (bytes: Code) =>
      i32.shiftLeft(i32.fromF64(f64.mul(uniform, f64.fromI32(i32.shiftRight(bytes, i32.of(3))))), i32.of(3))
    const pick = (one: Local) => one.set(i32.add(energies.get, anyOf(i32.sub(end.get, energies.get))))
    const row = i32.sub(range.get, low.get)
    /** Address of variable v of the individual with that energy. */
    const variable = (of: Local) => {
      const count = i32.shiftRight(row, i32.of(3))
      return i32.add(i32.add(population.get, v.get), i32.mul(i32.sub(of.get, energies.get), count))
    }
    const step = (pointer: Local) => pointer.set(i32.add(pointer.get, EIGHT))
    const eachVariable = (...body: Code[]): Code => [
      v.set(i32.of(0)),
      repeatWhile(i32.less(v.get, row), ...body, step(v)),
    ]
    return [
      e.set(energies.get),
      repeatWhile(
        i32.less(e.get, end.get),
        pick(p),
        repeatWhile(i32.equal(p.get, e.get), pick(p)),
        pick(q),
        repeatWhile(i32.or(i32.equal(q.get, e.get), i32.equal(q.get, p.get)), pick(q)),
        certain.set(anyOf(row)),
        eachVariable(
          x.set(f64.load(variable(e))),
          when(
            i32.or(i32.equal(v.get, certain.get), f64.less(uniform, recombination.get)),
            x.set(
              f64.add(
                f64.load(variable(best)),
                f64.mul(mutation.get, f64.sub(f64.load(variable(p)), f64.load(variable(q)))),
              ),
            ),
            when(i32.or(f64.less(x.get, f64.of(0)), f64.more(x.get, f64.of(1))), x.set(uniform)),
          ),
          f64.store(i32.add(trial.get, v.get), 0, x.get),
          f64.store(
            i32.add(point.get, v.get),
            0,
            f64.add(f64.load(i32.add(low.get, v.get)), f64.mul(x.get, f64.load(i32.add(range.get, v.get)))),
          ),
        ),
        energy.set(call(OBJECTIVE, f64.load(e.get))),
        when(
          f64.atMost(energy.get, f64.load(e.get)),
          eachVariable(f64.store(variable(e), 0, f64.load(i32.add(trial.get, v.get)))),
          f64.store(e.get, 0, energy.get),
          when(f64.less(energy.get, f64.load(best.get)), best.set(e.get)),
        ),
        step(e),
      ),
      f64.fromI32(best.get),
    ]
  },
}

/** Variance of the energies less the square of `tolerance` times their mean: not above 0 when they are even, NaN while one is Infinity. */
const unevenness: WasmFunction = {
  parameters: ['i32', 'i32', 'f64'],
  body(local, energies, end, tolerance) {
    const [e, sum, squares, share, difference] = [local('i32'), local('f64'), local('f64'), local('f64'), local('f64')]
    const over = (...body: Code[]): Code => [
      e.set(energies.get),
      repeatWhile(i32.less(e.get, end.get), ...body, e.set(i32.add(e.get, EIGHT))),
    ]
    return [
      share.set(f64.div(f64.of(8), f64.fromI32(i32.sub(end.get, energies.get)))),
      over(sum.set(f64.add(sum.get, f64.mul(share.get, f64.load(e.get))))),
      over(
        difference.set(f64.sub(f64.load(e.get), sum.get)),
        squares.set(f64.add(squares.get, f64.mul(share.get, f64.mul(difference.get, difference.get)))),
      ),
      f64.sub(squares.get, f64.mul(f64.mul(tolerance.get, tolerance.get), f64.mul(sum.get, sum.get))),
    ]
  },
}

/** Compiled when this file is loaded, once for all searches of the process. */
const evolution = compile(wasmModule({ random, generation, unevenness }, { objective: ['f64'] }))

/** First step of the simplex, in shares of the bounds. */
const STEP = 0.02

/**
 * Walks downhill from `from` by Nelder and Mead's simplex; points outside the bounds are moved to their border. Ends when the simplex is smaller than
 * `tolerance` (a share of the bounds), or its values differ by less than a tenth of that share of the least.
 */
export function nelderMead(objective: Objective, bounds: Bounds, from: readonly number[], tolerance = 1e-5): Minimum {
  const n = from.length
  const start = from.map((x, v) => (x - bounds[v]![0]) / (bounds[v]![1] - bounds[v]![0]))
  const place = (unit: readonly number[]) => unit.map((u, v) => bounds[v]![0] + u * (bounds[v]![1] - bounds[v]![0]))
  const inside = (x: number[]) => x.map((v) => Math.min(1, Math.max(0, v)))
  let evaluations = 0
  const point = (x: number[], limit = Number.POSITIVE_INFINITY) => {
    evaluations++
    return { x, value: valueAt(objective, place(x), limit) }
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
