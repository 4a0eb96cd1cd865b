// Our loss kernels against torchvision's sigmoid_focal_loss and its GIoU, DIoU and CIoU losses, and against keras-retinanet's focal and
// smooth L1 losses: value and gradient, in double and float.
import t, { type Test } from 'tap'
import { addonExists } from '../../lib/binding/load.js'
import { native } from '../../lib/binding/session.js'
import { oracleJson } from '../oracles.js'

const skip = addonExists() ? false : 'the addon is not built'

interface Oracle {
  focal: {
    name: string
    alpha: number
    gamma: number
    x: number[]
    target: number[]
    none_f64: number[]
    gradient_f64: number[]
  }[]
  iou: {
    name: string
    eps: number
    boxes1: number[][]
    boxes2: number[][]
    none_f64: number[]
    gradient_f64: number[][]
  }[]
}

// The fixture's inputs are float32 numbers written in decimal.
const F64 = (list: readonly number[]) => Float64Array.from(list, Math.fround)

/** Largest |got - wanted| against 1 + |wanted|. */
function worst(got: ArrayLike<number>, wanted: readonly number[]): number {
  if (got.length !== wanted.length) return Number.POSITIVE_INFINITY
  return Math.max(0, ...wanted.map((w, i) => Math.abs(got[i]! - w) / (1 + Math.abs(w))))
}

function within(t: Test, name: string, difference: number, limit: number): void {
  t.ok(difference <= limit, `${name}: ${difference.toExponential(1)} within ${limit}`)
}

t.test('focal loss: every logit alone and its gradient', { skip }, async (t) => {
  const oracle = await oracleJson<Oracle>(t, 'losses_torchvision.json')
  if (oracle === undefined) return
  let cases = 0
  for (const { name, alpha, gamma, x, target, none_f64, gradient_f64 } of oracle.focal) {
    // Soft targets and the missing alpha (-1) are none of ours.
    if (alpha < 0 || target.some((value) => value !== 0 && value !== 1)) continue
    cases++
    // One image per logit: the kernel sums over an image.
    const n = x.length
    const args = {
      ...{ shape: Int32Array.of(n, 1, 1), match: Int32Array.from(target, (value) => (value === 1 ? 0 : -1)) },
      labels: new Int32Array(target.filter((value) => value === 1).length),
      boxOffsets: Int32Array.from([0, ...target.map((_, i) => target.slice(0, i + 1).filter((v) => v === 1).length)]),
      ...{ alpha, gamma, upstream: F64(x.map(() => 1)) },
    }
    const double = await native().runOp('focal', { ...args, logits: F64(x) })
    within(t, `${name}, double`, worst(double['loss'] as Float64Array, none_f64), 1e-9)
    within(t, `${name}, double gradient`, worst(double['gradient'] as Float64Array, gradient_f64), 1e-9)
    const single = await native().runOp('focal', { ...args, logits: Float32Array.from(x) })
    within(t, `${name}, float`, worst(single['loss'] as Float64Array, none_f64), 2e-6)
    within(t, `${name}, float gradient`, worst(single['gradient'] as Float32Array, gradient_f64), 2e-6)
  }
  t.ok(cases >= 8, `${cases} settings`)
})

t.test('GIoU, DIoU and CIoU', { skip }, async (t) => {
  const oracle = await oracleJson<Oracle>(t, 'losses_torchvision.json')
  if (oracle === undefined) return
  let cases = 0
  for (const { name, eps, boxes1, boxes2, none_f64, gradient_f64 } of oracle.iou) {
    if (eps !== 1e-7) continue
    cases++
    const args = { kind: name.split('.')[0], predicted: F64(boxes1.flat()), target: F64(boxes2.flat()) }
    const got = await native().runOp('iouLoss', { ...args, upstream: F64(boxes1.map(() => 1)) })
    // Without boxes the reference's unreduced loss is the number 0.
    if (boxes1.length === 0) {
      t.equal((got['loss'] as Float64Array).length, 0, name)
      continue
    }
    within(t, name, worst(got['loss'] as Float64Array, none_f64), 1e-6)
    within(t, `${name} gradient`, worst(got['gradient'] as Float64Array, gradient_f64.flat()), 1e-6)
  }
  t.ok(cases >= 3, `${cases} losses`)
})

