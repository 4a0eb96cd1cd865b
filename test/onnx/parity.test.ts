import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  compareDetections,
  compareHeads,
  type DetectionSet,
  mergeParity,
  requireParity,
  runOnnx,
  splitDetections,
} from '../../lib/onnx/parity.js'
import { runBytes, testImage, tinyBytes, tinyDetector } from './tiny-model.js'

const cuts = { scoreThreshold: 0.05, nmsIou: 0.5, maxDetections: 100 }
const set = (...rows: [number[], number, number?][]): DetectionSet => ({
  boxes: rows.flatMap(([box]) => box),
  scores: rows.map(([, score]) => score),
  labels: rows.map(([, , label]) => label ?? 0),
})
const a: [number[], number] = [[10, 10, 50, 60], 0.9]
const b: [number[], number] = [[100, 100, 2100, 300], 0.4]

t.test('equal sets agree', async (t) => {
  const result = compareDetections(set(a, b), set(a, b), cuts)
  t.match(result, { ok: true, matched: 2, worstScore: 0, worstBoxPixels: 0, failures: [], borderline: [] })
  t.ok(compareDetections(set(), set(), cuts).ok)
})

t.test('the box tolerance is 0.05 px or 5e-5 of the longer side', async (t) => {
  const moved = (box: number[], by: number) => box.map((v, i) => (i === 0 ? v + by : v))
  t.ok(compareDetections(set(a), set([moved(a[0], 0.049), 0.9]), cuts).ok)
  t.notOk(compareDetections(set(a), set([moved(a[0], 0.051), 0.9]), cuts).ok)
  t.ok(compareDetections(set(b), set([moved(b[0], 0.099), 0.4]), cuts).ok)
  t.notOk(compareDetections(set(b), set([moved(b[0], 0.101), 0.4]), cuts).ok)
})

t.test(
  'of overlapping boxes with equal scores either may be kept, but only boxes that the reference had before NMS',
  async (t) => {
    const shifted: [number[], number] = [[18, 10, 58, 60], 0.9]
    t.notOk(compareDetections(set(a), set(shifted), cuts).ok, 'without the pool a displaced box is a failure')
    t.notOk(
      compareDetections(set(a), set(shifted), cuts, set(a, b)).ok,
      'a box that the reference never had is a failure',
    )
    t.notOk(compareDetections(set(a), set([shifted[0], 0.8]), cuts, set(a, [shifted[0], 0.8])).ok, 'unequal scores')
    const result = compareDetections(set(a), set(shifted), cuts, set(a, shifted))
    t.match(result, { ok: true, failures: [] })
    t.equal(result.borderline.length, 2)
  },
)

t.test('scores, classes, numbers and missing boxes count', async (t) => {
  t.ok(compareDetections(set(a), set([a[0], 0.90009]), cuts).ok)
  t.notOk(compareDetections(set(a), set([a[0], 0.9002]), cuts).ok)
  t.notOk(compareDetections(set(a), set([a[0], 0.9, 1]), cuts).ok)
  t.notOk(compareDetections(set(a), set([a[0], Number.NaN]), cuts).ok)
  t.match(compareDetections(set(a, b), set(a), cuts), { ok: false, matched: 1, failures: [/only in the reference/] })
  t.match(compareDetections(set(a), set(a, b), cuts), { ok: false, failures: [/only in the candidate/] })
  t.notOk(compareDetections(set(a, a), set(a), cuts).ok, 'one to one')
})

t.test('decisions at a cut are listed and accepted', async (t) => {
  const faint: [number[], number] = [[0, 0, 5, 5], 0.05005]
  t.match(compareDetections(set(a, faint), set(a), cuts), { ok: true, borderline: [/score at the threshold/] })
  t.match(compareDetections(set(a), set(a, faint), cuts), { ok: true, borderline: [/score at the threshold/] })
  const half: [number[], number] = [[10, 10, 50, 35.001], 0.8]
  t.match(
    compareDetections(set(a, half), set(a), cuts),
    { ok: true, borderline: [/NMS threshold/] },
    'IoU 0.50002 with a',
  )
  t.notOk(compareDetections(set(a, [half[0], 0.8, 1]), set(a), cuts).ok, 'another class is not suppressed')
  t.ok(compareDetections(set(a, [half[0], 0.8, 1]), set(a), { ...cuts, agnostic: true }).ok)
  const third: [number[], number] = [[10, 10, 50, 30], 0.8]
  t.notOk(compareDetections(set(a, third), set(a), cuts).ok)
  const full = { ...cuts, maxDetections: 2 }
  const last: [number[], number] = [[0, 0, 9, 9], 0.39995]
  t.match(compareDetections(set(a, b), set(a, last), full), {
    ok: true,
    borderline: [/last of a full list/, /last of a full list/],
  })
})

