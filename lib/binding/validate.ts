// Checks every field of a batch, its targets and the step's options before they cross to the addon: types, lengths, ranges.
// The first fault is a UsageError ARGUMENT that says what was expected, for which name, and what came. No value is changed.
import { UsageError } from '../errors.js'
import type { ImageBatch, StepOptions, TargetBatch, WindowBatch } from './types.js'

/** Nodes of an elastic displacement lie this many amplitudes apart at least, so that nothing folds; as in native/core/ops/elastic.h. */
const ELASTIC_SPACING = 5

type Typed = Uint16Array | Int32Array | Uint32Array | Float32Array | Float64Array

/** Short, safe description of any value for an error message. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (ArrayBuffer.isView(value))
    return `${value.constructor.name} of length ${(value as Typed).length ?? value.byteLength}`
  if (Array.isArray(value)) return `array of length ${value.length}`
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value)
  if (typeof value === 'object') return value.constructor?.name ?? 'object'
  if (typeof value === 'function') return 'function'
  return String(value)
}

/** Throws the one message shape of this file. */
export function refuse(name: string, expected: string, came: string): never {
  throw new UsageError('ARGUMENT', `${name}: expected ${expected}, got ${came}`, { where: name })
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value)
}

function knownKeys(name: string, value: object, known: readonly string[]): void {
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) refuse(`${name}.${key}`, `one of the fields ${known.join(', ')}`, 'an unknown field')
  }
}

function typed(name: string, value: unknown, kind: { name: string; new (n: number): Typed }, length?: number): void {
  if (!(value instanceof kind)) refuse(name, `${article(kind.name)} ${kind.name}`, describe(value))
  if (length !== undefined && value.length !== length) {
    refuse(name, `${article(kind.name)} ${kind.name} of length ${length}`, `length ${value.length}`)
  }
}

const article = (noun: string) => (noun.startsWith('I') ? 'an' : 'a')

function allFinite(name: string, values: Float32Array | Float64Array): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) refuse(`${name}[${i}]`, 'a finite number', String(values[i]))
  }
}

function positiveInteger(name: string, value: unknown): asserts value is number {
  if (!Number.isInteger(value) || (value as number) < 1) refuse(name, 'an integer >= 1', describe(value))
}

/** Offsets of ragged data: [n+1], from 0, never falling, ending at `total`. */
function checkOffsets(name: string, value: unknown, n: number, total: number): void {
  typed(name, value, Int32Array, n + 1)
  const offsets = value as Int32Array
  if (offsets[0] !== 0) refuse(`${name}[0]`, '0', String(offsets[0]))
  for (let i = 1; i <= n; i++) {
    if (offsets[i]! < offsets[i - 1]!) refuse(`${name}[${i}]`, `at least ${offsets[i - 1]}`, String(offsets[i]))
  }
  if (offsets[n] !== total) refuse(`${name}[${n}]`, `${total}, the number of rows`, String(offsets[n]))
}

function checkWindows(windows: WindowBatch, n: number): void {
  if (!isObject(windows)) refuse('batch.windows', 'an object', describe(windows))
  knownKeys('batch.windows', windows, [
    'pixels',
    'shapes',
    'affines',
    'reduce',
    'normalise',
    'intensity',
    'noiseSeed',
    'elastic',
  ])
  typed('batch.windows.shapes', windows.shapes, Int32Array, 2 * n)
  let total = 0
  for (let i = 0; i < n; i++) {
    const [h, w] = [windows.shapes[2 * i]!, windows.shapes[2 * i + 1]!]
    if (h < 1 || w < 1) refuse(`batch.windows.shapes[${2 * i}..${2 * i + 1}]`, 'height and width >= 1', `${h}x${w}`)
    total += h * w
  }
  typed('batch.windows.pixels', windows.pixels, Uint16Array)
  if (windows.pixels.length !== total) {
    refuse('batch.windows.pixels', `${total} pixels, the sum over batch.windows.shapes`, `${windows.pixels.length}`)
  }
  typed('batch.windows.affines', windows.affines, Float64Array, 6 * n)
  allFinite('batch.windows.affines', windows.affines)
  typed('batch.windows.reduce', windows.reduce, Int32Array, n)
  for (let i = 0; i < n; i++) {
    const k = windows.reduce[i]!
    if (k < 0 || k > 8) refuse(`batch.windows.reduce[${i}]`, 'an integer in 0..8', String(k))
  }
  typed('batch.windows.normalise', windows.normalise, Float32Array, 2 * n)
  allFinite('batch.windows.normalise', windows.normalise)
  for (let i = 0; i < n; i++) {
    const std = windows.normalise[2 * i + 1]!
    if (std <= 0) refuse(`batch.windows.normalise[${2 * i + 1}]`, 'a standard deviation > 0', String(std))
  }
  typed('batch.windows.intensity', windows.intensity, Float32Array, 4 * n)
  allFinite('batch.windows.intensity', windows.intensity)
  for (let i = 0; i < n; i++) {
    const gamma = windows.intensity[4 * i + 2]!
    const sigma = windows.intensity[4 * i + 3]!
    if (gamma <= 0) refuse(`batch.windows.intensity[${4 * i + 2}]`, 'a gamma > 0', String(gamma))
    if (sigma < 0) refuse(`batch.windows.intensity[${4 * i + 3}]`, 'a noise sigma >= 0', String(sigma))
  }
  typed('batch.windows.noiseSeed', windows.noiseSeed, Uint32Array, n)
  if (windows.elastic !== undefined) checkElastic(windows.elastic, n)
}

