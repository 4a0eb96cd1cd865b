// Write, read, compare: every number and text that a result object carries comes back, for random findings and every character set.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parseDicom, TAGS, textOf } from '../../../lib/data/dicom/parse.js'
import { RESULT_KINDS, resultObjects } from '../../../lib/predict/dicom/objects.js'
import { isComplete, type ReadResult, readResult } from '../../../lib/predict/dicom/read.js'
import { planReport, type Report } from '../../../lib/predict/dicom/report.js'
import { COLUMNS, ROWS, randomFindings, settings, situations, sourceOf } from './studies.js'

const folder = mkdtempSync(join(tmpdir(), 'mammo-read-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

async function readBack(report: Report): Promise<ReadResult[]> {
  const results: ReadResult[] = []
  const pixels = async () => new Uint16Array(ROWS * COLUMNS)
  for await (const { bytes } of resultObjects(report, RESULT_KINDS, { pixels, maxSide: 100 })) {
    results.push(readResult(bytes, 'memory'))
  }
  return results
}

t.test('random findings come back as they were written', async (t) => {
  const source = await sourceOf(folder, { uid: '1.2.3.1' })
  const other = await sourceOf(folder, { uid: '1.2.3.2', side: 'R' })
  for (let seed = 1; seed <= 20; seed++) {
    const images = [
      { source, findings: randomFindings(seed % 7, seed), failure: null },
      { source: other, findings: randomFindings(seed % 4, seed + 50), failure: null },
    ]
    const expected = images
      .flatMap(({ source: { instance }, findings }) =>
        findings.map(({ box, score }) => ({ instance, box: box.map(Math.fround), score, shown: score >= 0.3 })),
      )
      .filter(({ score }) => score >= 0.01)
    for (const { kind, findings, images: referenced } of await readBack(planReport(images, settings()))) {
      const got = findings.map(({ instance, box, score }) => ({ instance, box, score }))
      if (kind === 'cad-sr')
        t.strictSame(
          findings.map(({ shown }) => shown),
          expected.map(({ shown }) => shown),
        )
      if (kind === 'cad-sr' || kind === 'tid1500') {
        t.strictSame(
          got,
          expected.map(({ shown: _, ...rest }) => rest),
          `${kind} ${seed}`,
        )
        t.strictSame([...referenced].sort(), ['1.2.3.1', '1.2.3.2'])
        const tracking = findings.map(({ trackingUid }) => trackingUid)
        t.equal(new Set(tracking).size, tracking.length)
      } else if (kind === 'gsps') {
        const marks = expected.filter(({ instance, shown }) => shown && instance === referenced[0])
        t.strictSame(
          got.map(({ box }) => box),
          marks.map(({ box }) => box),
        )
        t.ok(got.every(({ score }, n) => Math.abs(score - marks[n]!.score) <= 0.0051))
      } else t.equal(referenced.length, 1)
    }
  }
})

t.test('patient and study stay, whatever the character sets', async (t) => {
  const all = await situations(folder)
  const name = async (situation: string) => {
    const { images, settings } = all[situation]!
    const results = await readBack(planReport(images, settings))
    const names = new Set(results.map(({ dataset }) => JSON.stringify(dataset['00100010']?.Value)))
    t.equal(names.size, 1, `${situation}: one name in every object`)
    for (const { dataset } of results) {
      t.strictSame(dataset['00080005'], { vr: 'CS', Value: ['ISO_IR 192'] })
      t.strictSame(dataset['0020000D'], { vr: 'UI', Value: ['1.2.3.100'] })
      t.strictSame(dataset['00080201'], { vr: 'SH', Value: ['+0100'] })
    }
    return [...names][0]
  }
  t.equal(
    await name('Japanese name, several character sets'),
    '[{"Alphabetic":"Yamada^Tarou","Ideographic":"山田^太郎"}]',
  )
  t.equal(await name('Greek name'), '[{"Alphabetic":"Διονυσίος"}]')
  t.equal(await name('findings in one view'), '[{"Alphabetic":"Doe^Jane"}]')
})

t.test('a presentation state keeps the grey values of the image', async (t) => {
  const all = await situations(folder)
  const state = async (name: string) => {
    const { images, settings } = all[name]!
    return (await readBack(planReport(images, settings))).find(({ kind }) => kind === 'gsps')!.dataset
  }
  const plain = await state('findings in one view')
  t.match(plain['20500020'], { Value: ['IDENTITY'] })
  t.match(plain['00283110'], { Value: [{ '00281050': { Value: [800] }, '00281051': { Value: [900] } }] })
  t.match(plain['0070005A'], { Value: [{ '00700052': { Value: [1, 1] }, '00700053': { Value: [COLUMNS, ROWS] } }] })
  const film = await state('inverted, with a grey table, no birth date')
  t.match(film['20500020'], { Value: ['INVERSE'] })
  t.strictSame(film['00100030'], { vr: 'DA' })
  const words = Buffer.from(Uint16Array.from([0, 1600, 32007, 65535]).buffer).toString('base64')
  const table = { '00283002': { vr: 'US', Value: [4, 0, 16] }, '00283006': { vr: 'OW', InlineBinary: words } }
  t.match(film['00283110'], { Value: [{ '00283010': { Value: [table] } }] })
})

t.test('a cut, failures and thresholds are stated', async (t) => {
  const all = await situations(folder)
  const cad = async (name: string) => {
    const { images, settings } = all[name]!
    return (await readBack(planReport(images, settings)))[0]!
  }
  const cut = await cad('1000 findings cut to 50')
  t.equal(cut.findings.length, 50)
  t.ok(
    cut.statements.some((text) => /^9\d\d of \d+ findings with the lowest scores are left out: limit 50$/.test(text)),
  )
  const lowest = Math.min(...cut.findings.map(({ score }) => score))
  const every = all['1000 findings cut to 50']!.images.flatMap(({ findings }) => findings.map(({ score }) => score))
  t.equal(every.filter((score) => score > lowest).length, 49, 'the highest scores of both images are kept')
  const failed = await cad('all views failed')
  t.equal(failed.summary?.value, '111245')
  t.ok(failed.statements.includes('image 1: ERR_MAMMO_PIXEL_DATA'))
  t.notOk(isComplete(failed.summary!))
  const none = await cad('no findings')
  t.ok(isComplete(none.summary!))
  t.ok(none.statements.includes('scores are uncalibrated'))
  t.ok(none.statements.includes('storage threshold 0.01; display threshold 0.3'))
  t.ok(none.statements.some((text) => text === `model sha256 ${'ab'.repeat(32)}`))
})

t.test('UIDs repeat for equal input and change with anything else', async (t) => {
  const source = await sourceOf(folder, { uid: '1.2.3.1' })
  const image = { source, findings: randomFindings(2), failure: null }
  const uidsOf = async (...given: Parameters<typeof planReport>) =>
    (await readBack(planReport(...given))).map(({ reference }) => reference.instance)
  const first = await uidsOf([image], settings())
  t.strictSame(await uidsOf([image], settings({ time: new Date(0) })), first)
  t.equal(new Set(first).size, 4)
  t.ok(first.every((uid) => /^2\.25\.[1-9]\d{0,38}$/.test(uid)))
  // Version 5, variant 1 of a UUID.
  const hex = BigInt(first[0]!.slice(5)).toString(16).padStart(32, '0')
  t.match(hex, /^.{12}5.{3}[89ab].{15}$/)
  for (const [what, other] of Object.entries({
    threshold: await uidsOf([image], settings({ threshold: 0.02 })),
    pipeline: await uidsOf([image], settings({ pipeline: ['tiles'] })),
    model: await uidsOf([image], settings({ model: { ...settings().model, sha256: 'cd'.repeat(32) } })),
    limit: await uidsOf([image], settings({ maxFindings: 1 })),
    images: await uidsOf([image, { ...image, source: { ...source, instance: '1.2.3.99' } }], settings()),
  })) {
    t.notOk(
      other.some((uid) => first.includes(uid)),
      what,
    )
  }
})

t.test('a probability of cancer needs its calibration', async (t) => {
  const source = await sourceOf(folder, { uid: '1.2.3.1' })
  const images = [{ source, findings: randomFindings(1), failure: null }]
  t.throws(() => planReport(images, settings({ scoreMeaning: 'malignancy' })), {
    code: 'ERR_MAMMO_ARGUMENT',
    message: /logistic-malignancy/,
  })
  const calibration = { method: 'logistic', parameters: [1, 0], data: 'x' }
  t.throws(() => planReport(images, settings({ scoreMeaning: 'malignancy', calibration })), {
    code: 'ERR_MAMMO_ARGUMENT',
  })
})

t.test('dcmjs reads what we write; foreign and damaged files are refused', async (t) => {
  const source = await sourceOf(folder, { uid: '1.2.3.1' })
  const report = planReport([{ source, findings: randomFindings(3), failure: null }], settings())
  const pixels = async () => new Uint16Array(ROWS * COLUMNS)
  for await (const { bytes, instance, kind } of resultObjects(report, RESULT_KINDS, { pixels, maxSide: 100 })) {
    const { elements, scan } = await parseDicom(bytes, 'memory')
    t.equal(scan.fault, undefined)
    t.equal(textOf(elements, TAGS.sopInstance), instance, kind)
    for (const length of [0, 100, 200, 400, bytes.length - 3]) {
      t.throws(() => readResult(bytes.slice(0, length), 'cut'), { code: 'ERR_MAMMO_DICOM' }, `${kind} ${length}`)
    }
  }
})
