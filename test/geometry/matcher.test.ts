import t from 'tap'
import { type AnchorConfig, anchorTable, gridSizes } from '../../lib/geometry/anchors.js'
import type { Box } from '../../lib/geometry/boxes.js'
import { anchorField, BACKGROUND, IGNORED, type MatcherConfig, matchAnchors } from '../../lib/geometry/matcher.js'

const levels = [3, 4, 5, 6, 7]
const keras: AnchorConfig = {
  sizes: [32, 64, 128, 256, 512],
  strides: [8, 16, 32, 64, 128],
  scales: [1, 2 ** (1 / 3), 2 ** (2 / 3)],
  ratios: [0.5, 1, 2],
  shape: 'area',
  truncateSizes: false,
  roundCorners: false,
  offset: 0.5,
  strideRule: 'configured',
}
const torchvision: AnchorConfig = { ...keras, shape: 'side', truncateSizes: true, roundCorners: true, offset: 0 }
const base: MatcherConfig = {
  kind: 'iou',
  positiveIou: 0.5,
  negativeIou: 0.4,
  negativeInclusive: true,
  lowQuality: false,
  lowQualityMinIou: 0,
  outside: 'ignoreAll',
  atssTopk: 4,
  atssCentreInBox: true,
}
const vision: MatcherConfig = { ...base, negativeInclusive: false, outside: 'background' }

function field(config: AnchorConfig) {
  const grids = gridSizes(64, 64, levels)
  return anchorField(config, grids, [64, 64], anchorTable(config, grids, [64, 64], 'float32'))
}
function counts(state: Int32Array): [number, number, number] {
  const of = (test: (s: number) => boolean) => state.filter(test).length
  return [of((s) => s >= 0), of((s) => s === IGNORED), of((s) => s === BACKGROUND)]
}
const match = (anchors: AnchorConfig, boxes: Box[], rules: MatcherConfig, image: [number, number] = [64, 64]) =>
  matchAnchors(field(anchors), { boxes, image }, rules).state

t.test('the worked targets of keras-retinanet, with the exact centre rule', (t) => {
  const state = match(keras, [[10, 10, 42, 40]], base)
  t.same(counts(state), [14, 33, 727])
  const ids = [162, 165, 166, 171, 174, 175, 177, 234, 237, 238, 243, 246, 247, 249]
  t.same(Array.from(state.keys()).filter((a) => state[a]! >= 0), ids) // biome-ignore format: short
  t.end()
})

t.test(
  'low-quality matches: torchvision fires at any IoU, a floor stops it, IoU 0 never matches under a floor',
  (t) => {
    t.same(counts(match(torchvision, [[10, 10, 42, 40]], vision)), [13, 22, 739])
    t.same(counts(match(torchvision, [[10, 10, 42, 40]], { ...vision, lowQuality: true })), [13, 22, 739])
    const tiny: Box[] = [[10, 10, 18, 16]]
    t.same(counts(match(torchvision, tiny, vision)), [0, 0, 774])
    t.same(counts(match(torchvision, tiny, { ...vision, lowQuality: true })), [20, 0, 754])
    t.same(counts(match(torchvision, tiny, { ...vision, lowQuality: true, lowQualityMinIou: 0.2 })), [0, 0, 774])
    const far: Box[] = [[5000, 5000, 5010, 5010]]
    t.same(counts(match(torchvision, far, { ...vision, lowQuality: true, lowQualityMinIou: 0.2 })), [0, 0, 774])
    t.end()
  },
)

t.test('no boxes, equal boxes, ignore regions', (t) => {
  t.same(counts(match(keras, [], { ...base, outside: 'background' })), [0, 0, 774])
  const twice = match(keras, [[10, 10, 42, 40], [10, 10, 42, 40]], base) // biome-ignore format: short
  t.equal(twice.filter((s) => s === 1).length, 0, 'the first of equal boxes wins')
  const { state } = matchAnchors(
    field(keras),
    { boxes: [[10, 10, 42, 40]], image: [64, 64], ignore: [[0, 0, 64, 64]] },
    { ...base, outside: 'ignoreBackground' },
  )
  t.same(counts(state)[0], 14, 'positives stay')
  t.equal(counts(state)[2], 0, 'all background inside the region is ignored')
  t.end()
})

t.test('ATSS: a single candidate, a tiny box without a centre inside, the better of two boxes', (t) => {
  const atss: MatcherConfig = { ...base, kind: 'atss', outside: 'background' }
  const one = { ...keras, sizes: [32], strides: [64], scales: [1], ratios: [1] }
  const single = anchorField(one, [[1, 1]], [64, 64], anchorTable(one, [[1, 1]], [64, 64], 'float32'))
  t.same(Array.from(matchAnchors(single, { boxes: [[20, 20, 50, 50]], image: [64, 64] }, atss).state), [0])
  const tiny = match(keras, [[1, 1, 2, 2]], atss)
  t.equal(tiny.filter((s) => s === 0).length, 1, 'its best candidate')
  const large = match(keras, [[8, 8, 56, 60]], atss)
  t.ok(large.some((s) => s === 0))
  t.notOk(large.includes(IGNORED), 'no band')
  const two = match(keras, [[8, 8, 40, 40], [9, 9, 41, 41]], atss) // biome-ignore format: short
  t.ok(two.includes(0) && two.includes(1))
  t.end()
})