function checkElastic(elastic: Float64Array, n: number): void {
  typed('batch.windows.elastic', elastic, Float64Array, 3 * n)
  allFinite('batch.windows.elastic', elastic)
  for (let i = 0; i < n; i++) {
    const [amplitude, spacing, seed] = [elastic[3 * i]!, elastic[3 * i + 1]!, elastic[3 * i + 2]!]
    if (amplitude < 0) refuse(`batch.windows.elastic[${3 * i}]`, 'an amplitude >= 0', String(amplitude))
    if (amplitude > 0 && spacing < ELASTIC_SPACING * amplitude)
      refuse(`batch.windows.elastic[${3 * i + 1}]`, `nodes ${ELASTIC_SPACING} amplitudes apart`, String(spacing))
    if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff)
      refuse(`batch.windows.elastic[${3 * i + 2}]`, 'a seed of 32 bits', String(seed))
  }
}

/** Number of images of a valid batch; `channels` is the model's. */
export function checkBatch(batch: ImageBatch, channels: number): number {
  if (!isObject(batch)) refuse('batch', 'an ImageBatch', describe(batch))
  knownKeys('batch', batch, ['canvas', 'sizes', 'windows', 'input'])
  const canvas: unknown = batch.canvas
  if (!Array.isArray(canvas) || canvas.length !== 2) refuse('batch.canvas', '[height, width]', describe(canvas))
  positiveInteger('batch.canvas[0]', canvas[0])
  positiveInteger('batch.canvas[1]', canvas[1])
  const [height, width] = batch.canvas
  typed('batch.sizes', batch.sizes, Int32Array)
  const n = batch.sizes.length / 2
  if (!Number.isInteger(n) || n < 1) {
    refuse('batch.sizes', 'height, width of at least one image (length 2n)', `length ${batch.sizes.length}`)
  }
  for (let i = 0; i < n; i++) {
    const [h, w] = [batch.sizes[2 * i]!, batch.sizes[2 * i + 1]!]
    if (h < 1 || w < 1 || h > height || w > width) {
      refuse(`batch.sizes[${2 * i}..${2 * i + 1}]`, `within 1x1 and the canvas ${height}x${width}`, `${h}x${w}`)
    }
  }
  if ((batch.windows === undefined) === (batch.input === undefined)) {
    const came = batch.windows === undefined ? 'neither' : 'both'
    refuse('batch', 'exactly one of windows and input', came)
  }
  if (batch.windows !== undefined) checkWindows(batch.windows, n)
  if (batch.input !== undefined) typed('batch.input', batch.input, Float32Array, n * channels * height * width)
  return n
}

function checkBoxes(name: string, value: unknown): number {
  typed(name, value, Float32Array)
  const boxes = value as Float32Array
  if (boxes.length % 4 !== 0) refuse(name, 'x1, y1, x2, y2 per row (length 4m)', `length ${boxes.length}`)
  allFinite(name, boxes)
  for (let i = 0; i < boxes.length; i += 4) {
    const [x1, y1, x2, y2] = boxes.subarray(i, i + 4) as unknown as [number, number, number, number]
    if (x2 <= x1 || y2 <= y1) {
      refuse(`${name} row ${i / 4}`, 'x2 > x1 and y2 > y1', `${x1}, ${y1}, ${x2}, ${y2}`)
    }
  }
  return boxes.length / 4
}

/** Targets of a batch of `n` images with class indices below `classes`. */
export function checkTargets(targets: TargetBatch, n: number, classes: number): void {
  if (!isObject(targets)) refuse('targets', 'a TargetBatch', describe(targets))
  knownKeys('targets', targets, ['boxes', 'labels', 'boxOffsets', 'ignore', 'ignoreOffsets'])
  const m = checkBoxes('targets.boxes', targets.boxes)
  typed('targets.labels', targets.labels, Int32Array, m)
  for (let i = 0; i < m; i++) {
    const label = targets.labels[i]!
    if (label < 0 || label >= classes) refuse(`targets.labels[${i}]`, `a class in 0..${classes - 1}`, String(label))
  }
  checkOffsets('targets.boxOffsets', targets.boxOffsets, n, m)
  const k = checkBoxes('targets.ignore', targets.ignore)
  checkOffsets('targets.ignoreOffsets', targets.ignoreOffsets, n, k)
}

/** Options of one step. */
export function checkStepOptions(options: StepOptions): void {
  if (!isObject(options)) refuse('options', 'StepOptions', describe(options))
  const numbers = ['lr', 'weightDecay', 'lossScale'] as const
  const clips = ['clipNorm', 'clipNormPerTensor', 'clipValue'] as const
  const flags = ['update', 'skipNonFinite'] as const
  knownKeys('options', options, [...numbers, ...clips, ...flags, 'emaDecay'])
  for (const key of numbers) {
    const value: unknown = options[key]
    if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) {
      refuse(`options.${key}`, 'a finite number >= 0', describe(value))
    }
  }
  for (const key of clips) {
    const value: unknown = options[key]
    if (value !== null && !(typeof value === 'number' && Number.isFinite(value) && value > 0)) {
      refuse(`options.${key}`, 'a finite number > 0, or null for no clipping', describe(value))
    }
  }
  const { emaDecay } = options
  if (emaDecay !== undefined && !(typeof emaDecay === 'number' && emaDecay >= 0 && emaDecay < 1)) {
    refuse('options.emaDecay', 'a number in [0, 1), or nothing', describe(emaDecay))
  }
  for (const key of flags) {
    if (typeof options[key] !== 'boolean') refuse(`options.${key}`, 'true or false', describe(options[key]))
  }
}

/** A non-empty string. */
export function checkText(name: string, value: unknown): void {
  if (typeof value !== 'string' || value === '') refuse(name, 'a non-empty string', describe(value))
}
