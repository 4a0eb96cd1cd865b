import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import t from 'tap'
import { crc32c, EventFile, frame, maskedCrc, readEvents } from '../../lib/train/tensorboard.js'

/** An event as the reader gives it, as far as the tests look. */
interface Read {
  wall_time: number
  step: number
  file_version: string
  session_log: { status: number }
  summary: {
    value: { tag: string; simple_value: number; image: { colorspace: number; encoded_image_string: Uint8Array } }[]
  }
}

const bytes = (text: string) => Buffer.from(text, 'ascii')
const png = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==',
  'base64',
)

t.test('CRC-32C has the published check values', async (t) => {
  t.equal(crc32c(bytes('123456789')), 0xe3069283)
  t.equal(crc32c(new Uint8Array(32)), 0x8a9136aa, 'RFC 3720: 32 zero bytes')
  t.equal(crc32c(new Uint8Array(0)), 0)
})

t.test('a frame is length, masked CRC, data, masked CRC', async (t) => {
  const record = Buffer.from(frame(bytes('abc')))
  t.equal(record.length, 19)
  t.equal(record.readBigUInt64LE(0), 3n)
  t.equal(record.readUInt32LE(8), maskedCrc(record.subarray(0, 8)))
  t.equal(record.subarray(12, 15).toString('ascii'), 'abc')
  t.equal(record.readUInt32LE(15), maskedCrc(bytes('abc')))
})

async function writtenFile(folder: string, resumedAt: number | null) {
  const file = await EventFile.create(folder, resumedAt, () => 1_700_000_000_500)
  file.scalars(7, { 'train/loss': 0.5, 'train/lr': 1e-4, 'train/grad_norm': Number.NaN })
  file.picture(7, 'samples/batch', { height: 1, width: 1, channels: 1, png })
  await file.close()
  return file.path
}

t.test('events read back', async (t) => {
  const path = await writtenFile(t.testdir(), null)
  t.match(basename(path), /^events\.out\.tfevents\.1700000000\./)
  const [version, scalars, picture] = readEvents(readFileSync(path)) as unknown as [Read, Read, Read]
  t.equal(version.file_version, 'brain.Event:2')
  t.equal(scalars.step, 7)
  t.equal(scalars.wall_time, 1_700_000_000.5)
  t.strictSame(
    scalars.summary.value.map((v) => [v.tag, v.simple_value]),
    [
      ['train/loss', 0.5],
      ['train/lr', Math.fround(1e-4)],
    ],
    'values that are not finite are left out',
  )
  t.equal(picture.summary.value[0]!.image.colorspace, 1)
  t.ok(Buffer.from(picture.summary.value[0]!.image.encoded_image_string).equals(png))
})

t.test('a resumed run starts another file that voids later steps', async (t) => {
  const folder = t.testdir()
  const first = await writtenFile(folder, null)
  const second = await writtenFile(folder, 5)
  t.not(first, second)
  const events = readEvents(readFileSync(second)) as unknown as Read[]
  t.equal(events[1]!.session_log.status, 1)
  t.equal(events[1]!.step, 5)
})

t.test('a torn record is left out, a changed one is noticed', async (t) => {
  const data = readFileSync(await writtenFile(t.testdir(), null))
  t.equal(readEvents(data.subarray(0, data.length - 3)).length, 2)
  const changed = Buffer.from(data)
  changed[changed.length - 6]! ^= 1
  t.throws(() => readEvents(changed), /bad record/)
})

t.test("TensorBoard's own reader reads the file", async (t) => {
  const python = process.env['MAMMO_PEER_PYTHON']
  if (python === undefined)
    return t.pass('skipped: MAMMO_PEER_PYTHON is not set', { skip: 'MAMMO_PEER_PYTHON is not set' })
  const code = `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
a = EventAccumulator(sys.argv[1]); a.Reload()
print(json.dumps({'scalars': sorted(a.Tags()['scalars']), 'images': a.Tags()['images'],
  'loss': [[e.step, e.value] for e in a.Scalars('train/loss')]}))`
  const found = spawnSync(python, ['-c', 'import tensorboard'])
  if (found.status !== 0) return t.pass('skipped', { skip: 'that Python has no tensorboard' })
  const folder = t.testdir()
  await writtenFile(folder, null)
  const { stdout, stderr, status } = spawnSync(python, ['-c', code, folder], { encoding: 'utf8' })
  t.equal(status, 0, stderr)
  t.strictSame(JSON.parse(stdout), {
    scalars: ['train/loss', 'train/lr'],
    images: ['samples/batch'],
    loss: [[7, 0.5]],
  })
})
