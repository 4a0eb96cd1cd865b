import t from 'tap'
import { parseLabels, yolo } from '../../../lib/data/formats/yolo.js'
import type { Problem } from '../../../lib/data/types.js'
import { png, writeTree } from './layouts.js'

t.test('a folder: labels, negatives, missing and lonely labels', async (t) => {
  const image = await png(120, 90)
  const folder = await writeTree(t.testdir(), {
    'data.yaml': 'names:\n  0: Mass\n  1: Other\n',
    'images/train/a.png': image,
    'images/train/b.png': image,
    'images/val/c.png': image,
    'labels/train/a.txt': '0 0.5 0.5 0.5 1\n1 0.05 0.05 0.1 0.1\n',
    'labels/train/b.txt': '',
    'labels/train/d.txt': '',
  })
  const { records, problems, header } = await yolo.read(folder)
  t.match(records, [
    {
      id: 'yolo/train/a',
      split: 'train',
      lesions: [{ class: 'mass', box: [30, 0, 90, 90], clipped: false }, { class: 'other' }],
    },
    { annotated: true, lesions: [] },
    { split: 'val', annotated: false },
  ])
  t.same(header.labelRules, { classes: ['mass', 'other'], missingIsNegative: false })
  t.match(problems.map(({ rule }) => rule).sort(), ['manifest/missing-file', 'split/no-patient', 'yolo/missing-label'])
  t.equal((await yolo.read(folder, { yolo: { missingIsNegative: true } })).records[2]!.annotated, true)
})

t.test('faulty lines', async (t) => {
  const problems: Problem[] = []
  parseLabels(
    '0 0.5 0.5 0.5\n0 a 0.5 0.5 0.5\n7 0.5 0.5 0.1 0.1\n0 50 50 10 10\n\n0 0.5 0.5 0.1 0.1',
    'a.txt',
    ['mass'],
    problems,
  )
  t.same(
    problems.map(({ rule, where }) => `${rule} ${where}`),
    ['yolo/columns a.txt:1', 'yolo/number a.txt:2', 'yolo/class a.txt:3', 'yolo/range a.txt:4'],
  )
})
