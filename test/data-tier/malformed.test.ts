// Every odd or broken file ends as datasets spec 7 says: decoded, or a coded error; within a bounded time, with the process alive. Then
// prefixes and byte changes of good files, made here. Each file is also read in a process of its own, whose time and memory are measured.
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { type ReadImageOptions, readImage } from '../../lib/data/image.js'
import { MammoError } from '../../lib/errors.js'
import { dataPath, withoutData } from '../data-folder.js'

const DECODED = 'decoded'

async function outcome(path: string, options: ReadImageOptions = {}): Promise<string> {
  try {
    await readImage(path, options)
    return DECODED
  } catch (error) {
    if (!(error instanceof MammoError)) throw error
    const rule = error.details['rule']
    return rule === 'dicom/colour' ? rule : error.code.replace('ERR_MAMMO_', '')
  }
}

/** File: outcomes that are right as a user would call it, and when someone vouches for the image. */
const expected: Record<string, [string[], string[]]> = {
  'pydicom/no_meta_group_length': [['PIXEL_DATA'], ['PIXEL_DATA']],
  'dcmjs/no-meta-length-test': [['PIXEL_DATA'], ['PIXEL_DATA']],
  'pydicom/meta_missing_tsyntax': [['PIXEL_DATA'], ['PIXEL_DATA']],
  'pydicom/ExplVR_LitEndNoMeta': [['SOP_CLASS'], ['SOP_CLASS']],
  'pydicom/ExplVR_BigEndNoMeta': [['SOP_CLASS'], ['SOP_CLASS']],
  'pydicom/UN_sequence': [
    ['PIXEL_DATA', 'SOP_CLASS'],
    ['PIXEL_DATA', 'SOP_CLASS'],
  ],
  'pydicom/empty_charset_LEI': [
    ['PIXEL_DATA', 'SOP_CLASS'],
    ['PIXEL_DATA', 'SOP_CLASS'],
  ],
  'pydicom/test-SR': [
    ['PIXEL_DATA', 'SOP_CLASS'],
    ['PIXEL_DATA', 'SOP_CLASS'],
  ],
  'fo-dicom/GH223': [
    ['PIXEL_DATA', 'SOP_CLASS'],
    ['PIXEL_DATA', 'SOP_CLASS'],
  ],
  'fo-dicom/GH179A': [
    ['PIXEL_DATA', 'SOP_CLASS'],
    ['PIXEL_DATA', 'SOP_CLASS'],
  ],
  'fo-dicom/GH364': [['SOP_CLASS'], [DECODED]],
  'fo-dicom/GH177_D_CLUNIE_CT1_IVRLE_BigEndian_ELE_undefinded_length': [['SOP_CLASS'], [DECODED]],
  'fo-dicom/GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length': [['SOP_CLASS'], [DECODED]],
  'fo-dicom/GH227': [['SOP_CLASS'], [DECODED]],
  'pydicom/image_dfl': [['SOP_CLASS'], [DECODED]],
  'fo-dicom/Issue1097_FailToOpenDeflatedFileWithSQ': [['PIXEL_DATA'], ['PIXEL_DATA']],
  'fo-dicom/HasFragmentSequence': [['SOP_CLASS'], ['SOP_CLASS']],
  'fo-dicom/CR-ModalitySequenceLUT': [['SOP_CLASS'], [DECODED]],
  'fo-dicom/1403-OB': [['dicom/colour'], ['dicom/colour']],
  'pydicom/GDCMJ2K_TextGBR': [['dicom/colour'], ['dicom/colour']],
  'fo-dicom/GH184': [['SOP_CLASS'], [DECODED]],
  'fo-dicom/GH610': [['SOP_CLASS'], [DECODED]],
  'fo-dicom/GH1339': [['SOP_CLASS'], [DECODED]],
  'pydicom/CT_small': [['SOP_CLASS'], [DECODED]],
  'pydicom/MR_small': [['SOP_CLASS'], [DECODED]],
  'pydicom/MR_small_padded': [['SOP_CLASS'], [DECODED]],
  'pydicom/liver_1frame': [['SOP_CLASS'], ['SOP_CLASS']],
  'pydicom/liver_expb_1frame': [['SOP_CLASS'], ['SOP_CLASS']],
  'pydicom/JPEG2000-embedded-sequence-delimiter': [['SOP_CLASS'], ['PIXEL_DATA']],
  'pydicom/693_J2KI': [['SOP_CLASS'], [DECODED]],
  'dcmjs/invalid-vr-length-test': [['SOP_CLASS'], ['SOP_CLASS']],
}

const CHILD = 'read-one'

/** What this file does as the process of one file: reads it as it is and vouched for, and prints outcomes, milliseconds, peak memory. */
async function readOne(path: string): Promise<void> {
  const started = performance.now()
  const got = [await outcome(path), await outcome(path, { assumeMammogram: true })]
  const ms = Math.round(performance.now() - started)
  const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) / 1024
  process.stdout.write(JSON.stringify({ got, ms, mib: Math.round(peak) }))
}

interface Measured {
  got: string[]
  ms: number
  mib: number
}

/** Ends after a time that no file may need, so that a hang is a failure. */
function inOwnProcess(path: string): Promise<Measured | string> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), CHILD, path], { timeout: 30_000 })
    let out = ''
    child.stdout.on('data', (part) => {
      out += part
    })
    child.on('close', (code, signal) =>
      resolve(code === 0 ? (JSON.parse(out) as Measured) : `ended with ${signal ?? code}`),
    )
  })
}

if (process.argv[2] === CHILD) await readOne(process.argv[3]!)
else tests()

