// A progress bar with an ETA on a terminal, a plain line every tenth elsewhere.
import { Presets, SingleBar } from 'cli-progress'
import type { Io } from './io.js'

export interface ProgressBar {
  update(done: number, total: number): void
  stop(): void
}

export function progressBar(io: Io, what: string, shown: boolean): ProgressBar {
  if (!shown) return { update: () => {}, stop: () => {} }
  if (!io.isTty) return plainLines(io, what)
  const bar = new SingleBar(
    { format: `${what} [{bar}] {percentage}% | {value}/{total} | eta {eta_formatted}`, stream: process.stderr },
    Presets.legacy,
  )
  let started = false
  return {
    update(done, total) {
      if (!started) bar.start(total, done)
      started = true
      bar.update(done)
    },
    stop: () => bar.stop(),
  }
}

function plainLines(io: Io, what: string): ProgressBar {
  let shown = 0
  return {
    update(done, total) {
      const tenth = Math.floor((10 * done) / total)
      if (tenth > shown) io.stderr(`${what} ${done}/${total}\n`)
      shown = Math.max(shown, tenth)
    },
    stop: () => {},
  }
}
