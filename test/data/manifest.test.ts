import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import {
  checkManifest,
  checkRecord,
  countDataset,
  manifestText,
  parseManifest,
  readManifest,
  writeManifest,
} from '../../lib/data/manifest.js'
import { type ImageRecord, MANIFEST_SCHEMA, type ManifestHeader } from '../../lib/data/types.js'
import { sampleImages, sampleRecords } from './formats/generic.js'
import { png, writeTree } from './formats/layouts.js'

const records = sampleRecords()
const header: ManifestHeader = {
  manifest: MANIFEST_SCHEMA,
  root: '.',
  adapter: 'coco',
  labelRules: { b: 1, a: 2 },
  counts: countDataset(records),
}
const text = manifestText(header, records)
const lines = text.trimEnd().split('\n')

t.test('the same records give the same bytes', async (t) => {
  const shuffled = [...records]
    .reverse()
    .map((record) => Object.fromEntries(Object.entries(record).reverse()) as unknown as ImageRecord)
  t.equal(manifestText({ ...header, labelRules: { a: 2, b: 1 } }, shuffled), text)
  t.match(
    lines[0],
    /^\{"manifest":"mammo-retinanet\/manifest@1","root":"\.","adapter":"coco","labelRules":\{"a":2,"b":1\},"counts":\{"images":3/,
  )
  t.match(lines[1], /^\{"v":1,"id":"coco\/a","path":"a\.png","frame":0,"patient":"a"/)
  t.same(parseManifest(text, 'm').records, records)
  t.equal(manifestText(header, parseManifest(text, 'm').records), text)
})

t.test('every rule of form, with its message', async (t) => {
  const change = (n: number, edit: (line: string) => string) =>
    lines.map((line, i) => (i === n ? edit(line) : line)).join('\n')
  const cases: [string, string, RegExp, RegExp][] = [
    [
      change(0, (line) => line.replace('@1', '@9')),
      'manifest/header',
      /expected schema mammo-retinanet\/manifest@1, got mammo-retinanet\/manifest@9/,
      /^m:1$/,
    ],
    ['', 'manifest/header', /got no header/, /^m:1$/],
    [change(2, (line) => line.slice(0, 40)), 'manifest/json', /not a JSON object \(column \d+\)/, /^m:3$/],
    [change(2, () => '[]'), 'manifest/json', /not a JSON object/, /^m:3$/],
    [
      change(1, (line) => line.replace('"frame":0', '"frame":-1')),
      'manifest/field',
      /field frame must be an integer from 0, got -1/,
      /^m:2$/,
    ],
    [
      change(1, (line) => line.replace('"path":"a.png"', '"path":"../a.png"')),
      'manifest/field',
      /field path must be/,
      /^m:2$/,
    ],
    [
      change(1, (line) => line.replace('"id":"1"', '"id":""')),
      'manifest/field',
      /field lesions\[0\]\.id must be/,
      /^m:2$/,
    ],
    [change(2, () => lines[1]!), 'manifest/duplicate-id', /id coco\/a also in line 2/, /^m:3$/],
  ]
  for (const [content, rule, message, where] of cases) {
    t.match(parseManifest(content, 'm').problems[0], { rule, level: 'error', message, where }, rule)
  }
  const fields = Object.keys(records[0]!)
  for (const field of fields) {
    const broken = JSON.stringify({ ...records[0], [field]: { x: 1 } })
    const bad = field === 'source' ? [] : parseManifest(`${lines[0]}\n${broken}`, 'm').problems
    if (field !== 'source') t.match(bad, [{ rule: 'manifest/field', message: new RegExp(`field ${field} `) }], field)
  }
})

t.test('every rule of meaning', async (t) => {
  const base = records[0]!
  const check = (change: Partial<(typeof base.lesions)[0]>, scale = 1) =>
    checkRecord({ ...base, lesions: [{ ...base.lesions[0]!, ...change }] }, 'm:2', scale).map(
      ({ rule, level }) => `${rule} ${level}`,
    )
  t.same(check({}), [])
  t.same(check({ box: [5, 5, 5, 9] }), ['box/empty error'])
  t.same(check({ box: [200, 5, 300, 9] }), ['box/outside error'])
  t.same(check({ box: [100, 5, 130, 29] }), ['box/outside error'])
  t.same(check({ clipped: true }), ['box/clipped warning'])
  t.same(check({ box: [5, 5, 12, 90] }), ['box/tiny warning'])
  t.same(check({ box: [5, 5, 40, 90] }, 0.2), ['box/tiny warning'])
  t.same(
    check({
      box: [5, 5, 50, 50],
      polygon: [
        [5, 5],
        [48, 5],
        [50, 50],
      ],
    }),
    [],
  )
  t.same(
    check({
      box: [5, 5, 50, 50],
      polygon: [
        [5, 5],
        [40, 5],
        [40, 50],
      ],
    }),
    ['polygon/box error'],
  )
  t.same(
    check({
      box: [5, 5, 120, 50],
      polygon: [
        [5, 5],
        [160, 5],
        [160, 50],
      ],
      clipped: true,
    }),
    ['box/clipped warning'],
    'polygons are compared clipped',
  )
  const twice = { ...base, lesions: [base.lesions[0]!, { ...base.lesions[0]!, id: 'x' }] }
  t.match(checkRecord(twice, 'm:2'), [{ rule: 'lesion/duplicate', level: 'warning' }])
})

t.test('images: missing and of another size', async (t) => {
  const folder = await writeTree(t.testdir(), { ...(await sampleImages()), 'b.png': await png(64, 64) })
  const path = join(folder, 'manifest.jsonl')
  await writeManifest(path, header, [...records, { ...records[1]!, id: 'coco/d', path: 'd.png' }])
  const { problems } = await checkManifest(path, { images: true })
  t.match(problems, [
    { rule: 'manifest/size', message: 'record says 120x90, file decodes to 64x64', where: `${path}:3, b.png` },
    { rule: 'manifest/missing-file', message: 'image d.png not found', where: `${path}:5` },
  ])
  await t.rejects(readManifest(path, { images: true }), {
    code: 'ERR_MAMMO_MANIFEST',
    exitCode: 3,
    message: /2 problems/,
  })
  t.equal((await readManifest(path)).records.length, 4)
  await writeFile(path, 'x')
  await t.rejects(readManifest(path), { code: 'ERR_MAMMO_MANIFEST', details: { rule: 'manifest/header' } })
  await t.rejects(readManifest(join(folder, 'none.jsonl')), { code: 'ERR_MAMMO_MANIFEST' })
})
