import t from 'tap'
import { parseVoc, voc } from '../../../lib/data/formats/voc.js'
import type { Problem } from '../../../lib/data/types.js'
import { png, writeTree } from './layouts.js'

const xml = (box: number[], more = '') =>
  `<annotation><filename>a.png</filename><size><width>120</width><height>90</height><depth>1</depth></size><object><name>Mass</name>${more}<bndbox><xmin>${box[0]}</xmin><ymin>${box[1]}</ymin><xmax>${box[2]}</xmax><ymax>${box[3]}</ymax></bndbox></object></annotation>`

t.test('boxes are 1-based inclusive unless zero-based', async (t) => {
  const problems: Problem[] = []
  t.same(parseVoc(xml([1, 1, 10, 10]), 'a.xml', false, problems)!.objects, [
    { name: 'Mass', difficult: false, box: [0, 0, 10, 10] },
  ])
  t.same(parseVoc(xml([1, 1, 10, 10]), 'a.xml', true, problems)!.objects[0]!.box, [1, 1, 10, 10])
  t.equal(
    parseVoc(xml([1, 1, 10, 10], '<difficult>1</difficult>'), 'a.xml', false, problems)!.objects[0]!.difficult,
    true,
  )
  t.same(problems, [])
})

t.test('truncated XML, missing names and numbers are problems', async (t) => {
  const found = (text: string) => {
    const problems: Problem[] = []
    parseVoc(text, 'a.xml', false, problems)
    return problems.map(({ rule }) => rule)
  }
  t.same(found(xml([1, 1, 10, 10]).slice(0, 100)), ['voc/xml'])
  t.same(found('<other/>'), ['voc/xml'])
  t.same(found(xml([1, 1, Number.NaN, 10])), ['voc/box'])
  t.same(found(xml([1, 1, 9, 9]).replace('Mass', '')), ['voc/name'])
})

t.test('a folder: sets, images without annotation, absent images', async (t) => {
  const folder = await writeTree(t.testdir(), {
    'Annotations/a.xml': xml([1, 1, 10, 10]),
    'Annotations/c.xml': xml([1, 1, 10, 10]).replace('a.png', 'c.png'),
    'ImageSets/Main/train.txt': 'a\nb\n',
    'ImageSets/Main/test.txt': 'c\n',
    'JPEGImages/a.png': await png(120, 90),
    'JPEGImages/b.png': await png(120, 90),
  })
  const { records, problems } = await voc.read(folder)
  t.match(records, [
    { id: 'voc/a', split: 'train', annotated: true },
    { id: 'voc/b', split: 'train', annotated: false },
  ])
  t.match(
    problems.filter(({ level }) => level === 'error'),
    [{ rule: 'manifest/missing-file', where: 'Annotations/c.xml' }],
  )
  t.same((await voc.read(folder, { sets: ['train'] })).records.length, 2)
})