interface Keras {
  focal: {
    name: string
    alpha: number
    gamma: number
    input: 'logits' | 'probabilities'
    x: number[][][]
    labels: number[][][]
    /** [image][anchor]: -1 ignored, 0 background, 1 positive. */
    state: number[][]
    value_f64: number
    gradient_f64: number[][][]
  }[]
  smooth_l1: {
    name: string
    sigma: number
    x: number[][][]
    target: number[][][]
    state: number[][]
    value_f64: number
    gradient_f64: number[][][]
  }[]
}

/** The reference divides by the positives of the whole batch. */
const normaliser = (state: readonly number[][]) => Math.max(1, state.flat().filter((s) => s === 1).length)

t.test("keras-retinanet's focal loss", { skip }, async (t) => {
  const oracle = await oracleJson<Keras>(t, 'losses_keras.json')
  if (oracle === undefined) return
  const seen = new Map<string, number>()
  for (const { name, alpha, gamma, input, x, labels, state, value_f64, gradient_f64 } of oracle.focal) {
    const target = labels.flat(2)
    // Soft labels are none of ours.
    if (target.some((value) => value !== 0 && value !== 1)) continue
    const values = x.flat(2).map(Math.fround)
    // No finite logit has a probability of exactly 0 or 1.
    if (input === 'probabilities' && values.some((p) => p === 0 || p === 1)) continue
    const logits = input === 'logits' ? values : values.map((p) => Math.log(p / (1 - p)))
    const classes = x[0]![0]!.length
    // One image of one class per number, since labels and states are independent there; -2 is ignored.
    const ignored = state.flat().flatMap((s) => Array<boolean>(classes).fill(s === -1))
    const match = Int32Array.from(target, (value, i) => (ignored[i] ? -2 : value === 1 ? 0 : -1))
    const positive = Array.from(match, (value) => (value >= 0 ? 1 : 0))
    const args = {
      ...{ shape: Int32Array.of(match.length, 1, 1), match, alpha, gamma },
      labels: new Int32Array(positive.reduce<number>((a, b) => a + b, 0)),
      boxOffsets: Int32Array.from([
        0,
        ...positive.map((_, i) => positive.slice(0, i + 1).reduce<number>((a, b) => a + b, 0)),
      ]),
      upstream: F64(logits.map(() => 1)),
    }
    const got = await native().runOp('focal', { ...args, logits: Float64Array.from(logits) })
    const n = normaliser(state)
    // The kernel is the reference's formula without its 1e-7; with it the formula gives the stored numbers.
    const formula = (eps: number) =>
      logits.map((logit, i) => (match[i] === -2 ? [0, 0] : kerasFocal(logit, target[i] === 1, alpha, gamma, eps)))
    const total = (terms: ArrayLike<number>) => Array.from(terms).reduce((a, b) => a + b, 0)
    const [theirs, ours] = [formula(1e-7), formula(0)]
    within(t, `${name}: the formula`, worst([total(theirs.map(([loss]) => loss!)) / n], [value_f64]), 1e-9)
    // By the probability where that is the input.
    const byInput = (gradient: number, i: number) => {
      const p = 1 / (1 + Math.exp(-logits[i]!))
      return gradient / n / (input === 'logits' ? 1 : p * (1 - p))
    }
    const stored = gradient_f64.flat(2)
    within(
      t,
      `${name}: its gradient`,
      worst(
        theirs.map(([, g], i) => byInput(g!, i)),
        stored,
      ),
      1e-9,
    )
    const column = (k: 0 | 1) => ours.map((pair) => pair[k]!)
    within(t, name, worst(got['loss'] as Float64Array, column(0)), 1e-9)
    within(t, `${name}: gradient`, worst(got['gradient'] as Float64Array, column(1)), 1e-9)
    const kind = name.split('.')[0]!
    seen.set(kind, (seen.get(kind) ?? 0) + 1)
    const sum = total(got['loss'] as Float64Array) / n
    // What the 1e-7 is worth where nothing is saturated.
    if (kind === 'moderate') within(t, `${name}: as stored`, Math.abs(sum - value_f64) / value_f64, 1e-5)
    if (kind === 'all_ignored') t.strictSame([sum, value_f64], [0, 0], `${name}: exactly 0`)
  }
  t.match([...seen.keys()].sort(), ['all_ignored', 'all_positive', 'mixed', 'moderate', 'no_positive'])
})

