// From an image to the network's input by the rules in the model's manifest: breast crop, scale, padding. The decisions (`planInput`)
// are apart from the pixel work (`fillInput`). Same rules as data preparation and training; normalisation is in the graph.
import { findBreast } from '../data/breast.js'
import type { Rect } from '../data/types.js'
import { DataError, UsageError } from '../errors.js'
import type { ModelManifest } from '../onnx/manifest.js'
import type { Tensor } from '../onnx/runtime.js'
import { type CombineOptions, planViews, type View } from './combine.js'
import { type GreyImage, reduction, resampleInto, scaledSide } from './resample.js'

export interface InputOptions extends CombineOptions {
  /** Breast crop: on, off, or as the manifest says. */
  crop?: boolean
  /** Share of the longer side added on every edge of the crop; the manifest's by default. */
  cropMargin?: number
  /** What a pixel spacing unlike the training's does; the manifest's rule by default. */
  spacing?: 'resample' | 'warn' | 'ignore'
}

export interface InputPlan {
  crop: Rect
  /** Null when no crop was asked for. */
  breastFound: boolean | null
  scale: number
  reduce: number
  /** Height and width of the scaled crop. */
  size: [number, number]
  /** Parts that are predicted one by one; their canvas is the same. */
  views: View[]
  /** Height and width of the network input. */
  canvas: [number, number]
  warnings: { code: string; message: string }[]
}

/** Decides crop, scale and canvas. `spacingMm` is row, column spacing of the image or null. Throws DataError TOO_LARGE, NO_PIXEL_SPACING. */
export function planInput(
  image: GreyImage,
  spacingMm: [number, number] | null,
  manifest: ModelManifest,
  options: InputOptions = {},
): InputPlan {
  const { input } = manifest
  const warnings: InputPlan['warnings'] = []
  let crop: Rect = [0, 0, image.width, image.height]
  let breastFound: boolean | null = null
  if (options.crop ?? input.crop.enabled) {
    const breast = findBreast(image.pixels, image.width, image.height)
    breastFound = breast.found
    if (breast.found) crop = widen(breast.crop, image, options.cropMargin ?? input.crop.margin)
    else
      warnings.push({ code: 'predict/no-breast', message: 'no plausible breast region found: the whole image is used' })
  }
  const width = crop[2] - crop[0]
  const height = crop[3] - crop[1]
  const scale = chooseScale(width, height, spacingMm, manifest, options, warnings)
  const size: [number, number] = [scaledSide(height, scale), scaledSide(width, scale)]
  const views = planViews(size, options, input.padMultiple)
  if (options.tile && views.length > 1 && input.normalise === 'image' && input.normalisedInGraph) {
    throw new UsageError(
      'ARGUMENT',
      'expected a whole image, got tiles: this model normalises by the image inside the graph',
      {
        fix: 'predict without tiles, or export with export.normalise=false',
      },
    )
  }
  return {
    crop,
    breastFound,
    scale,
    views,
    reduce: reduction(scale, input.resize.antialias),
    size,
    canvas: chooseCanvas([views[0]!.height, views[0]!.width], manifest),
    warnings,
  }
}

function widen([x1, y1, x2, y2]: Rect, image: GreyImage, margin: number): Rect {
  const extra = Math.ceil(margin * Math.max(x2 - x1, y2 - y1))
  return [
    Math.max(0, x1 - extra),
    Math.max(0, y1 - extra),
    Math.min(image.width, x2 + extra),
    Math.min(image.height, y2 + extra),
  ]
}

