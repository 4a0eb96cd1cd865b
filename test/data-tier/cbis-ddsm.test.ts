// The official CBIS-DDSM tables and the small training images: counts of datasets spec 2.2 and 8.5, 8.6.
import { readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { cbisSplits, readCbisTables } from '../../lib/data/formats/cbis-ddsm.js'
import { readDataset } from '../../lib/data/formats/index.js'
import { manifestText, parseManifest } from '../../lib/data/manifest.js'
import { dataPath, withoutData } from '../data-folder.js'

const distinct = (values: string[]) => new Set(values).size

t.test('tables', { skip: withoutData('cbis-ddsm-csv') }, async (t) => {
  const { tables, problems } = await readCbisTables(dataPath('cbis-ddsm-csv'))
  t.same(problems, [])
  const summary = tables.map(({ file, lines, rows }) => [
    file.replace('_case_description', '').replace('_set.csv', ''),
    lines,
    rows.length,
    distinct(rows.map((row) => row.caseFolder)),
    distinct(rows.map((row) => row.patient)),
    ...['MALIGNANT', 'BENIGN', 'BENIGN_WITHOUT_CALLBACK'].map(
      (name) => rows.filter((row) => row.pathologyName === name).length,
    ),
  ])
  t.same(summary, [
    ['calc_test', 653, 326, 284, 151, 129, 130, 67],
    ['calc_train', 3093, 1546, 1227, 602, 544, 528, 474],
    ['mass_test', 757, 378, 361, 201, 147, 194, 37],
    ['mass_train', 2637, 1318, 1231, 691, 637, 577, 104],
  ])
  const per = new Map<string, number>()
  for (const { caseFolder } of tables[3]!.rows) per.set(caseFolder, (per.get(caseFolder) ?? 0) + 1)
  const count = (n: number) => [...per.values()].filter((value) => value === n).length
  t.same([1, 2, 3, 4, 5, 6].map(count), [1173, 38, 15, 2, 2, 1])
})

t.test(
  'patients cross between mass and calc; after the rule none does',
  { skip: withoutData('cbis-ddsm-csv') },
  async (t) => {
    const { tables } = await readCbisTables(dataPath('cbis-ddsm-csv'))
    const [calcTest, calcTrain, massTest, massTrain] = tables.map(({ rows }) => new Set(rows.map((row) => row.patient)))
    const shared = (a: Set<string>, b: Set<string>) => [...a].filter((patient) => b.has(patient)).length
    t.equal(shared(massTrain!, massTest!), 0)
    t.equal(shared(calcTrain!, calcTest!), 0)
    t.equal(shared(massTrain!, calcTest!), 13)
    t.equal(shared(calcTrain!, massTest!), 18)
    const splits = cbisSplits(tables)
    for (const patient of [...calcTest!, ...massTest!]) if (splits.get(patient) !== 'test') t.fail(patient)
  },
)

t.test('LF equals CRLF', { skip: withoutData('cbis-ddsm-csv') }, async (t) => {
  const name = 'mass_case_description_test_set.csv'
  const folder = t.testdir()
  const text = await readFile(dataPath('cbis-ddsm-csv', name), 'utf8')
  await writeFile(join(folder, name), `\uFEFF${text.replaceAll('\n', '\r\n')}`)
  const [crlf] = (await readCbisTables(folder)).tables
  const lf = (await readCbisTables(dataPath('cbis-ddsm-csv'))).tables.find(({ file }) => file === name)
  t.same(crlf, lf)
})

t.test('small training images', { skip: withoutData('cbis-ddsm-800'), timeout: 120_000 }, async (t) => {
  const patientPattern = '^(?<patient>\\d+)_(?<laterality>LEFT|RIGHT)_(?<view>CC|MLO)'
  const dataset = await readDataset(dataPath('cbis-ddsm-800'), { patientPattern })
  t.same(dataset.problems, [])
  t.match(dataset.header.counts, {
    images: 1231,
    patients: 691,
    annotated: 1231,
    negatives: 0,
    lesions: { mass: 1318 },
  })
  t.ok(dataset.records.every((record) => record.lesions.every(({ box }) => box.every((v) => v >= 0 && v <= 800))))
  t.ok(dataset.records.every((record) => record.laterality !== null && record.view !== null))
  const text = manifestText(dataset.header, dataset.records)
  t.equal(manifestText(dataset.header, [...dataset.records].reverse()), text, 'order of records does not matter')
  t.same(parseManifest(text, 'manifest.jsonl').problems, [])

  const full = JSON.parse(readFileSync(dataPath('cbis-ddsm-fullres', 'boxes.json'), 'utf8')) as Record<
    string,
    { width: number; height: number; cbis: string; boxes_xywh: [number, number, number, number][] }
  >
  for (const { width, height, cbis, boxes_xywh: boxes } of Object.values(full)) {
    const record = dataset.records.find(({ id }) => id === `coco/${cbis}`)!
    const [sx, sy] = [width / 800, height / 800]
    const scaled = record.lesions.map(({ box: [x1, y1, x2, y2] }) => [x1 * sx, y1 * sy, (x2 - x1) * sx, (y2 - y1) * sy])
    const off = scaled[0]!.map((value, n) => Math.abs(value - boxes[0]![n]!))
    t.ok(Math.max(...off) <= 1, `${cbis}: boxes agree within a pixel (${Math.max(...off).toFixed(2)})`)
  }
})
