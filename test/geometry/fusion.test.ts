import t from 'tap'
import { type FusionOptions, fuseBoxes } from '../../lib/geometry/fusion.js'

const options: FusionOptions = { iou: 0.55, minScore: 0, score: 'average' }

t.test('two views of one lesion become one box between them', (t) => {
  const fused = fuseBoxes(
    [[{ box: [0, 0, 100, 100], score: 0.9, label: 0 }], [{ box: [0, 0, 110, 100], score: 0.3, label: 0 }]],
    options,
  )
  t.equal(fused.length, 1)
  t.ok(Math.abs(fused[0]!.box[2] - 102.5) < 1e-9)
  t.ok(Math.abs(fused[0]!.score - 0.6) < 1e-12)
  t.end()
})

t.test('a box that one of two sources has counts half; classes stay apart; pixels need no scaling', (t) => {
  const one = fuseBoxes([[{ box: [0, 0, 4000, 3000], score: 0.8, label: 0 }], []], options)
  t.same(one, [{ box: [0, 0, 4000, 3000], score: 0.4, label: 0 }])
  const box: [number, number, number, number] = [0, 0, 9, 9]
  t.equal(fuseBoxes([[{ box, score: 0.8, label: 0 }], [{ box, score: 0.8, label: 1 }]], options).length, 2)
  t.same(fuseBoxes([], options), [])
  t.same(fuseBoxes([[{ box, score: 0.1, label: 0 }]], { ...options, minScore: 0.2 }), [])
  t.throws(() => fuseBoxes([[]], { ...options, weights: [0] }), RangeError)
  t.end()
})
