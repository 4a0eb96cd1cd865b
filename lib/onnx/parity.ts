// Compares two sets of detections of the same images by the tolerance rule of the project, and runs an ONNX file in a child process
// for it: onnxruntime next to LibTorch's GPU libraries has crashed at exit. Native results are handed in. Pure apart from `runOnnx`.
import { fork } from 'node:child_process'
import { DeviceError, ExportError, MammoError } from '../errors.js'
import type { Tensor } from './runtime.js'

/** Largest accepted difference of scores, and of box corners as the larger of pixels and a fraction of the longer side. */
export const TOLERANCE = { score: 1e-4, boxPixels: 0.05, boxFraction: 5e-5, logit: 1e-3, delta: 5e-5 } as const

/** Detections of one image, in any order. */
export interface DetectionSet {
  /** [d,4] */
  boxes: ArrayLike<number>
  scores: ArrayLike<number>
  labels: ArrayLike<number>
}

/** The cuts at which a last-bit difference may decide. */
export interface Cuts {
  scoreThreshold: number
  nmsIou: number
  maxDetections: number
  /** Boxes of other classes suppress too. */
  agnostic?: boolean
  /** Candidates per level; null: all. */
  topkPerLevel?: number | null
}

export interface ParityResult {
  ok: boolean
  matched: number
  worstScore: number
  /** Largest corner difference in pixels, and in units of the box's own tolerance (accepted up to 1). */
  worstBoxPixels: number
  worstBoxRatio: number
  /** Detections that only one side has, each within a tolerance of a cut; accepted. */
  borderline: string[]
  /** What is out of tolerance; accepted only when empty. */
  failures: string[]
}

interface Detection {
  box: number[]
  score: number
  label: number
}

/**
 * Matches the detections of one image one to one. Every pair must agree within TOLERANCE; a detection without partner is accepted
 * as borderline when its score lies within 1e-4 of the threshold or of the last kept score of a full list, when its IoU with a
 * better detection lies within 1e-4 of the NMS threshold, or, given
 * the reference's candidates before top-k and NMS as `pool`, when the other side kept an overlapping box of equal score of that pool
 * instead, or when it is one of equal boxes through which the limit per level cuts, as in an image without content. The order may differ only between scores
 * within 1e-4.
 */
export function compareDetections(
  reference: DetectionSet,
  candidate: DetectionSet,
  cuts: Cuts,
  pool?: DetectionSet,
): ParityResult {
  const a = unpack(reference)
  const b = unpack(candidate)
  const known = pool === undefined ? [] : unpack(pool)
  const result: ParityResult = {
    ok: true,
    matched: 0,
    worstScore: 0,
    worstBoxPixels: 0,
    worstBoxRatio: 0,
    borderline: [],
    failures: [],
  }
  const free = new Set(b.keys())
  const alone: [Detection, Detection[], string][] = []
  for (const detection of a) {
    const partner = closest(detection, b, free)
    if (partner === undefined) {
      alone.push([detection, a, 'only in the reference'])
      continue
    }
    free.delete(partner)
    const other = b[partner]!
    result.matched++
    result.worstScore = Math.max(result.worstScore, Math.abs(detection.score - other.score))
    const pixels = boxDifference(detection.box, other.box)
    result.worstBoxPixels = Math.max(result.worstBoxPixels, pixels)
    result.worstBoxRatio = Math.max(result.worstBoxRatio, pixels / boxTolerance(detection.box))
  }
  for (const index of free) alone.push([b[index]!, b, 'only in the candidate'])
  const reasons = new Map<Detection, string>()
  for (const [detection, list] of alone) {
    const why = borderline(detection, [...a, ...b], list, cuts, known)
    if (why !== undefined) reasons.set(detection, why)
  }
  // An accepted choice has consequences: what the chosen box suppresses is kept on the other side.
  for (let before = -1; before !== reasons.size; ) {
    before = reasons.size
    for (const [detection, , where] of alone) {
      if (reasons.has(detection) || !isKnown(detection, known)) continue
      const cause = alone.find(
        ([other, , side]) =>
          side !== where && reasons.has(other) && isKnown(other, known) && covers(other, detection, cuts),
      )
      if (cause) reasons.set(detection, `suppressed on the other side by ${describe(cause[0])}, itself at a cut`)
    }
  }
  for (const [detection, , where] of alone) {
    const why = reasons.get(detection)
    if (why === undefined) result.failures.push(`${describe(detection)} ${where}`)
    else result.borderline.push(`${describe(detection)} ${where}: ${why}`)
  }
  for (const [list, side] of [
    [a, 'reference'],
    [b, 'candidate'],
  ] as const) {
    for (let i = 1; i < list.length; i++) {
      if (list[i]!.score > list[i - 1]!.score + TOLERANCE.score) {
        result.failures.push(`${describe(list[i]!)} follows a lower score in the ${side}`)
      }
    }
  }
  result.ok = result.failures.length === 0
  return result
}

