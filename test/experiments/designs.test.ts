// Search designs: every combination, repeatable draws, Sobol's published points and their even spread.
import t from 'tap'
import {
  type Axis,
  choiceAt,
  gridPoints,
  randomPoints,
  SOBOL_DIMENSIONS,
  sobolIntegers,
  sobolPoints,
} from '../../lib/experiments/designs.js'

const list = (name: string, values: readonly unknown[]): Axis => ({
  name,
  choices: values.map((value) => ({ label: String(value), set: { [name]: value } })),
})
const range = (name: string, min: number, max: number, log = false, integer = false): Axis => ({
  name,
  min,
  max,
  log,
  integer,
})

t.test('grid: every combination, the last axis fastest', async (t) => {
  const points = gridPoints([list('a', [1, 2]), list('b', ['x', 'y', 'z'])])
  t.same(
    points.map((point) => point.map((choice) => choice.label).join('')),
    ['1x', '1y', '1z', '2x', '2y', '2z'],
  )
  t.throws(() => gridPoints([range('c', 0, 1)]), { code: 'ERR_MAMMO_ARGUMENT' })
})

t.test('ranges: ends, logarithm, integers', async (t) => {
  t.same(choiceAt(range('lr', 1e-5, 1e-3, true), 0.5).set, { lr: 1e-4 })
  t.same(choiceAt(range('x', -1, 1), 0).set, { x: -1 })
  const integers = Array.from({ length: 100 }, (_, i) => choiceAt(range('n', 1, 4, false, true), i / 100).set['n'])
  t.same(new Set(integers), new Set([1, 2, 3, 4]))
})

t.test('random: by seed, and point n does not depend on the number of points', async (t) => {
  const axes = [range('a', 0, 1), list('b', [1, 2, 3])]
  const ten = randomPoints(axes, 10, 3)
  t.same(randomPoints(axes, 4, 3), ten.slice(0, 4))
  t.notSame(randomPoints(axes, 10, 4), ten)
})

t.test("Sobol: SciPy's points, and every projection of 2^k points fills 2^k cells", async (t) => {
  const points = sobolIntegers(SOBOL_DIMENSIONS, 64)
  const at = (n: number, d: number) => points[n]![d]! / 2 ** 32
  t.same(
    [0, 1, 2, 3, 4].map((d) => at(5, d)),
    [0.875, 0.875, 0.125, 0.375, 0.875],
  )
  t.same(
    [0, 7, 18].map((d) => at(37, d)),
    [0.921875, 0.796875, 0.046875],
  )
  for (const d of points[0]!.keys())
    t.equal(new Set(points.map((point) => point[d]! >>> 26)).size, 64, `dimension ${d}`)
  t.throws(() => sobolIntegers(SOBOL_DIMENSIONS + 1, 1), { code: 'ERR_MAMMO_ARGUMENT' })
})

t.test('Sobol: the shift of a seed keeps the spread', async (t) => {
  const axes = [list('a', [0, 1, 2, 3]), list('b', [0, 1, 2, 3])]
  for (const seed of [0, 1, 2]) {
    const cells = sobolPoints(axes, 16, seed).map((point) => point.map((choice) => choice.label).join(''))
    t.equal(new Set(cells).size, 16, `seed ${seed}`)
  }
  const fine = [range('a', 0, 1), range('b', 0, 1)]
  t.notSame(sobolPoints(fine, 4, 0), sobolPoints(fine, 4, 1))
})
