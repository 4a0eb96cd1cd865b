// The deterministic parameter fill of the whole-model fixtures: every weight follows from its name, a seed and its index. The
// recipe and its test vectors (fill.json) stand in the README of the oracle folder. Shared by every parity test of whole models.

/** A parameter as a fixture lists it. */
export interface FilledParameter {
  name: string
  shape: number[]
  offset: number
  amp: number
}

export interface FillFixture {
  seed: number
  parameters: FilledParameter[]
}

/** FNV-1a, 32 bit, over the UTF-8 bytes. */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(text, 'utf8')) hash = Math.imul(hash ^ byte, 0x01000193)
  return hash >>> 0
}

/** The index-th number of a stream, times 2^23: an integer in [-2^23, 2^23). */
export function unitTimes2To23(stream: number, index: number): number {
  let x = (Math.imul(index, 0x9e3779b1) + stream) | 0
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
  x ^= x >>> 16
  return (x >>> 8) - 2 ** 23
}

export function fillTensor({ name, shape, offset, amp }: FilledParameter, seed: number): Float32Array {
  const data = new Float32Array(shape.reduce((product, dim) => product * dim, 1))
  const stream = fnv1a(name) ^ seed
  const start = Math.fround(offset)
  const scale = Math.fround(amp)
  for (let i = 0; i < data.length; i++) data[i] = start + scale * (unitTimes2To23(stream, i) / 2 ** 23)
  return data
}

/** All parameters of a fixture under the reference's names and in the reference's layout. */
export function fillParameters(fixture: FillFixture): Map<string, { shape: number[]; data: Float32Array }> {
  return new Map(
    fixture.parameters.map((parameter) => [
      parameter.name,
      { shape: parameter.shape, data: fillTensor(parameter, fixture.seed) },
    ]),
  )
}
