// Deterministic random numbers keyed by a seed and any list of keys, such as ('sampler', epoch, index). Every key list opens its own
// stream, so that a value never depends on what was drawn before for something else: resume needs a step number, not a replay.
// Method: the keys are hashed (32-bit FNV-1a per part, mixed) into the 128-bit state of sfc32 ("small fast counting" generator,
// Doty-Humphrey, PractRand, public domain). Integer arithmetic only: the same numbers on every machine. Not for cryptography.

/** A stream of random numbers. */
export interface RandomStream {
  /** An integer in [0, 2^32). */
  uint32(): number
  /** A number in [lo, hi), with 53 random bits; the default range is [0, 1). */
  uniform(lo?: number, hi?: number): number
  /** An integer in [0, n), without bias; n in 1..2^32. */
  integer(n: number): number
  /** A standard normal number (Box-Muller, one per call). */
  normal(): number
  /** Shuffles in place (Fisher-Yates) and returns the same array. */
  shuffle<T>(a: T[]): T[]
}

/** Finaliser of MurmurHash3: every input bit reaches every output bit. */
function mix(x: number): number {
  x ^= x >>> 16
  x = Math.imul(x, 0x85ebca6b)
  x ^= x >>> 13
  x = Math.imul(x, 0xc2b2ae35)
  return (x ^ (x >>> 16)) >>> 0
}

const floatBits = new DataView(new ArrayBuffer(8))

/** FNV-1a over a key: a type byte first, so that 1 and '1' differ, then the bytes of the double or the UTF-16 units. */
function hashKey(hash: number, key: number | string): number {
  let h = hash
  const byte = (b: number) => {
    h = Math.imul(h ^ b, 0x01000193)
  }
  if (typeof key === 'number') {
    byte(1)
    floatBits.setFloat64(0, key === 0 ? 0 : key)
    for (let i = 0; i < 8; i++) byte(floatBits.getUint8(i))
  } else {
    byte(2)
    for (let i = 0; i < key.length; i++) {
      const unit = key.charCodeAt(i)
      byte(unit & 255)
      byte(unit >>> 8)
    }
  }
  return mix(h)
}

/** Opens the stream of (seed, ...keys). The same arguments give the same numbers; any other arguments independent ones. */
export function randomStream(seed: number, ...keys: (number | string)[]): RandomStream {
  let a = 0x9e3779b9
  let b = 0x243f6a88
  let c = 0xb7e15162
  for (const key of [seed, ...keys]) {
    a = hashKey(a, key)
    b = hashKey(b ^ a, key)
    c = hashKey(c ^ b, key)
  }
  let counter = 1

  const uint32 = (): number => {
    const t = (a + b + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = ((c << 21) | (c >>> 11)) + t
    c |= 0
    return t >>> 0
  }
  for (let i = 0; i < 12; i++) uint32()

  const unit = (): number => ((uint32() >>> 5) * 67108864 + (uint32() >>> 6)) / 9007199254740992

  const integer = (n: number): number => {
    if (!(Number.isInteger(n) && n >= 1 && n <= 4294967296))
      throw new RangeError(`integer(n) expects an integer n in 1..2^32, got ${n}`)
    // Lemire, "Fast random integer generation in an interval", 2019: the high word of x * n, redrawn where its low word would bias it.
    // Exact in doubles up to n = 2^21; beyond, values from the incomplete last block of size n are drawn again.
    if (n <= 2097152) {
      let product = uint32() * n
      let high = Math.floor(product / 4294967296)
      let low = product - high * 4294967296
      if (low < n) {
        const biased = 4294967296 % n
        while (low < biased) {
          product = uint32() * n
          high = Math.floor(product / 4294967296)
          low = product - high * 4294967296
        }
      }
      return high
    }
    const limit = 4294967296 - (4294967296 % n)
    let x = uint32()
    while (x >= limit) x = uint32()
    return x % n
  }

  return {
    uint32,
    integer,
    uniform: (lo = 0, hi = 1) => lo + (hi - lo) * unit(),
    normal: () => Math.sqrt(-2 * Math.log(1 - unit())) * Math.cos(2 * Math.PI * unit()),
    shuffle: (array) => {
      for (let i = array.length - 1; i > 0; i--) {
        const j = integer(i + 1)
        const swap = array[i]!
        array[i] = array[j]!
        array[j] = swap
      }
      return array
    },
  }
}
