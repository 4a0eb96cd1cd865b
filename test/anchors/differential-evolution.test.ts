import t from 'tap'
import { differentialEvolution, nelderMead, plainObjective, valueAt } from '../../lib/anchors/differential-evolution.js'

const options = { populationPerVariable: 10, mutation: 0.5, recombination: 0.7, tolerance: 1e-3, maxGenerations: 500 }

/** Many valleys; the lowest is 0 at 1/3 in every variable. */
function rastrigin(x: Float64Array): number {
  let sum = 0
  for (const v of x) sum += (v - 1 / 3) ** 2 + (1 - Math.cos(2 * Math.PI * (v - 1 / 3))) / 4
  return sum
}

t.test('finds the lowest of many valleys, the same for the same seed', (t) => {
  for (const variables of [1, 2, 5]) {
    const bounds = Array.from({ length: variables }, () => [-4, 5] as const)
    const search = differentialEvolution(plainObjective(variables, rastrigin), bounds, options)
    const found = search(3, 0)
    t.ok(found.value < 1e-2, `${variables} variables: ${found.value}`)
    t.ok(found.x.every((v) => Math.abs(v - 1 / 3) < 0.1))
    const again = differentialEvolution(plainObjective(variables, rastrigin), bounds, options)
    again(1, 4)
    t.same(again(3, 0), found, 'whatever ran before')
    if (variables > 1) t.notSame(search(3, 1).x, found.x, 'another run, another way')
  }
  t.end()
})

t.test('stays within the bounds, and counts what it asked', (t) => {
  const bounds = [
    [2, 3],
    [-1, -0.5],
  ] as const
  let asked = 0
  const objective = plainObjective(2, (x) => {
    asked++
    t.ok(x[0]! >= 2 && x[0]! <= 3 && x[1]! >= -1 && x[1]! <= -0.5)
    return x[0]! - x[1]!
  })
  const found = differentialEvolution(objective, bounds, options)(0, 0)
  t.equal(found.evaluations, asked)
  t.ok(Math.abs(found.value - 2.5) < 0.05, 'the corner')
  t.end()
})

t.test('a value that only says "too much" changes nothing', (t) => {
  const bounds = [[-4, 5] as const, [-4, 5] as const]
  const early = plainObjective(2, (x, limit) => {
    const value = rastrigin(x)
    return value > limit ? Number.POSITIVE_INFINITY : value
  })
  const full = plainObjective(2, rastrigin)
  t.same(differentialEvolution(early, bounds, options)(7, 0), differentialEvolution(full, bounds, options)(7, 0))
  t.end()
})

t.test('the simplex goes to the bottom, and to a border', (t) => {
  const bowl = plainObjective(2, (x) => (x[0]! - 0.4) ** 2 + 3 * (x[1]! + 0.2) ** 2)
  const inside = nelderMead(bowl, [[-1, 1] as const, [-1, 1] as const], [0.9, 0.9])
  t.ok(Math.hypot(inside.x[0]! - 0.4, inside.x[1]! + 0.2) < 1e-3)
  const outside = nelderMead(bowl, [[0.5, 1] as const, [-1, 1] as const], [0.9, 0.9])
  t.ok(Math.hypot(outside.x[0]! - 0.5, outside.x[1]! + 0.2) < 1e-2)
  t.equal(valueAt(bowl, outside.x), outside.value)
  t.end()
})
