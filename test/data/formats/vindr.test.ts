import t from 'tap'
import { parseList, vindr } from '../../../lib/data/formats/vindr.js'
import { buildImage } from '../dicom-builder.js'
import { writeTree } from './layouts.js'

const dicom = buildImage({ rows: 200, columns: 150, values: new Uint16Array(30000).fill(7), bitsStored: 12 })

t.test('a whole folder', async (t) => {
  const folder = await writeTree(t.testdir(), {
    'breast-level_annotations.csv': [
      'study_id,series_id,laterality,view_position,height,width,breast_birads,breast_density,split,image_id',
      's1,r,L,CC,200,150,BI-RADS 4,DENSITY C,training,i1',
      's1,r,R,MLO,200,150,BI-RADS 1,DENSITY C,training,i2',
      's2,r,L,MLO,200,150,BI-RADS 2,DENSITY A,test,i3',
    ].join('\n'),
    'finding_annotations.csv': [
      'image_id,finding_categories,finding_birads,xmin,ymin,xmax,ymax',
      `i1,"['Mass', 'Skin Retraction']",BI-RADS 4,10.25,20.5,60.75,80`,
      `i2,['No Finding'],,,,,`,
      `i3,['Mass'],BI-RADS 3,100,20,191,80`,
      `i9,['Mass'],BI-RADS 3,100,20,140,80`,
    ].join('\n'),
    'images/s1/i1.dicom': dicom,
    'images/s1/i2.dicom': dicom,
    'images/s2/i3.dicom': dicom,
  })
  t.equal(await vindr.detect(folder), true)
  const { records, problems } = await vindr.read(folder)
  t.match(records, [
    {
      id: 'vindr-mammo/i1',
      patient: 's1',
      laterality: 'L',
      view: 'CC',
      density: 'C',
      biRads: '4',
      split: 'train',
      annotated: true,
    },
    { id: 'vindr-mammo/i2', lesions: [], annotated: true, biRads: '1' },
    { id: 'vindr-mammo/i3', split: 'test', lesions: [{ box: [100, 20, 150, 80], clipped: true, biRads: '3' }] },
  ])
  t.same(
    records[0]!.lesions.map(({ class: name, box }) => [name, ...box]),
    [
      ['mass', 10.25, 20.5, 60.75, 80],
      ['skin retraction', 10.25, 20.5, 60.75, 80],
    ],
  )
  t.match(
    problems.find(({ rule }) => rule === 'box/clipped'),
    { message: /by 41 px/ },
  )
  t.match(
    problems.filter(({ level }) => level === 'error'),
    [{ rule: 'vindr/image', where: 'finding_annotations.csv:5' }],
  )
})

t.test('list literals are parsed, never evaluated', async (t) => {
  t.same(parseList("['Mass', \"Skin's\"]"), ['Mass', "Skin's"])
  t.same(parseList('[]'), [])
  for (const text of ['Mass', '[Mass]', "['a' 'b']", "['a", 'process.exit()']) t.equal(parseList(text), undefined, text)
})