/** One result for several images; texts name the image. */
export function mergeParity(results: readonly { image: string; result: ParityResult }[]): ParityResult {
  const worst = (key: 'worstScore' | 'worstBoxPixels' | 'worstBoxRatio') =>
    Math.max(0, ...results.map(({ result }) => result[key]))
  const texts = (key: 'borderline' | 'failures') =>
    results.flatMap(({ image, result }) => result[key].map((text) => `${image}: ${text}`))
  return {
    ok: results.every(({ result }) => result.ok),
    matched: results.reduce((sum, { result }) => sum + result.matched, 0),
    worstScore: worst('worstScore'),
    worstBoxPixels: worst('worstBoxPixels'),
    worstBoxRatio: worst('worstBoxRatio'),
    borderline: texts('borderline'),
    failures: texts('failures'),
  }
}

/** Throws ExportError ONNX_MISMATCH listing what is out of tolerance. */
export function requireParity(result: ParityResult, where: string): void {
  if (result.ok) return
  throw new ExportError(
    'ONNX_MISMATCH',
    [
      `expected equal detections of the ONNX file and the engine, got ${result.failures.length} differences`,
      ...result.failures.slice(0, 10).map((text) => `  ${text}`),
    ].join('\n'),
    { where, fix: 'please report this; --no-verify writes the file with an unverified record', details: { ...result } },
  )
}

function unpack({ boxes, scores, labels }: DetectionSet): Detection[] {
  return Array.from({ length: scores.length }, (_, i) => ({
    box: [boxes[4 * i]!, boxes[4 * i + 1]!, boxes[4 * i + 2]!, boxes[4 * i + 3]!],
    score: scores[i]!,
    label: Number(labels[i]!),
  }))
}

/** The free detection of the same class that fits best, if any fits. */
function closest(detection: Detection, others: Detection[], free: Set<number>): number | undefined {
  let best: number | undefined
  let least = Number.POSITIVE_INFINITY
  for (const index of free) {
    const other = others[index]!
    if (other.label !== detection.label || !(Math.abs(other.score - detection.score) <= TOLERANCE.score)) continue
    const difference = boxDifference(detection.box, other.box)
    if (difference <= boxTolerance(detection.box) && difference < least) {
      best = index
      least = difference
    }
  }
  return best
}

function boxDifference(a: number[], b: number[]): number {
  return Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))
}

function boxTolerance([x1, y1, x2, y2]: number[]): number {
  return Math.max(TOLERANCE.boxPixels, TOLERANCE.boxFraction * Math.max(x2! - x1!, y2! - y1!))
}

function borderline(
  detection: Detection,
  all: Detection[],
  list: Detection[],
  cuts: Cuts,
  known: Detection[],
): string | undefined {
  if (Math.abs(detection.score - cuts.scoreThreshold) <= TOLERANCE.score) return 'score at the threshold'
  const last = list.at(-1)!
  if (list.length >= cuts.maxDetections && detection.score - last.score <= TOLERANCE.score) return 'last of a full list'
  const near = all.find(
    (other) =>
      other !== detection && other.score >= detection.score - TOLERANCE.score && nearCut(other, detection, cuts),
  )
  if (near) return `IoU with ${describe(near)} at the NMS threshold`
  // Of overlapping boxes with equal scores NMS keeps the first, and the order of equal scores is free: an empty image has many.
  // Both must be boxes that the reference itself had before NMS, so that a displaced box is never taken for a rival.
  const rival = all.find((other) => other !== detection && isRival(other, detection, cuts) && isKnown(other, known))
  if (!isKnown(detection, known)) return undefined
  if (rival) return `equal score and overlap with ${describe(rival)}, of which one is kept`
  // Where the image has no content the same box repeats at every cell, and the limit per level may cut through equal scores. Boxes of
  // one size are of one level; what is better is counted over all levels, so that a full level is never assumed.
  const { topkPerLevel } = cuts
  if (topkPerLevel === undefined || topkPerLevel === null) return undefined
  const better = known.filter((k) => k.score > detection.score + TOLERANCE.score).length
  const equal = known.filter((k) => k.label === detection.label && isShifted(k, detection)).length
  if (better >= topkPerLevel || better + equal <= topkPerLevel) return undefined
  return `one of ${equal} equal boxes at the limit per level`
}

/** The same box with the same score elsewhere. */
function isShifted(a: Detection, b: Detection): boolean {
  const size = (d: Detection, axis: 0 | 1) => d.box[axis + 2]! - d.box[axis]!
  const tolerance = boxTolerance(b.box)
  const alike = ([0, 1] as const).every((axis) => Math.abs(size(a, axis) - size(b, axis)) <= tolerance)
  return alike && Math.abs(a.score - b.score) <= TOLERANCE.score
}

function agrees(a: Detection, b: Detection): boolean {
  return Math.abs(a.score - b.score) <= TOLERANCE.score && boxDifference(a.box, b.box) <= boxTolerance(a.box)
}

function isKnown(detection: Detection, known: readonly Detection[]): boolean {
  return known.some((k) => k.label === detection.label && agrees(k, detection))
}

/** True when keeping `a` may suppress `b`. */
function covers(a: Detection, b: Detection, cuts: Cuts): boolean {
  return (
    competes(a, b, cuts) && a.score >= b.score - TOLERANCE.score && iou(a.box, b.box) > cuts.nmsIou - TOLERANCE.score
  )
}