function tests(): void {
  t.setTimeout(600_000)

  t.test(
    'each odd or broken file in a process of its own: alive, at most 256 MiB',
    { skip: process.platform === 'linux' ? withoutData('dicom') : 'peak memory is read from /proc', timeout: 300_000 },
    async (t) => {
      const colour = readdirSync(dataPath('dicom', 'pydicom')).filter((file) =>
        /^SC_(rgb|ybr|jpeg)|color\.dcm$|palette\.dcm$/.test(file),
      )
      const names = [...Object.keys(expected), ...colour.map((file) => `pydicom/${file.replace(/\.dcm$/, '')}`)]
      const waiting = [...names]
      const results: (readonly [string, Measured | string])[] = []
      const lane = async () => {
        for (let name = waiting.shift(); name !== undefined; name = waiting.shift())
          results.push([name, await inOwnProcess(dataPath('dicom', `${name}.dcm`))])
      }
      await Promise.all([lane(), lane()])
      t.equal(results.length, names.length)
      let [slowest, largest] = [0, 0]
      for (const [name, result] of results) {
        if (typeof result === 'string') {
          t.fail(`${name}: ${result}`)
          continue
        }
        slowest = Math.max(slowest, result.ms)
        largest = Math.max(largest, result.mib)
        t.ok(
          result.mib > 0 && result.mib <= 256,
          `${name}: ${result.got.join(', vouched for: ')}; ${result.ms} ms, ${result.mib} MiB`,
        )
      }
      t.comment(`${names.length} files: slowest ${slowest} ms, largest ${largest} MiB (limit 256), process and all`)
    },
  )

  t.test('odd and broken files', { skip: withoutData('dicom'), timeout: 120_000 }, async (t) => {
    for (const [name, [asIs, vouched]] of Object.entries(expected)) {
      const path = dataPath('dicom', `${name}.dcm`)
      const got = [await outcome(path), await outcome(path, { assumeMammogram: true })]
      t.ok(asIs.includes(got[0]!) && vouched.includes(got[1]!), `${name}: ${got.join(', vouched for: ')}`)
    }
    const colour = readdirSync(dataPath('dicom', 'pydicom')).filter((file) =>
      /^SC_(rgb|ybr|jpeg)|color\.dcm$|palette\.dcm$/.test(file),
    )
    t.ok(colour.length > 20)
    for (const file of colour) t.equal(await outcome(dataPath('dicom', 'pydicom', file)), 'dicom/colour', file)
    t.equal(
      await outcome(dataPath('dicom', 'fo-dicom', 'HasFragmentSequence.dcm'), { assumeMammogram: true, frame: 95 }),
      DECODED,
    )
    const depth = await readImage(dataPath('dicom', 'pydicom', '693_J2KI.dcm'), { assumeMammogram: true })
    t.match(
      depth.warnings.map(({ rule }) => rule),
      ['dicom/spacing', 'dicom/depth', 'dicom/signed'],
    )
  })

  t.test('cut streams are refused', { skip: withoutData('dicom', 'wg04') }, async (t) => {
    const folder = t.testdir()
    const path = join(folder, 'cut.dcm')
    for (const form of ['JPLL', 'JPLY', 'JLSL', 'JLSN', 'J2KR', 'J2KI', 'RLE']) {
      const whole = await readFile(dataPath('dicom', 'wg04', `NM1_${form}.dcm`))
      const start = whole.indexOf(Buffer.from('e07f1000', 'hex')) + 20
      for (const [name, end] of [
        ['to 100 bytes', start + 100],
        ['to half', (start + whole.length) >> 1],
        ['before its end', whole.length - 30],
      ] as const) {
        // The last fragment is declared as long as what is left of it, so that only the stream is at fault.
        const cut = Buffer.from(whole.subarray(0, end))
        let at = start
        while (at + 8 + cut.readUInt32LE(at + 4) < end && at + 16 < end) at += 8 + cut.readUInt32LE(at + 4)
        cut.writeUInt32LE(end - at - 8, at + 4)
        await writeFile(path, cut)
        t.equal(await outcome(path, { assumeMammogram: true }), 'PIXEL_DATA', `${form} ${name}`)
      }
    }
  })

  t.test(
    'prefixes and byte changes: decoded or a coded error',
    { skip: withoutData('dicom', 'pydicom'), timeout: 300_000 },
    async (t) => {
      const path = join(t.testdir(), 'changed.dcm')
      let state = 12345
      const random = (below: number) => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0
        return Math.floor((state / 2 ** 32) * below)
      }
      const counts = new Map<string, number>()
      const tally = async (bytes: Uint8Array) => {
        await writeFile(path, bytes)
        const result = await outcome(path, { assumeMammogram: true })
        counts.set(result, (counts.get(result) ?? 0) + 1)
      }
      const files = [
        'MR_small',
        'MR_small_RLE',
        'MR_small_implicit',
        'MR_small_bigendian',
        'MR_small_jp2klossless',
        'MR_small_jpeg_ls_lossless',
        'image_dfl',
        'JPEGLSNearLossless_16',
      ]
      for (const name of files) {
        const whole = await readFile(dataPath('dicom', 'pydicom', `${name}.dcm`))
        for (let n = 0; n < 8; n++) await tally(whole.subarray(0, Math.floor((whole.length * n) / 8)))
        for (let n = 0; n < 125; n++) {
          const changed = Buffer.from(whole)
          changed[random(whole.length)] = random(256)
          await tally(changed)
        }
      }
      t.comment([...counts].map(([result, count]) => `${result} ${count}`).join(', '))
      t.equal(
        [...counts.values()].reduce((a, b) => a + b),
        files.length * 133,
      )
    },
  )
}