t.test('in a field of equal boxes the limit per level chooses freely', async (t) => {
  const cell = (i: number): [number[], number] => [[40 * i, 0, 40 * i + 50, 20], 0.3]
  const field = set(...Array.from({ length: 12 }, (_, i) => cell(i)))
  const limited = { ...cuts, topkPerLevel: 10 }
  t.match(compareDetections(set(cell(0), cell(3)), set(cell(0), cell(5)), limited, field), {
    ok: true,
    borderline: [/one of 12 equal boxes/, /one of 12 equal boxes/],
  })
  const unlimited = { ...cuts, topkPerLevel: 100 }
  t.notOk(compareDetections(set(cell(0), cell(3)), set(cell(0), cell(5)), unlimited, field).ok, 'no limit reached')
  const moved: [number[], number] = [[203, 0, 253, 20], 0.3]
  t.notOk(
    compareDetections(set(cell(0)), set(cell(0), moved), limited, field).ok,
    'a box that the engine does not know',
  )
  const few = set(...Array.from({ length: 5 }, (_, i) => cell(i)), a, a)
  t.notOk(compareDetections(set(cell(0), cell(3)), set(cell(0)), limited, few).ok, 'the limit is not reached')
  const many = set(...Array.from({ length: 12 }, (_, i) => cell(i)), ...Array.from({ length: 10 }, () => a))
  t.notOk(
    compareDetections(set(cell(0), cell(3)), set(cell(0), cell(5)), limited, many).ok,
    'better ones fill the limit',
  )
})

t.test('the order may differ only between close scores', async (t) => {
  const close: [number[], number] = [[0, 0, 9, 9], 0.40005]
  t.ok(compareDetections(set(a, close, b), set(a, b, close), cuts).ok)
  t.match(compareDetections(set(a, b), set(b, a), cuts), {
    ok: false,
    failures: [/follows a lower score in the candidate/],
  })
})

t.test('several images are merged and a failure is an export error', async (t) => {
  const good = compareDetections(set(a), set(a), cuts)
  const bad = compareDetections(set(a), set(), cuts)
  const merged = mergeParity([
    { image: 'one', result: good },
    { image: 'two', result: bad },
  ])
  t.match(merged, { ok: false, matched: 1, failures: [/^two: /] })
  t.throws(() => requireParity(merged, 'model.onnx'), { code: 'ERR_MAMMO_ONNX_MISMATCH', exitCode: 6 })
  t.doesNotThrow(() => requireParity(good, 'model.onnx'))
})

t.test('a child process computes the same; its errors come back', async (t) => {
  const folder = t.testdir()
  const detector = tinyDetector()
  const bytes = tinyBytes(detector)
  const feeds = {
    image: {
      dims: [2, 1, 128, 128],
      data: Uint16Array.from([...testImage(128, 128), ...testImage(128, 128, [100, 90])]),
    },
    imageSize: { dims: [2, 2], data: BigInt64Array.of(128n, 128n, 100n, 90n) },
  }
  const here = splitDetections(await runBytes(folder, bytes, feeds), 2)
  const { runtime, outputs } = await runOnnx(join(folder, 'model.onnx'), [feeds, feeds], 1)
  t.match(runtime, /^\d+\.\d+/)
  t.equal(outputs.length, 2)
  const there = splitDetections(outputs[1]!, 2)
  t.strictSame(there, here)
  t.ok(here[0]!.scores.length > 0)
  writeFileSync(join(folder, 'cut.onnx'), bytes.subarray(0, 5000))
  await t.rejects(runOnnx(join(folder, 'cut.onnx'), [feeds], 1), { code: 'ERR_MAMMO_MODEL_MANIFEST' })
})

t.test('raw head outputs by level against one list', async (t) => {
  const tensor = (values: number[], columns: number) => ({
    dims: [2, 1, values.length / 2 / columns, columns],
    data: Float32Array.from(values),
  })
  const outputs = {
    'logits.p3': tensor([1, 2, 5, 6], 1),
    'logits.p4': tensor([3, 7], 1),
    'deltas.p3': tensor([1, 1, 1, 1, 2, 2, 2, 2], 4),
    'deltas.p4': tensor([3, 3, 3, 3, 4, 4, 4, 4], 4),
  }
  const logits = Float32Array.of(1, 2, 3, 5, 6, 7)
  const deltas = Float32Array.of(1, 1, 1, 1, 3, 3, 3, 3, 2, 2, 2, 2, 4, 4, 4, 4)
  t.strictSame(compareHeads(outputs, [3, 4], { logits, deltas }, 2), { ok: true, worstLogit: 0, worstDelta: 0 })
  logits[5]! += 0.5
  t.match(compareHeads(outputs, [3, 4], { logits, deltas }, 2), { ok: false, worstLogit: 0.5 })
  logits[5] = Number.NaN
  t.match(compareHeads(outputs, [3, 4], { logits, deltas }, 2), { ok: false, worstLogit: Number.POSITIVE_INFINITY })
  t.notOk(compareHeads(outputs, [3, 4], { logits: logits.subarray(1), deltas }, 2).ok, 'another count')
})
