import t from 'tap'
import { nms, orderByScore, selectDetections } from '../../lib/geometry/nms.js'

t.test('greedy suppression, strict, ties in index order', (t) => {
  const boxes = [0, 0, 10, 10, 0, 0, 10, 10, 0, 0, 10, 20, 100, 100, 110, 110]
  t.same(nms(boxes, [0.5, 0.5, 0.9, 0.1], 0.4), [2, 3])
  t.same(nms(boxes, [0.5, 0.5, 0.9, 0.1], 0.5), [2, 0, 3], 'IoU exactly at the threshold stays')
  t.same(nms(boxes, [0.5, 0.5, 0.9, 0.1], 0.5, [0, 1, 0, 0]), [2, 0, 1, 3], 'classes do not see each other')
  t.same(nms([], [], 0.5), [])
  t.same(Array.from(orderByScore([1, 3, 3, 2])), [1, 2, 3, 0])
  t.throws(() => nms([0, 0, 1, 1], [], 0.5), RangeError)
  t.end()
})

t.test('the worked example: two equal boxes, two classes', (t) => {
  const rules = { scoreThreshold: 0.05, nmsIou: 0.5, agnostic: false, bestClassOnly: false, maxDetections: 300 }
  const got = selectDetections([0, 0, 10, 10, 0, 0, 10, 10], [0, 0.9, 0, 1], 2, rules)
  t.same(got, { index: [1], label: [1], score: [1] })
  const every = selectDetections([0, 0, 9, 9], [0.5, 0.6], 2, rules)
  t.same(every.label, [1, 0])
  t.same(selectDetections([0, 0, 9, 9], [0.5, 0.6], 2, { ...rules, bestClassOnly: true }).label, [1])
  t.same(selectDetections([0, 0, 9, 9], [0.5, 0.6], 2, { ...rules, agnostic: true }).label, [1])
  t.same(selectDetections([0, 0, 9, 9], [0.05, 0.6], 2, rules).label, [1], 'the threshold is strict')
  t.end()
})
