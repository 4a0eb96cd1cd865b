// Mean and standard deviation over breast pixels, exact: per image the count, sum and sum of squares of its non-zero pixels
// as decimal strings, added as big integers. Order and number of workers cannot change a bit (datasets spec 4.2).
import { DataError } from '../errors.js'

/** Of the non-zero pixels of one image or of many: count, sum, sum of squares, as decimal integers. */
export interface PixelSums {
  n: string
  S: string
  Q: string
}

export interface PixelStatistics extends PixelSums {
  mean: number
  /** Population standard deviation. */
  std: number
}

/** Sums over the non-zero values of `pixels` (any layout). A chunk of 2^16 squares stays below 2^53, so each is exact. */
export function pixelSums(pixels: Uint16Array): PixelSums {
  let n = 0
  let sum = 0n
  let squares = 0n
  for (let start = 0; start < pixels.length; start += 65536) {
    const end = Math.min(pixels.length, start + 65536)
    let chunkSum = 0
    let chunkSquares = 0
    for (let i = start; i < end; i++) {
      const v = pixels[i]!
      if (v !== 0) n++
      chunkSum += v
      chunkSquares += v * v
    }
    sum += BigInt(chunkSum)
    squares += BigInt(chunkSquares)
  }
  return { n: String(n), S: String(sum), Q: String(squares) }
}

/** Mean S/n and deviation sqrt((nQ - S^2)/n^2) of the given sums together. Throws ERR_MAMMO_MANIFEST when no pixel was counted. */
export function combineSums(parts: Iterable<PixelSums>, where: string): PixelStatistics {
  let [n, sum, squares] = [0n, 0n, 0n]
  for (const part of parts) {
    n += BigInt(part.n)
    sum += BigInt(part.S)
    squares += BigInt(part.Q)
  }
  if (n === 0n) {
    throw new DataError('MANIFEST', 'expected at least one non-zero pixel to compute statistics from, got none', {
      where,
      fix: 'check that the images are not blank and that the split has training images',
      details: { rule: 'statistics/empty' },
    })
  }
  return {
    n: String(n),
    S: String(sum),
    Q: String(squares),
    mean: Number(sum) / Number(n),
    std: Math.sqrt(Number(n * squares - sum * sum) / Number(n * n)),
  }
}
