import t from 'tap'
import { detectAdapter, EXPORT_FORMATS, exportDataset, readDataset } from '../../../lib/data/formats/index.js'
import { throwErrors } from '../../../lib/data/manifest.js'
import { boxDistance, sampleImages, sampleRecords } from './generic.js'
import { writeTree } from './layouts.js'

t.test('writing and reading returns the boxes', async (t) => {
  const records = sampleRecords()
  const images = await sampleImages()
  const splitFolder = (name: string) => (name === 'c.png' ? 'test' : 'train')
  const yoloImages = Object.fromEntries(
    Object.entries(images).map(([name, bytes]) => [`images/${splitFolder(name)}/${name}`, bytes]),
  )
  for (const format of EXPORT_FORMATS) {
    const files = format === 'yolo' ? yoloImages : images
    const folder = await writeTree(t.testdir(), files)
    await exportDataset(format, records, folder)
    t.equal((await detectAdapter(folder))?.name, format)
    const read = await readDataset(folder)
    // YOLO ids begin with the split's folder.
    read.records.sort((a, b) => (a.id.slice(-1) < b.id.slice(-1) ? -1 : 1))
    const limit = format === 'yolo' ? 120e-6 : format === 'coco' || format === 'voc' ? 1e-9 : 0
    t.ok(boxDistance(records, read.records) <= limit, `${format}: boxes within ${limit}`)
    t.same(
      read.problems.filter(({ level }) => level === 'error'),
      [],
      `${format}: no errors`,
    )
    t.equal(read.records[1]!.annotated, true, `${format}: the negative stays one`)
    if (format === 'coco' || format === 'voc')
      t.equal(read.records[0]!.lesions[1]!.ignore, true, `${format} keeps ignore`)
    if (format === 'voc' || format === 'yolo')
      t.same(
        read.records.map(({ split }) => split),
        ['train', 'train', 'test'],
        `${format} keeps splits`,
      )
  }
})

t.test('unknown folders and names say what is possible', async (t) => {
  await t.rejects(readDataset(t.testdir({ 'x.txt': '' })), {
    code: 'ERR_MAMMO_ANNOTATION',
    fix: /KITTI, Open Images, ...\) come in as COCO/,
  })
  await t.rejects(readDataset('.', { adapter: 'kitti' as never }), { code: 'ERR_MAMMO_ARGUMENT', exitCode: 2 })
})

t.test('throwErrors lists all errors and passes warnings', async (t) => {
  const problem = {
    rule: 'box/empty',
    level: 'error' as const,
    message: 'box of lesion a has width 0',
    where: 'a.xml',
    fix: 'correct it',
  }
  throwErrors([{ ...problem, level: 'warning' }], 'x')
  t.throws(() => throwErrors([problem], 'x'), {
    code: 'ERR_MAMMO_ANNOTATION',
    where: 'a.xml',
    details: { rule: 'box/empty' },
  })
  t.throws(() => throwErrors([problem, { ...problem, where: 'b.xml' }], 'x'), {
    message: /2 problems\n.*a\.xml.*\n.*b\.xml/,
  })
})
