// The records of one run while it goes on: events.jsonl, results.csv, train.log, TensorBoard, readers of the API and the display
// all receive what happens from here. Appending is synchronous: a record that was reported is in the file when the next step runs.
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { diskError, writeFileAtomic } from '../atomic-write.js'
import { EVENT_VERSION, type EventBody, type EventChannel, eventLine, linesUpTo, type RunEvent } from './events.js'
import { type ResultRow, resultColumns, resultLine, rowsUpTo } from './results.js'
import { EventFile, type Picture } from './tensorboard.js'

export interface RunLog {
  /** Stamps and records an event. */
  event(body: EventBody): void
  /** Appends a row to results.csv. */
  row(row: ResultRow): void
  /** A line for people, in train.log and on the display. */
  say(text: string): void
  /** A line in train.log only. */
  note(text: string): void
  /** A picture for TensorBoard, at the step in hand. */
  picture(tag: string, picture: Picture): void
  /** Step of the last record that has one. */
  readonly step: number
  /** Writes what is held back; `end` closes the files and the channel. */
  flush(): Promise<void>
  end(): Promise<void>
}

export interface RunLogOptions {
  folder: string
  fppi: readonly number[]
  /** Readers of the API; closed by `end`. */
  channel: EventChannel
  /** Where a resumed run goes on; null for a new one. `epochs` counts finished epochs over all phases. */
  resumed: { step: number; epochs: number } | null
  /** Receives every event and line, to show them. */
  show: { event(event: RunEvent): void; say(text: string): void }
  clock?: () => number
}

const TENSORBOARD_FLUSH_MS = 10_000

/** Opens the records of a run folder; those of a resumed run are cut back to where it goes on. */
export async function openRunLog(options: RunLogOptions): Promise<RunLog> {
  const { folder, fppi, channel, resumed, show, clock = Date.now } = options
  const at = (name: string) => join(folder, name)
  if (resumed === null) {
    await writeFileAtomic(at('results.csv'), `${resultColumns(fppi).join(',')}\n`)
  } else {
    const events = await readFile(at('events.jsonl'), 'utf8').catch(() => '')
    await writeFileAtomic(at('events.jsonl'), linesUpTo(events, resumed.step, resumed.epochs))
    const rows = await readFile(at('results.csv'), 'utf8').catch(() => '')
    await writeFileAtomic(at('results.csv'), rowsUpTo(rows || `${resultColumns(fppi).join(',')}\n`, resumed.epochs))
  }
  const events = appender(at('events.jsonl'))
  const results = appender(at('results.csv'))
  const text = appender(at('train.log'))
  const board = await EventFile.create(at('tb'), resumed === null ? null : resumed.step + 1, clock)
  let flushedAt = clock()
  let flushing: Promise<void> = Promise.resolve()
  const flush = () => {
    flushedAt = clock()
    flushing = flushing.then(() => board.flush())
    return flushing
  }
  let step = resumed?.step ?? 0
  return {
    get step() {
      return step
    },
    event(body) {
      const event: RunEvent = { v: EVENT_VERSION, t: new Date(clock()).toISOString(), ...body }
      if ('step' in event) step = event.step
      events.append(eventLine(event))
      board.scalars(step, scalarsOf(event))
      // A failed flush surfaces at the next awaited one.
      if (clock() - flushedAt > TENSORBOARD_FLUSH_MS) flush().catch(() => undefined)
      channel.publish(event)
      show.event(event)
    },
    row(row) {
      results.append(resultLine(row, fppi))
      results.sync()
    },
    say(line) {
      text.append(`${new Date(clock()).toISOString()} ${line}\n`)
      show.say(line)
    },
    note(line) {
      text.append(`${new Date(clock()).toISOString()} ${line}\n`)
    },
    picture: (tag, picture) => board.picture(step, tag, picture),
    flush,
    async end() {
      channel.close()
      for (const file of [events, results, text]) file.close()
      await flushing.catch(() => undefined)
      await board.close()
    },
  }
}

/** TensorBoard's view of an event. */
function scalarsOf(event: RunEvent): Record<string, number> {
  switch (event.type) {
    case 'iteration':
      return {
        'train/loss': event.loss,
        'train/loss_cls': event.lossCls,
        'train/loss_box': event.lossBox,
        'train/lr': event.lr,
        'train/grad_norm': event.gradNorm,
        'train/positives': event.positives,
        'time/step_ms': event.stepMs,
        'time/images_per_second': event.imagesPerSecond,
        'time/data_fraction': event.dataFraction,
        'mem/device_bytes': event.deviceBytes,
        'mem/host_bytes': event.hostBytes,
      }
    case 'epoch':
      return {
        'train/epoch_loss': event.loss,
        'train/epoch_loss_cls': event.lossCls,
        'train/epoch_loss_box': event.lossBox,
        'time/epoch_seconds': event.seconds,
      }
    case 'evaluation':
      return {
        'val/loss': event.loss,
        'val/AP50': event.AP50,
        'val/AP': event.AP,
        ...Object.fromEntries(Object.entries(event.sens).map(([f, s]) => [`val/sens@${f}`, s])),
        'time/evaluation_seconds': event.seconds,
      }
    default:
      return {}
  }
}

interface Appender {
  append(text: string): void
  sync(): void
  close(): void
}

function appender(path: string): Appender {
  const file = openSync(path, 'a')
  return {
    append(text) {
      try {
        writeSync(file, text)
      } catch (error) {
        throw diskError(error, path)
      }
    },
    sync: () => fsyncSync(file),
    close: () => closeSync(file),
  }
}