function chooseScale(
  width: number,
  height: number,
  spacingMm: [number, number] | null,
  { input }: ModelManifest,
  options: InputOptions,
  warnings: InputPlan['warnings'],
): number {
  const { resize } = input
  if (resize.rule === 'sides') {
    const scale = resize.minSide / Math.min(width, height)
    return scale * Math.max(width, height) > resize.maxSide ? resize.maxSide / Math.max(width, height) : scale
  }
  if (resize.rule === 'spacing') {
    if (spacingMm === null || resize.spacingMm === null) {
      throw new DataError(
        'NO_PIXEL_SPACING',
        'expected a known pixel spacing, which this model scales images by, got none',
        {
          fix: 'give the spacing with the image, or use a model without that rule',
        },
      )
    }
    return spacingMm[0] / resize.spacingMm
  }
  const rule = options.spacing ?? input.spacingRule
  const training = input.trainingSpacingMm
  if (rule === 'ignore') return 1
  if (spacingMm === null || training === null) {
    const whose = training === null ? 'the training images' : 'this image'
    warnings.push({
      code: 'predict/spacing-unknown',
      message: `the pixel spacing of ${whose} is unknown: the image is used at its own scale`,
    })
    return 1
  }
  const ratio = spacingMm[0] / training
  if (Math.abs(ratio - 1) <= input.spacingTolerance) return 1
  const difference = `pixel spacing ${spacingMm[0]} mm, the model was trained at ${training} mm`
  if (rule === 'warn') {
    warnings.push({ code: 'predict/spacing', message: `${difference}: sizes look different to the model` })
    return 1
  }
  warnings.push({ code: 'predict/resampled', message: `${difference}: the image was resampled by ${ratio.toFixed(4)}` })
  return ratio
}

function chooseCanvas(size: [number, number], { input, shape }: ModelManifest): [number, number] {
  if (shape === 'dynamic') {
    const up = (side: number) => Math.ceil(side / input.padMultiple) * input.padMultiple
    return [up(size[0]), up(size[1])]
  }
  if (size[0] > shape[0] || size[1] > shape[1]) {
    throw new DataError(
      'TOO_LARGE',
      `expected at most ${shape[0]}x${shape[1]} pixels (rows x columns), got ${size[0]}x${size[1]}`,
      {
        fix: 'use a model exported with a larger or dynamic shape',
      },
    )
  }
  return [shape[0], shape[1]]
}

/**
 * The network's inputs, one view after the other: padded with raw 0; normalised here only when the graph does not do it. The image
 * is resampled once; a single plain view goes straight into its canvas.
 */
export function* fillInputs(
  image: GreyImage,
  plan: InputPlan,
  manifest: ModelManifest,
): Generator<{ view: View; feeds: Record<string, Tensor> }> {
  const { input } = manifest
  const grey = (length: number) => (input.type === 'uint16' ? new Uint16Array(length) : new Float32Array(length))
  const [rows, columns] = plan.canvas
  const area = rows * columns
  const whole = plan.views.length === 1
  const stride = whole ? columns : plan.size[1]
  const scaled = grey(whole ? area : plan.size[0] * stride)
  resampleInto({ data: scaled, stride }, image, plan.crop, plan.scale, plan.reduce)
  const statistics = input.normalise === 'dataset' ? [input.mean, input.std] : ownStatistics(scaled)
  for (const view of plan.views) {
    let canvas = scaled
    if (!whole) {
      canvas = grey(area)
      for (let y = 0; y < view.height; y++) {
        const from = (view.y + y) * stride + view.x
        const row = canvas.subarray(y * columns, y * columns + view.width)
        row.set(scaled.subarray(from, from + view.width))
        if (view.mirrored) row.reverse()
      }
    }
    const imageSize: Tensor = { dims: [1, 2], data: BigInt64Array.of(BigInt(view.height), BigInt(view.width)) }
    const pixels = input.normalisedInGraph ? canvas : normalise(canvas, input.channels, statistics)
    const channels = input.normalisedInGraph ? 1 : input.channels
    yield { view, feeds: { image: { dims: [1, channels, rows, columns], data: pixels }, imageSize } }
  }
}

function normalise(grey: Uint16Array | Float32Array, channels: number, [means, deviations]: number[][]): Float32Array {
  const data = new Float32Array(channels * grey.length)
  for (let c = 0; c < channels; c++) {
    const mean = Math.fround(means![c] ?? means![0]!)
    const std = Math.fround(deviations![c] ?? deviations![0]!)
    for (let i = 0; i < grey.length; i++) data[c * grey.length + i] = Math.fround(grey[i]! - mean) / std
  }
  return data
}

/** Mean and population standard deviation of the non-zero pixels; 0 and 1 for an empty image. */
function ownStatistics(grey: Uint16Array | Float32Array): [number[], number[]] {
  let [count, sum, squares] = [0, 0, 0]
  for (const value of grey) {
    if (value === 0) continue
    count++
    sum += value
    squares += value * value
  }
  const mean = count === 0 ? 0 : sum / count
  const std = count === 0 ? 0 : Math.sqrt(Math.max(0, squares / count - mean * mean))
  return [[mean], [std > 0 ? std : 1]]
}
