// The records of events.jsonl and the channel that hands them to readers while a run goes on. A record is plain data;
// readers never delay a step: unread `iteration` records beyond a limit are dropped, oldest first, and counted.

/** Version of the records. */
export const EVENT_VERSION = 1

export interface Memory {
  deviceBytes: number
  /** Resident memory of the process. */
  hostBytes: number
}

export type CheckpointKind = 'last' | 'best' | 'periodic'

export type EventBody =
  | { type: 'start' | 'resume'; run: string; step: number; configHash: string }
  | ({
      type: 'iteration'
      phase: string
      epoch: number
      /** Update within the epoch, from 1. */
      iter: number
      step: number
      loss: number
      lossCls: number
      lossBox: number
      lr: number
      gradNorm: number
      /** fp16: what the loss was multiplied by. */
      lossScale?: number
      positives: number
      imagesPerSecond: number
      /** Share of the step's wall time spent waiting for input. */
      dataFraction: number
      stepMs: number
    } & Memory)
  | {
      type: 'epoch'
      phase: string
      epoch: number
      step: number
      loss: number
      lossCls: number
      lossBox: number
      seconds: number
    }
  | {
      type: 'evaluation'
      epoch: number
      step: number
      split: string
      loss: number
      AP50: number
      AP: number
      hit: string
      credit: string
      /** FP/image -> sensitivity. */
      sens: Record<string, number>
      seconds: number
    }
  | { type: 'checkpoint'; path: string; sha256: string; step: number; metric: number | null; kinds: CheckpointKind[] }
  | { type: 'warning' | 'error'; code: string; message: string; details?: Record<string, unknown> }
  | { type: 'end'; status: RunStatus; step: number }

export type RunStatus = 'running' | 'finished' | 'interrupted' | 'failed'

/** One line of events.jsonl. `t` is UTC, ISO 8601. */
export type RunEvent = { v: number; t: string } & EventBody

/** One line of JSON. Numbers that are not finite have no JSON form and become null. */
export function eventLine(event: RunEvent): string {
  return `${JSON.stringify(event)}\n`
}

/**
 * The lines of an interrupted events.jsonl that remain true for a run that goes on from `step` and `epochs` finished epochs:
 * later iterations, epochs and evaluations are repeated by the resumed run and dropped here, as is a torn last line.
 */
export function linesUpTo(text: string, step: number, epochs: number): string {
  const kept = text.split('\n').filter((line) => {
    const event = parseLine(line)
    if (event === undefined) return false
    if (event.type === 'iteration') return event.step <= step
    if (event.type === 'epoch' || event.type === 'evaluation') return event.epoch <= epochs
    return true
  })
  return kept.map((line) => `${line}\n`).join('')
}

/** The records of an events.jsonl text; unreadable lines are left out. */
export function parseEvents(text: string): RunEvent[] {
  return text
    .split('\n')
    .map(parseLine)
    .filter((event) => event !== undefined)
}

function parseLine(line: string): RunEvent | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && 'type' in value ? (value as RunEvent) : undefined
  } catch {
    return undefined
  }
}

/** Iteration records that a slow reader may leave unread. */
const UNREAD_LIMIT = 1000

interface Reader {
  queue: RunEvent[]
  iterations: number
  wake: (() => void) | undefined
}

/** Hands events to any number of readers, each from the moment it asked. */
export class EventChannel {
  #readers = new Set<Reader>()
  #closed = false
  /** Records that slow readers missed. */
  dropped = 0

  publish(event: RunEvent): void {
    for (const reader of this.#readers) {
      reader.queue.push(event)
      if (event.type === 'iteration' && ++reader.iterations > UNREAD_LIMIT) {
        reader.queue.splice(
          reader.queue.findIndex((e) => e.type === 'iteration'),
          1,
        )
        reader.iterations--
        this.dropped++
      }
      reader.wake?.()
    }
  }

  close(): void {
    this.#closed = true
    for (const reader of this.#readers) reader.wake?.()
  }

  /** The events from now on; ends when the channel closes. */
  read(): AsyncIterableIterator<RunEvent> {
    const reader: Reader = { queue: [], iterations: 0, wake: undefined }
    if (!this.#closed) this.#readers.add(reader)
    return this.#drain(reader)
  }

  async *#drain(reader: Reader): AsyncIterableIterator<RunEvent> {
    try {
      for (;;) {
        const event = reader.queue.shift()
        if (event !== undefined) {
          if (event.type === 'iteration') reader.iterations--
          yield event
        } else if (this.#closed) return
        else
          await new Promise<void>((resolve) => {
            reader.wake = resolve
          })
      }
    } finally {
      this.#readers.delete(reader)
    }
  }
}
