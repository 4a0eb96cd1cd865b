import t from 'tap'
import { mias, miasBox, parseInfo } from '../../../lib/data/formats/mias.js'
import { writeTree } from './layouts.js'

const pgm = Buffer.concat([Buffer.from('P5\n1024 1024\n255\n'), Buffer.alloc(1024 * 1024, 7)])

t.test('a whole folder', async (t) => {
  t.equal(pgm.length, 1048593)
  const folder = await writeTree(t.testdir(), {
    'Info.txt': [
      'INFORMATION: prose that mentions mdb files, and a header',
      'REF BG CLASS SEVERITY X Y RADIUS',
      'mdb001 G CIRC B 535 425 197',
      'mdb002 G CIRC B 338 314 56',
      'mdb002 G CALC M 500 500 10',
      'mdb003 D NORM',
      'mdb059 F CIRC B *NOTE 3*',
      '',
    ].join('\r\n'),
    'mdb001.pgm': pgm,
    'mdb002.pgm': pgm,
    'mdb003.pgm': pgm,
    'mdb059.pgm': pgm,
  })
  t.equal(await mias.detect(folder), true)
  const { records, problems } = await mias.read(folder)
  t.match(records, [
    {
      id: 'mini-mias/mdb001',
      patient: 'p001',
      laterality: 'R',
      view: 'MLO',
      density: null,
      spacingMm: [0.2, 0.2],
      annotated: true,
    },
    {
      patient: 'p001',
      laterality: 'L',
      lesions: [
        { class: 'mass', box: [282, 654, 394, 766], pathology: 'benign' },
        { class: 'calcification', pathology: 'malignant' },
      ],
    },
    { patient: 'p002', lesions: [], annotated: true },
    { patient: 'p030', lesions: [], annotated: false },
  ])
  t.same(
    problems.map(({ rule, level }) => [rule, level]),
    [
      ['dataset/incomplete', 'warning'],
      ['mias/no-coordinates', 'warning'],
    ],
  )
})

t.test('the origin is bottom left', async (t) => {
  t.same(miasBox(338, 314, 56), [282, 654, 394, 766])
})

t.test('unknown classes are errors with their line', async (t) => {
  const problems: Parameters<typeof parseInfo>[2] = []
  t.same(parseInfo('mdb001 G BLOB B 1 2 3\nmdb002 G', 'Info.txt', problems), [])
  t.match(problems, [{ where: 'Info.txt:1', rule: 'mias/row' }, { where: 'Info.txt:2' }])
})
