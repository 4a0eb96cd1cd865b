// TensorBoard event files: TFRecord frames (length, masked CRC-32C of the length, data, masked CRC-32C of the data) around
// `Event` messages. Only what scalars and pictures need of event.proto and summary.proto; field numbers are TensorFlow's.
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import protobuf from 'protobufjs'
import { diskError } from '../atomic-write.js'

const SCHEMA = `
syntax = "proto3";
message Event {
  double wall_time = 1;
  int64 step = 2;
  oneof what {
    string file_version = 3;
    Summary summary = 5;
    SessionLog session_log = 7;
  }
}
message SessionLog { int32 status = 1; }
message Summary { repeated Value value = 1; }
message Value {
  string tag = 1;
  oneof value {
    float simple_value = 2;
    Image image = 4;
  }
}
message Image {
  int32 height = 1;
  int32 width = 2;
  int32 colorspace = 3;
  bytes encoded_image_string = 4;
}`

const Event = protobuf.parse(SCHEMA, { keepCase: true }).root.lookupType('Event')
/** SessionLog.START: TensorBoard drops what earlier files hold from this step on. */
const SESSION_START = 1

export interface Picture {
  height: number
  width: number
  /** 1 grey, 3 RGB. */
  channels: 1 | 3
  /** PNG bytes. */
  png: Uint8Array
}

/** One open event file. Records are gathered and written by `flush`. */
export class EventFile {
  #pending: Uint8Array[] = []
  private constructor(
    readonly path: string,
    private readonly file: FileHandle,
    private readonly clock: () => number,
  ) {}

  /** Starts a new file in `folder`. `resumedAt`: step from which records of earlier files are void. `clock` gives milliseconds. */
  static async create(folder: string, resumedAt: number | null, clock = Date.now): Promise<EventFile> {
    await mkdir(folder, { recursive: true })
    const base = join(folder, `events.out.tfevents.${Math.floor(clock() / 1000)}.${hostname()}.${process.pid}`)
    for (let n = 0; ; n++) {
      const path = `${base}.${n}`
      const file = await open(path, 'ax').catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'EEXIST') return undefined
        throw diskError(error, path)
      })
      if (file === undefined) continue
      const events = new EventFile(path, file, clock)
      events.#add({ file_version: 'brain.Event:2' }, 0)
      if (resumedAt !== null) events.#add({ session_log: { status: SESSION_START } }, resumedAt)
      await events.flush()
      return events
    }
  }

  /** Values that are not finite are left out: TensorBoard draws gaps better than it draws NaN. */
  scalars(step: number, values: Readonly<Record<string, number>>): void {
    const value = Object.entries(values)
      .filter(([, v]) => Number.isFinite(v))
      .map(([tag, v]) => ({ tag, simple_value: v }))
    if (value.length > 0) this.#add({ summary: { value } }, step)
  }

  picture(step: number, tag: string, { height, width, channels, png }: Picture): void {
    this.#add(
      { summary: { value: [{ tag, image: { height, width, colorspace: channels, encoded_image_string: png } }] } },
      step,
    )
  }

  async flush(): Promise<void> {
    const pending = this.#pending
    this.#pending = []
    if (pending.length === 0) return
    await this.file.appendFile(Buffer.concat(pending)).catch((cause) => {
      throw diskError(cause, this.path)
    })
  }

  async close(): Promise<void> {
    try {
      await this.flush()
    } finally {
      await this.file.close()
    }
  }

  #add(fields: Record<string, unknown>, step: number): void {
    const event = Event.fromObject({ wall_time: this.clock() / 1000, step, ...fields })
    this.#pending.push(frame(Event.encode(event).finish()))
  }
}

/** One TFRecord: uint64 length, its masked CRC, the data, its masked CRC; all little endian. */
export function frame(data: Uint8Array): Uint8Array {
  const record = Buffer.alloc(16 + data.length)
  record.writeBigUInt64LE(BigInt(data.length), 0)
  record.writeUInt32LE(maskedCrc(record.subarray(0, 8)), 8)
  record.set(data, 12)
  record.writeUInt32LE(maskedCrc(data), 12 + data.length)
  return record
}

/** Reads the records of an event file back; throws a plain Error on a wrong checksum. A torn last record is left out. */
export function readEvents(bytes: Uint8Array): Record<string, unknown>[] {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const events: Record<string, unknown>[] = []
  for (let at = 0; at + 16 <= view.length; ) {
    const length = Number(view.readBigUInt64LE(at))
    if (view.readUInt32LE(at + 8) !== maskedCrc(view.subarray(at, at + 8))) throw new Error(`bad length at byte ${at}`)
    if (at + 16 + length > view.length) break
    const data = view.subarray(at + 12, at + 12 + length)
    if (view.readUInt32LE(at + 12 + length) !== maskedCrc(data)) throw new Error(`bad record at byte ${at}`)
    events.push(Event.toObject(Event.decode(data), { longs: Number }))
    at += 16 + length
  }
  return events
}

/** CRC-32C (Castagnoli) rotated and offset, as TFRecord stores it so that a CRC of data holding CRCs stays useful. */
export function maskedCrc(data: Uint8Array): number {
  const crc = crc32c(data)
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0
}

const table = Uint32Array.from({ length: 256 }, (_, n) => {
  let crc = n
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  return crc >>> 0
})

export function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of data) crc = table[(crc ^ byte) & 0xff]! ^ (crc >>> 8)
  return (crc ^ 0xffffffff) >>> 0
}
