// Medians and spreads of timings.
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length === 0
    ? Number.NaN
    : sorted.length % 2 === 1
      ? sorted[middle]!
      : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Smallest and largest. */
export function spread(values: readonly number[]): [number, number] {
  return [Math.min(...values), Math.max(...values)]
}

/**
 * Seconds on a clock that only grows. With MAMMO_BENCH_CLOCK=processor it counts the processor time of this process, all threads together:
 * what one thread takes on a machine that others use too.
 */
export function now(): number {
  if (process.env['MAMMO_BENCH_CLOCK'] !== 'processor') return performance.now() / 1000
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

/** Runs `work` `warmup` times uncounted, then until `count` runs or `limitSeconds` are spent (at least `least`). Seconds of each run. */
export async function timed(
  work: () => Promise<unknown> | unknown,
  warmup: number,
  count: number,
  limitSeconds = 60,
  least = 3,
): Promise<number[]> {
  for (let i = 0; i < warmup; i++) await work()
  const seconds: number[] = []
  const end = performance.now() + limitSeconds * 1000
  while (seconds.length < count && (seconds.length < least || performance.now() < end)) {
    const start = now()
    await work()
    seconds.push(now() - start)
  }
  return seconds
}

/** Slope of the least-squares line through (log x, log y), and the largest slope between neighbours in the order given. */
export function powerLaw(x: readonly number[], y: readonly number[]): { exponent: number; steepest: number } {
  const [u, v] = [x.map(Math.log), y.map(Math.log)]
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
  const [mu, mv] = [mean(u), mean(v)]
  const exponent =
    u.reduce((sum, a, i) => sum + (a - mu) * (v[i]! - mv), 0) / u.reduce((sum, a) => sum + (a - mu) ** 2, 0)
  const pieces = u.slice(1).map((a, i) => (v[i + 1]! - v[i]!) / (a - u[i]!))
  return { exponent, steepest: Math.max(...pieces) }
}