/** Either may suppress the other. */
function isRival(a: Detection, b: Detection, cuts: Cuts): boolean {
  return covers(a, b, cuts) && covers(b, a, cuts)
}

function nearCut(a: Detection, b: Detection, cuts: Cuts): boolean {
  return competes(a, b, cuts) && Math.abs(iou(a.box, b.box) - cuts.nmsIou) <= TOLERANCE.score
}

function competes(a: Detection, b: Detection, { agnostic = false }: Cuts): boolean {
  return agnostic || a.label === b.label
}

function iou(a: number[], b: number[]): number {
  const width = Math.min(a[2]!, b[2]!) - Math.max(a[0]!, b[0]!)
  const height = Math.min(a[3]!, b[3]!) - Math.max(a[1]!, b[1]!)
  const inter = Math.max(0, width) * Math.max(0, height)
  const area = ([x1, y1, x2, y2]: number[]) => (x2! - x1!) * (y2! - y1!)
  const union = area(a) + area(b) - inter
  return union > 0 ? inter / union : 0
}

function describe({ box, score, label }: Detection): string {
  return `class ${label} ${score.toFixed(5)} [${box.map((value) => value.toFixed(1)).join(', ')}]`
}

/** Largest differences of raw head outputs, and whether both are within TOLERANCE. */
export interface HeadParity {
  ok: boolean
  worstLogit: number
  worstDelta: number
}

/**
 * Compares the outputs of a `heads` graph with head outputs of the engine: logits [n, anchors, K] and deltas [n, anchors, 4] in the
 * order level, row, column, anchor. A value that is not finite on either side counts as an infinite difference.
 */
export function compareHeads(
  outputs: Record<string, Tensor>,
  levels: readonly number[],
  reference: { logits: Float32Array; deltas: Float32Array },
  images: number,
): HeadParity {
  const worst = (kind: 'logits' | 'deltas') => {
    const parts = levels.map((level) => outputs[`${kind}.p${level}`]!.data as Float32Array)
    let at = 0
    let largest = 0
    for (let image = 0; image < images; image++) {
      for (const part of parts) {
        const size = part.length / images
        for (let i = image * size; i < (image + 1) * size; i++) {
          const difference = Math.abs(part[i]! - reference[kind][at++]!)
          if (!(difference <= largest)) largest = Number.isFinite(difference) ? difference : Number.POSITIVE_INFINITY
        }
      }
    }
    return at === reference[kind].length ? largest : Number.POSITIVE_INFINITY
  }
  const worstLogit = worst('logits')
  const worstDelta = worst('deltas')
  return { ok: worstLogit <= TOLERANCE.logit && worstDelta <= TOLERANCE.delta, worstLogit, worstDelta }
}

/** Splits the outputs of a `detect` graph into one set per image. */
export function splitDetections(outputs: Record<string, Tensor>, images: number): DetectionSet[] {
  const boxes = outputs['boxes']!.data as Float32Array
  const scores = outputs['scores']!.data as Float32Array
  const labels = outputs['labels']!.data as BigInt64Array
  const imageIndex = outputs['imageIndex']!.data as BigInt64Array
  const sets: DetectionSet[] = []
  let begin = 0
  for (let image = 0; image < images; image++) {
    let end = begin
    while (end < imageIndex.length && Number(imageIndex[end]!) === image) end++
    sets.push({
      boxes: boxes.slice(4 * begin, 4 * end),
      scores: scores.slice(begin, end),
      labels: Int32Array.from(labels.slice(begin, end), Number),
    })
    begin = end
  }
  return sets
}

export interface ChildReply {
  runtime?: string
  outputs?: Record<string, Tensor>[]
  error?: { message: string; code?: string }
}

/** Runs the model on each set of feeds in a child process and returns the outputs with the runtime's version. */
export async function runOnnx(
  model: string,
  feeds: Record<string, Tensor>[],
  threads: number,
): Promise<{ runtime: string; outputs: Record<string, Tensor>[] }> {
  const file = import.meta.url.replace(/parity(\.[jt]s)$/, 'parity-child$1')
  const child = fork(new URL(file), {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    execArgv: [],
  })
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString('utf8')).slice(-1000)
  })
  try {
    const reply = await new Promise<ChildReply>((resolve, reject) => {
      child.once('message', (message) => resolve(message as ChildReply))
      child.once('error', reject)
      child.once('exit', (code, signal) => {
        reject(
          new DeviceError(
            'WORKER_LOST',
            `expected detections from the ONNX check, got exit ${code ?? signal}: ${stderr.trim()}`,
          ),
        )
      })
      child.send({ model, feeds, threads }, (error) => error && reject(error))
    })
    if (reply.error)
      throw new MammoError(reply.error.code?.replace('ERR_MAMMO_', '') ?? 'INTERNAL', 4, reply.error.message)
    return { runtime: reply.runtime!, outputs: reply.outputs! }
  } finally {
    child.removeAllListeners()
    if (child.connected) child.disconnect()
    else child.kill()
  }
}
