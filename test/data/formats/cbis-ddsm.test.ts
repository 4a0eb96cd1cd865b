import t from 'tap'
import { cbisDdsm, maskExtent } from '../../../lib/data/formats/cbis-ddsm.js'
import { maskDicom, otherDicom, writeTree } from './layouts.js'

const mass =
  'patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,mass shape,mass margins,assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path'
const calc =
  'patient_id,breast density,left or right breast,image view,abnormality id,abnormality type,calc type,calc distribution,assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path'
const row = (kind: string, split: string, patient: string, id: number, pathology: string, density = 2) => {
  const folder = `${kind}-${split}_${patient}_LEFT_CC`
  return `${patient},${density},LEFT,CC,${id},${kind},X,Y,4,${pathology},0,${folder}/1.2/3.4/000000.dcm,${folder}_${id}/1.2/5.6/000001.dcm,"${folder}_${id}/1.2/5.6/000000.dcm\n"`
}
const photo = otherDicom(100, 120, (x, y) => x + y)
const crop = otherDicom(30, 30, (x, y) => x * y)
const image = 'CBIS/Mass-Training_P_00001_LEFT_CC/08-07-2016/1.000000-full/1-1.dcm'
const lesion = (n: number) => `CBIS/Mass-Training_P_00001_LEFT_CC_${n}/08-07-2016/1.000000-roi`

const tables = {
  'mass_case_description_train_set.csv': `${mass}\n${[row('Mass', 'Training', 'P_00001', 1, 'MALIGNANT'), row('Mass', 'Training', 'P_00001', 2, 'BENIGN_WITHOUT_CALLBACK'), row('Mass', 'Training', 'P_00002', 1, 'BENIGN', 0)].join('\n')}\n`,
  'calc_case_description_test_set.csv': `${calc}\n${row('Calc', 'Test', 'P_00001', 1, 'BENIGN')}\n`,
}

t.test('crop and mask are told apart by content, all rows of an image are collected', async (t) => {
  const folder = await writeTree(t.testdir(), {
    ...tables,
    [image]: photo,
    // Swapped names: the mask first in one, last in the other.
    [`${lesion(1)}/1-1.dcm`]: maskDicom(100, 120, [10, 20, 40, 60]),
    [`${lesion(1)}/1-2.dcm`]: crop,
    [`${lesion(2)}/1-1.dcm`]: crop,
    [`${lesion(2)}/1-2.dcm`]: maskDicom(50, 60, [5, 10, 20, 30]),
  })
  t.equal(await cbisDdsm.detect(folder), true)
  const { records, problems } = await cbisDdsm.read(folder)
  t.match(
    records,
    [
      {
        id: 'cbis-ddsm/Mass-Training_P_00001_LEFT_CC',
        patient: 'P_00001',
        laterality: 'L',
        view: 'CC',
        density: 'B',
        split: 'test',
        spacingMm: null,
        flags: ['film'],
      },
    ],
    'test membership wins',
  )
  t.match(records[0]!.lesions, [
    { id: 'mass1', class: 'mass', box: [10, 20, 40, 60], pathology: 'malignant', biRads: '4' },
    { id: 'mass2', box: [10, 20, 40, 60], pathology: 'benign' },
  ])
  t.match(problems.map(({ rule }) => rule).sort(), [
    'cbis/mask-size',
    'dataset/incomplete',
    'dataset/incomplete',
    'dataset/incomplete',
    'lesion/duplicate',
  ])
})

t.test('no mask, two masks, another shape, an empty mask', async (t) => {
  const cases: [string, Record<string, Uint8Array>][] = [
    ['cbis/ambiguous-mask', { '1-1.dcm': crop }],
    [
      'cbis/ambiguous-mask',
      { '1-1.dcm': maskDicom(100, 120, [1, 1, 9, 9]), '1-2.dcm': maskDicom(100, 120, [1, 1, 9, 9]) },
    ],
    ['cbis/ambiguous-mask', { '1-1.dcm': maskDicom(100, 80, [1, 1, 9, 9]) }],
    ['cbis/empty-mask', { '1-1.dcm': maskDicom(100, 120, [0, 0, 0, 0]) }],
  ]
  for (const [rule, files] of cases) {
    const named = Object.fromEntries(Object.entries(files).map(([name, bytes]) => [`${lesion(1)}/${name}`, bytes]))
    const folder = await writeTree(t.testdir(), { ...tables, [image]: photo, ...named })
    const { records, problems } = await cbisDdsm.read(folder)
    t.ok(
      problems.some((problem) => problem.rule === rule),
      rule,
    )
    t.match(records, [{ annotated: false, lesions: [] }], 'an image whose lesions are unknown is no negative')
  }
})

t.test('extent of a mask', async (t) => {
  t.same(maskExtent(Uint16Array.from([0, 0, 0, 0, 255, 0, 0, 0, 255]), 3), [1, 1, 3, 3])
  t.equal(maskExtent(new Uint16Array(9), 3), undefined)
})