/**
 * keras-retinanet's focal loss of one logit and its gradient by the logit: the weight from the probability, the cross entropy of Keras
 * from one clipped to [eps, 1 - eps], with eps inside its logarithm.
 */
function kerasFocal(logit: number, positive: boolean, alpha: number, gamma: number, eps: number): [number, number] {
  // A negative is a positive of 1 - p.
  const sign = positive ? 1 : -1
  const p = 1 / (1 + Math.exp(-sign * logit))
  const q = 1 / (1 + Math.exp(sign * logit))
  const a = positive ? alpha : 1 - alpha
  const clipped = Math.min(Math.max(p, eps), 1 - eps)
  // log p from the logit where nothing is clipped: exact at any size.
  const log =
    eps === 0 ? -(Math.max(-sign * logit, 0) + Math.log1p(Math.exp(-Math.abs(logit)))) : Math.log(clipped + eps)
  const slope = p > eps && p < 1 - eps ? 1 / (clipped + eps) : 0
  const loss = -a * q ** gamma * log
  // By p: d(q^gamma)/dp = -gamma q^(gamma-1); p(1-p) leads to the logit.
  const byLogit = a * (gamma * q ** gamma * p * log - q ** (gamma + 1) * (eps === 0 ? 1 : p * slope))
  return [loss, sign * byLogit]
}

t.test("keras-retinanet's smooth L1 loss", { skip }, async (t) => {
  const oracle = await oracleJson<Keras>(t, 'losses_keras.json')
  if (oracle === undefined) return
  for (const { name, sigma, x, target, state, value_f64, gradient_f64 } of oracle.smooth_l1) {
    const rows = state.flat().flatMap((s, i) => (s === 1 ? [i] : []))
    const pick = (values: number[][][]) => Float64Array.from(rows.flatMap((i) => values.flat()[i]!.map(Math.fround)))
    // Corners of a unit anchor at 0 with deviation 1: the box's corners are the targets, displaced by the anchor's own.
    const anchors = Float64Array.from(rows.flatMap(() => [0, 0, 1, 1]))
    const boxes = pick(target).map((value, i) => value + anchors[i]!)
    const got = await native().runOp('boxLoss', {
      config: JSON.stringify({
        coder: { kind: 'corner', weights: [1, 1, 1, 1], clamp: null },
        loss: {
          ...{
            alpha: 0.25,
            gamma: 2,
            box: 'smooth_l1',
            boxBeta: 1 / sigma ** 2,
            classificationWeight: 1,
            boxWeight: 1,
          },
          ...{ normaliser: 'batch', emaMomentum: 0.9, emaStart: 100 },
        },
      }),
      ...{ deltas: pick(x), anchors, boxes, upstream: F64(rows.map(() => 1)) },
    })
    const n = normaliser(state)
    const sum = Array.from(got['loss'] as Float64Array).reduce((a, b) => a + b, 0) / n
    within(t, name, Math.abs(sum - value_f64) / Math.max(1, value_f64), 1e-6)
    const wanted = rows.flatMap((i) => gradient_f64.flat()[i]!)
    const gradient = Array.from(got['gradient'] as Float64Array, (g) => g / n)
    within(t, `${name} gradient of ${rows.length} rows`, worst(gradient, wanted), 1e-6)
    const others = gradient_f64.flat().filter((_, i) => !rows.includes(i))
    t.ok(
      others.flat().every((g) => g === 0),
      `${name}: all others have none`,
    )
  }
})
