import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { readPredictions, writePredictions } from '../../lib/train/predictions.js'

t.test('what is written is read back, images without detections included', async (t) => {
  const path = join(t.testdir(), 'eval', 'p.json')
  const detections = new Map([
    ['a/1', [{ box: [1.5, 2, 11.25, 20.5] as [number, number, number, number], score: 0.75, label: 0 }]],
    ['a/2', []],
  ])
  const info = { split: 'val', scoreThreshold: 0.01 }
  await writePredictions(path, { info, detections }, ['mass'])
  t.strictSame(await readPredictions(path, ['mass']), { info, detections })
  t.equal((await readPredictions(path, ['other'])).detections.get('a/1')?.length, 0, 'classes are matched by name')
})

t.test('plain COCO results', async (t) => {
  const path = join(t.testdir(), 'p.json')
  writeFileSync(path, JSON.stringify([{ image_id: 'a', category_id: 1, bbox: [1, 2, 3, 4], score: 0.5 }]))
  const { detections } = await readPredictions(path, ['mass'])
  t.strictSame([...detections], [['a', [{ box: [1, 2, 4, 6], score: 0.5, label: 0 }]]])
})

t.test('faulty files are named', async (t) => {
  const path = join(t.testdir(), 'p.json')
  const cases: [string, RegExp][] = [
    ['no', /JSON/],
    ['{}', /expected a list/],
    ['[{"image_id":"a","category_id":9,"bbox":[1,2,3,4],"score":0.5}]', /known category_id, got 9/],
    ['[{"image_id":"a","category_id":1,"bbox":[1,2,3],"score":0.5}]', /bbox of four/],
    ['[{"image_id":"a","category_id":1,"bbox":[1,2,3,4],"score":null}]', /finite score/],
    [
      '{"images":[],"categories":[{"id":1,"name":"mass"}],"annotations":[{"image_id":7,"category_id":1,"bbox":[1,2,3,4],"score":1}]}',
      /1 of others/,
    ],
  ]
  for (const [text, message] of cases) {
    writeFileSync(path, text)
    await t.rejects(readPredictions(path, ['mass']), { code: 'ERR_MAMMO_ANNOTATION', exitCode: 3, message })
  }
  await t.rejects(readPredictions(join(path, 'missing'), ['mass']), { code: 'ERR_MAMMO_ANNOTATION' })
})
