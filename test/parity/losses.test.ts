// Our loss kernels against torchvision's sigmoid_focal_loss and its GIoU, DIoU and CIoU losses: value and gradient, in double and float.
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
