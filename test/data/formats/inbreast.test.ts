import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { inbreast, inbreastClass, parseContours } from '../../../lib/data/formats/inbreast.js'
import type { Problem } from '../../../lib/data/types.js'
import { contourXml, otherDicom, writeTree } from './layouts.js'

const header = 'Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads'
const square: [number, number][] = [
  [10.4, 20.6],
  [50.2, 20.6],
  [50.2, 60.9],
  [10.4, 60.9],
]

async function dataset(t: { testdir: () => string }, xml: Record<string, string> = {}): Promise<string> {
  return writeTree(t.testdir(), {
    'INbreast.csv': `\uFEFF${[header, 'removed;removed;L;MLO;201001;20000001;1;5', 'removed;removed;R;CC;201001;20000002; ;1', 'removed;removed;R;FB;201001;20000003;4;4a'].join('\r\n')}\r\n`,
    'AllDICOMs/20000001_0123456789abcdef_MG_L_ML_ANON.dcm': otherDicom(64, 80),
    'AllDICOMs/20000002_0123456789abcdef_MG_R_CC_ANON.dcm': otherDicom(64, 80),
    'AllDICOMs/20000003_fedcba9876543210_MG_R_FB_ANON.dcm': otherDicom(64, 80),
    'AllXML/20000001.xml': contourXml([
      { name: 'Mass', points: square },
      { name: 'Calcification ', points: [[5.5, 6.5]] },
      { name: 'Espiculated Region', points: square.map(([x, y]) => [x - 1, y] as [number, number]) },
      { name: '', points: square },
    ]),
    'AllXML/20000003.xml': contourXml([
      {
        name: 'mass',
        points: [
          [40, 70],
          [64.3, 70],
          [64.3, 79],
          [40, 79],
        ],
      },
    ]),
    ...xml,
  })
}

t.test('a whole folder', async (t) => {
  const { records, header: manifest, problems } = await inbreast.read(await dataset(t))
  t.same(
    records.map(({ id }) => id),
    ['inbreast/20000001', 'inbreast/20000002', 'inbreast/20000003'],
  )
  const [first, second, third] = records
  t.match(first, {
    patient: '0123456789abcdef',
    laterality: 'L',
    view: 'MLO',
    density: 'A',
    biRads: '5',
    width: 64,
    height: 80,
    annotated: true,
    spacingMm: [0.07, 0.07],
    spacingSource: 'inbreast',
    path: 'AllDICOMs/20000001_0123456789abcdef_MG_L_ML_ANON.dcm',
  })
  t.same(
    first!.lesions.map(({ class: name, box }) => [name, ...box]),
    [
      ['mass', 10, 20, 51, 61],
      ['calcification', 5, 6, 6, 7],
      ['spiculation', 9, 20, 50, 61],
      ['unknown', 10, 20, 51, 61],
    ],
  )
  t.same(first!.lesions[0]!.polygon, square)
  t.match(
    second,
    { annotated: true, lesions: [], density: null, biRads: '1', patient: '0123456789abcdef' },
    'no XML is a negative',
  )
  t.match(third, { view: 'FB', biRads: '4a' })
  t.match(third!.lesions, [{ box: [40, 70, 64, 79], clipped: true, ignore: false }])
  t.match(manifest, {
    adapter: 'inbreast',
    labelRules: { boxRounding: 'outward', spiculatedAsMass: false },
    counts: { images: 3, patients: 2, negatives: 1, lesions: { mass: 2 } },
  })
  t.same(
    problems.filter(({ level }) => level === 'error'),
    [],
  )
  t.same(problems.map(({ rule }) => rule).sort(), ['box/clipped', 'dataset/incomplete'])
})

t.test('options change labels and are recorded', async (t) => {
  const { records, header: manifest } = await inbreast.read(await dataset(t), {
    boxRounding: 'none',
    inbreast: { spiculatedAsMass: true, malignantFrom: '4' },
  })
  t.match(records[0]!.lesions, [{ box: [10.4, 20.6, 50.2, 60.9], pathology: 'malignant' }, {}, { class: 'mass' }, {}])
  t.same(manifest.labelRules, { boxRounding: 'none', malignantFrom: '4', spiculatedAsMass: true })
})

t.test('damaged contours are errors, the others count', async (t) => {
  const problems: Problem[] = []
  const xml = contourXml(
    [
      { name: 'Mass', points: square, count: 9 },
      { name: 'Mass', points: square },
    ],
    3,
  )
  t.same(
    parseContours(xml, 'a.xml', problems)!.map(({ index }) => index),
    [1],
  )
  t.match(problems, [
    { message: 'NumberOfROIs says 3, the list has 2' },
    { rule: 'inbreast/xml', message: 'ROI 0 ("Mass"): NumberOfPoints says 9, the list has 4', where: 'a.xml' },
  ])
  for (const text of [
    xml.slice(0, 900),
    '',
    'no xml',
    '<plist><dict/></plist>',
    '<plist version="1.0"><dict><key>Images</key><array/></dict></plist>',
  ]) {
    const found: Problem[] = []
    t.equal(parseContours(text, 'a.xml', found), undefined)
    t.match(found, [{ rule: 'inbreast/xml', level: 'error' }])
  }
})

t.test('names', async (t) => {
  const names = {
    ' MASS ': 'mass',
    Cluster: 'calcification',
    'Point 3': 'calcification',
    Assymetry: 'asymmetry',
    'Point 1': 'unknown',
    Distortion: 'distortion',
  }
  for (const [name, expected] of Object.entries(names)) t.equal(inbreastClass(name, false), expected, name)
})

t.test('without the CSV the message says that the XLS is not needed', async (t) => {
  const folder = await dataset(t, { 'INbreast.xls': 'x' })
  await rm(join(folder, 'INbreast.csv'))
  await t.rejects(inbreast.read(folder), { code: 'ERR_MAMMO_ANNOTATION', message: /INbreast.xls is not read/ })
})
