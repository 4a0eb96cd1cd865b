// Slope of the radial power spectrum of a square part of an image, for the tests of phantoms. Not a test itself.

/** Slope of log power over log frequency between 4 cycles per part and 0.2 cycles per pixel; `size` is a power of two. */
export function spectrumSlope(pixels: ArrayLike<number>, width: number, x0: number, y0: number, size: number): number {
  const re = new Float64Array(size * size)
  const im = new Float64Array(size * size)
  let mean = 0
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) mean += pixels[(y0 + y) * width + x0 + x]! / size ** 2
  const hann = (n: number) => Math.sin((Math.PI * (n + 0.5)) / size) ** 2
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) re[y * size + x] = (pixels[(y0 + y) * width + x0 + x]! - mean) * hann(x) * hann(y)
  }
  for (let n = 0; n < size; n++) transform(re, im, n * size, 1, size)
  for (let n = 0; n < size; n++) transform(re, im, n, size, size)
  const rings = Math.floor(size * 0.2)
  const power = new Float64Array(rings + 1)
  const count = new Float64Array(rings + 1)
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const ring = Math.round(Math.hypot(x < size / 2 ? x : x - size, y < size / 2 ? y : y - size))
      if (ring > rings) continue
      power[ring]! += re[y * size + x]! ** 2 + im[y * size + x]! ** 2
      count[ring]!++
    }
  }
  // Weights 1 / ring give every octave the same say.
  let [w, sx, sy, sxx, sxy] = [0, 0, 0, 0, 0]
  for (let ring = 4; ring <= rings; ring++) {
    const [x, y, weight] = [Math.log(ring), Math.log(power[ring]! / count[ring]!), 1 / ring]
    w += weight
    sx += weight * x
    sy += weight * y
    sxx += weight * x * x
    sxy += weight * x * y
  }
  return (w * sxy - sx * sy) / (w * sxx - sx * sx)
}

/** Fourier transform in place of `size` values `step` apart: radix 2, bit reversal first. */
function transform(re: Float64Array, im: Float64Array, offset: number, step: number, size: number): void {
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1
    for (; (j & bit) !== 0; bit >>= 1) j ^= bit
    j ^= bit
    if (i >= j) continue
    for (const part of [re, im]) {
      const swap = part[offset + i * step]!
      part[offset + i * step] = part[offset + j * step]!
      part[offset + j * step] = swap
    }
  }
  for (let length = 2; length <= size; length *= 2) {
    for (let k = 0; k < length / 2; k++) {
      const [cos, sin] = [Math.cos((-2 * Math.PI * k) / length), Math.sin((-2 * Math.PI * k) / length)]
      for (let i = 0; i < size; i += length) {
        const a = offset + (i + k) * step
        const b = offset + (i + k + length / 2) * step
        const [vr, vi] = [re[b]! * cos - im[b]! * sin, re[b]! * sin + im[b]! * cos]
        re[b] = re[a]! - vr
        im[b] = im[a]! - vi
        re[a]! += vr
        im[a]! += vi
      }
    }
  }
}
