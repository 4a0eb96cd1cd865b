// What a person sees while a run goes on: one redrawn line on a terminal, plain lines elsewhere, records with `--log json`,
// nothing with `--quiet`. The texts are pure functions; the display only decides when to write which.
import { eventLine, type RunEvent } from './events.js'

export interface DisplayOptions {
  write: (text: string) => void
  isTty: boolean
  columns: number
  mode: 'text' | 'json' | 'quiet'
  /** Updates between plain lines. */
  logEvery: number
}

/** Where a run stands, for the line. */
export interface Standing {
  epoch: number
  epochs: number
  iter: number
  iters: number
  loss: number
  lossCls: number
  lossBox: number
  lr: number
  imagesPerSecond: number
  dataFraction: number
  deviceBytes: number
  hostBytes: number
  etaSeconds: number
}

export interface Display {
  standing(standing: Standing): void
  /** What takes time now, on a terminal only; the next drawing replaces it. */
  note(text: string): void
  /** A record, shown as JSON in that mode. */
  event(event: RunEvent): void
  say(text: string): void
  /** Ends the redrawn line. */
  close(): void
}

/** Shortest time between two drawings of the line. */
const REDRAW_MS = 100
const BAR_WIDTH = 16

export function createDisplay(options: DisplayOptions, clock = Date.now): Display {
  const { write, isTty, columns, mode, logEvery } = options
  let open = false
  let drawnAt = -Infinity
  const close = () => {
    if (open) write('\n')
    open = false
  }
  const draw = (text: string, always: boolean) => {
    if (!always && clock() - drawnAt < REDRAW_MS) return
    drawnAt = clock()
    open = true
    write(`\r\x1b[K${text.slice(0, Math.max(20, columns - 1))}`)
  }
  return {
    standing(standing) {
      if (mode !== 'text') return
      const last = standing.iter === standing.iters
      if (isTty) draw(progressLine(standing), last)
      else if (standing.iter % logEvery === 0 || last) write(`${progressLine(standing)}\n`)
    },
    note(text) {
      if (mode === 'text' && isTty) draw(text, false)
    },
    event(event) {
      if (mode === 'json') write(eventLine(event))
    },
    say(text) {
      if (mode !== 'text') return
      close()
      write(`${text}\n`)
    },
    close,
  }
}

/** `epoch 12/40 [##########------]  63%  loss 0.412 (cls 0.231 box 0.181)  lr 1.0e-4  2.8 img/s  data 4%  gpu 41.2G  cpu 6.1G  eta 1h52` */
export function progressLine(s: Standing): string {
  const share = s.iters === 0 ? 1 : s.iter / s.iters
  const filled = Math.round(share * BAR_WIDTH)
  return [
    `epoch ${s.epoch}/${s.epochs} [${'#'.repeat(filled)}${'-'.repeat(BAR_WIDTH - filled)}] ${percent(share).padStart(4)}`,
    `loss ${s.loss.toFixed(3)} (cls ${s.lossCls.toFixed(3)} box ${s.lossBox.toFixed(3)})`,
    `lr ${rate(s.lr)}`,
    `${s.imagesPerSecond.toPrecision(2)} img/s`,
    `data ${percent(s.dataFraction)}`,
    ...(s.deviceBytes > 0 ? [`gpu ${gigabytes(s.deviceBytes)}`] : []),
    `cpu ${gigabytes(s.hostBytes)}`,
    `eta ${duration(s.etaSeconds)}`,
  ].join('  ')
}

/** 45s, 12m30, 1h52, 3d04h. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?'
  const s = Math.round(seconds)
  const two = (n: number) => String(Math.floor(n)).padStart(2, '0')
  if (s < 60) return `${s}s`
  if (s < 3600) return `${Math.floor(s / 60)}m${two(s % 60)}`
  if (s < 86400) return `${Math.floor(s / 3600)}h${two((s % 3600) / 60)}`
  return `${Math.floor(s / 86400)}d${two((s % 86400) / 3600)}h`
}

/** Median recent step time x remaining steps + median evaluation time x remaining evaluations; NaN before the first step. */
export function remainingSeconds(
  recentSteps: readonly number[],
  stepsLeft: number,
  evaluations: readonly number[],
  evaluationsLeft: number,
): number {
  const evaluation = evaluations.length === 0 ? 0 : median(evaluations)
  return median(recentSteps) * stepsLeft + evaluation * evaluationsLeft
}

export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

function percent(share: number): string {
  return `${Math.round(100 * share)}%`
}

function gigabytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)}G`
}

function rate(lr: number): string {
  return lr.toExponential(1)
}
