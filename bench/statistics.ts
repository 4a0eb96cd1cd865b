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
    const start = performance.now()
    await work()
    seconds.push((performance.now() - start) / 1000)
  }
  return seconds
}
