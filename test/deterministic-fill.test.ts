import { createHash } from 'node:crypto'
import t from 'tap'
import { fillTensor, fnv1a, unitTimes2To23 } from './deterministic-fill.js'
import { oracleJson } from './oracles.js'

interface Vectors {
  unit: {
    name: string
    seed: number
    fnv1a32: number
    stream: number
    index: number[]
    unit_times_2_23: number[]
    sum_70000_times_2_23: number
  }[]
  fill: {
    name: string
    seed: number
    shape: number[]
    offset: number
    amp: number
    values: number[]
    sha256_f32: string
  }[]
}

t.test('the fill agrees with its test vectors', async (t) => {
  const vectors = await oracleJson<Vectors>(t, 'fill.json')
  if (!vectors) return
  for (const v of vectors.unit) {
    t.equal(fnv1a(v.name), v.fnv1a32, `hash of "${v.name}"`)
    t.equal((fnv1a(v.name) ^ v.seed) >>> 0, v.stream, `stream of "${v.name}" with seed ${v.seed}`)
    t.strictSame(
      v.index.map((index) => unitTimes2To23(v.stream, index)),
      v.unit_times_2_23,
    )
    let sum = 0
    for (let i = 0; i < 70000; i++) sum += unitTimes2To23(v.stream, i)
    t.equal(sum, v.sum_70000_times_2_23)
  }
  for (const v of vectors.fill) {
    const data = fillTensor(v, v.seed)
    t.strictSame(data, Float32Array.from(v.values), `values of "${v.name}"`)
    t.equal(createHash('sha256').update(Buffer.from(data.buffer)).digest('hex'), v.sha256_f32)
  }
})
