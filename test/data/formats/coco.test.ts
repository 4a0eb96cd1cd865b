import t from 'tap'
import { coco } from '../../../lib/data/formats/coco.js'
import { png, writeTree } from './layouts.js'

const good = {
  images: [
    { id: 1, file_name: 'p1_a.png', width: 120, height: 90 },
    { id: 2, file_name: 'p1_b.png', width: 120, height: 90 },
  ],
  annotations: [
    {
      id: 7,
      image_id: 1,
      category_id: 5,
      bbox: [10, 20, 30, 40],
      segmentation: [[10, 20, 40, 20, 40, 60]],
      iscrowd: 0,
    },
    { id: 8, image_id: 1, category_id: 2, bbox: [0, 0, 10, 10], iscrowd: 1 },
  ],
  categories: [
    { id: 5, name: 'Mass' },
    { id: 2, name: 'Other ' },
  ],
}
const write = async (t: { testdir: () => string }, content: unknown) =>
  writeTree(t.testdir(), {
    'annotations.json': typeof content === 'string' ? content : JSON.stringify(content),
    'p1_a.png': await png(120, 90),
    'images/p1_b.png': await png(120, 90),
  })

t.test('boxes, polygons, crowds, class order, patients', async (t) => {
  const { records, header, problems } = await coco.read(await write(t, good), { patientPattern: '^(?<patient>p\\d+)_' })
  t.same(problems, [])
  t.same(header.labelRules, { classes: ['other', 'mass'] })
  t.match(records, [
    { id: 'coco/p1_a', patient: 'p1' },
    { id: 'coco/p1_b', patient: 'p1', path: 'images/p1_b.png', lesions: [], annotated: true },
  ])
  t.match(records[0]!.lesions, [
    {
      id: '7',
      class: 'mass',
      box: [10, 20, 40, 60],
      polygon: [
        [10, 20],
        [40, 20],
        [40, 60],
      ],
      ignore: false,
      source: { name: 'Mass' },
    },
    { class: 'other', box: [0, 0, 10, 10], ignore: true },
  ])
})

t.test('without a pattern each image is a group, with a warning', async (t) => {
  const { records, problems } = await coco.read(await write(t, good))
  t.same(
    records.map(({ patient }) => patient),
    ['coco/p1_a', 'coco/p1_b'],
  )
  t.match(problems, [{ rule: 'split/no-patient', level: 'warning' }])
})

t.test('dangling ids and wrong sizes are problems, the rest counts', async (t) => {
  const bad = {
    ...good,
    images: [
      ...good.images,
      { id: 3, file_name: 'absent.png' },
      { id: 1, file_name: 'twice.png' },
      { id: 4, file_name: 'p1_a.png', width: 64, height: 64 },
    ],
    annotations: [
      ...good.annotations,
      { id: 9, image_id: 99, category_id: 5, bbox: [0, 0, 1, 1] },
      { id: 10, image_id: 1, category_id: 99, bbox: [0, 0, 1, 1] },
      { id: 11, image_id: 1, category_id: 5, bbox: [0, 0, 1] },
      { id: 12, image_id: 2, category_id: 5, bbox: [100, 10, 60, 30] },
      { id: 13, image_id: 2, category_id: 5, bbox: [500, 10, 60, 30] },
      { id: 14, image_id: 2, category_id: 5, bbox: [5, 5, 0, 30] },
      { id: 15, image_id: 2, category_id: 5, bbox: [5, 5, 30, 30], segmentation: [[5, 5, 50, 5, 50, 30]] },
    ],
  }
  const { records, problems } = await coco.read(await write(t, bad), { patientPattern: '^(?<patient>p\\d+)_' })
  t.same(problems.map(({ rule }) => rule).sort(), [
    'box/clipped',
    'box/empty',
    'box/outside',
    'coco/bbox',
    'coco/category-id',
    'coco/image',
    'coco/image-id',
    'manifest/missing-file',
    'manifest/size',
    'polygon/box',
  ])
  t.same(
    records.map(({ lesions }) => lesions.length),
    [2, 2],
  )
})

t.test('damaged JSON and other JSON are refused with their line', async (t) => {
  await t.rejects(coco.read(await write(t, '{\n"images": [,')), {
    code: 'ERR_MAMMO_ANNOTATION',
    where: /annotations\.json:2$/,
  })
  await t.rejects(coco.read(await write(t, { images: [] })), {
    code: 'ERR_MAMMO_ANNOTATION',
    details: { rule: 'coco/lists' },
  })
})

t.test('bad patterns are refused', async (t) => {
  const folder = await write(t, good)
  for (const patientPattern of ['p\\d+', '(?<patient>p'])
    await t.rejects(coco.read(folder, { patientPattern }), { code: 'ERR_MAMMO_ARGUMENT' })
  const { problems } = await coco.read(folder, { patientPattern: '^(?<patient>zzz)' })
  t.equal(problems.filter(({ rule }) => rule === 'data/patient-pattern').length, 2)
})

t.test('exclude leaves out images and lesions, and counts them', async (t) => {
  const { records, problems } = await coco.read(await write(t, good), {
    exclude: ['coco/p1_b', 'coco/p1_a#8'],
    patientPattern: '^(?<patient>p\\d+)_',
  })
  t.match(records, [{ id: 'coco/p1_a', lesions: [{ id: '7' }] }])
  t.match(problems, [{ rule: 'data/excluded', message: /^2 / }])
})

t.test('ids can be hashed', async (t) => {
  const { records } = await coco.read(await write(t, good), {
    patientPattern: '^(?<patient>p\\d+)_',
    hashIds: true,
    hashKey: 'k',
  })
  t.match(records[0]!.patient, /^h:[0-9a-f]{16}$/)
})
