// Draws what the network sees: one planned sample warped by the readable reference of the device's code, with the boxes and
// ignore regions it is trained on. Works without the addon.
import { warpWindow } from '../geometry/warp.js'
import type { Picture } from './draw.js'
import type { SamplePlan } from './sampler.js'
import type { Box } from './types.js'
import { drawView, type ShownTruth, type ViewInput } from './view.js'

export interface PlanView {
  /** Names of the classes by index. */
  classes: readonly string[]
  /** For each box of the plan whether an anchor matches it: green corners, or the tag NO ANCHOR. */
  matched?: readonly boolean[]
  /** Positive anchors in canvas pixels. */
  anchors?: readonly Box[]
  /** Normalised range that is shown from black to white; default: raw 0 to 3 standard deviations. */
  range?: readonly [number, number]
  maxSide?: number
}

/** The normalised input of a plan, [height, width] of `plan.size`. `pixels` is the plan's window as it was read. */
export function planInput(plan: SamplePlan, pixels: Uint16Array): Float32Array {
  const [x1, y1, x2, y2] = plan.window
  const [contrast, brightness, gamma] = plan.intensity
  return warpWindow(
    {
      pixels,
      height: y2 - y1,
      width: x2 - x1,
      affine: plan.affine,
      elastic: plan.elastic,
      reduce: plan.reduce,
      mean: plan.normalise[0],
      std: plan.normalise[1],
      intensity: [contrast, brightness, gamma],
    },
    plan.size,
    plan.size,
  )
}

/** A picture of the planned sample; the noise of the device is not drawn. */
export function drawPlan(plan: SamplePlan, pixels: Uint16Array, view: PlanView): Picture {
  const [height, width] = plan.size
  const values = planInput(plan, pixels)
  const [low, high] = view.range ?? [-plan.normalise[0] / plan.normalise[1], 3]
  // Back to 16 bits, so that one drawing code serves raw and normalised images.
  const scale = 65535 / (high - low)
  const grey = Uint16Array.from(values, (v) => Math.min(65535, Math.max(0, Math.round((v - low) * scale))))
  const truth: ShownTruth[] = plan.targets.boxes.map((box, n) => ({
    box,
    label: view.classes[plan.targets.labels[n]!] ?? 'lesion',
    ...(view.matched === undefined ? {} : { matched: view.matched[n] === true }),
    ...(view.matched?.[n] === false ? { tag: 'NO ANCHOR' } : {}),
  }))
  for (const box of plan.targets.ignore) truth.push({ box, ignore: true })
  const title = [plan.id, ...plan.notes].join(' ')
  const input: ViewInput = { pixels: grey, width, height, window: [0, 65535], truth, title }
  return drawView({
    ...input,
    ...(view.anchors === undefined ? {} : { anchors: view.anchors }),
    ...(view.maxSide === undefined ? {} : { maxSide: view.maxSide }),
  })
}
