// Evidence of a step whose loss or gradient was not finite: which images, how they were cut and changed, the parts of the loss, and
// the windows themselves as 16-bit PGM files, which every image viewer for scientists opens.
import { join } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import type { StepResult } from '../binding/types.js'
import type { TrainingBatch } from './trainer.js'

/** Writes `nonfinite/step-<n>/record.json` and `<i>.pgm` in the run folder; resolves to the record's path. */
export async function writeNonFinite(
  folder: string,
  step: number,
  batch: TrainingBatch,
  result: StepResult,
): Promise<string> {
  const place = join(folder, 'nonfinite', `step-${String(step).padStart(6, '0')}`)
  const { loss, classification, box, gradNorm, positives } = result
  const shown = { loss, classification, box, gradNorm }
  const record = {
    step,
    ids: batch.ids,
    // JSON has no NaN or infinity.
    losses: Object.fromEntries(Object.entries(shown).map(([name, value]) => [name, String(value)])),
    perImage: Array.from(result.perImage, String),
    positives,
    boxes: Array.from(batch.targets.boxes),
    boxOffsets: Array.from(batch.targets.boxOffsets),
    plan: batch.plan,
  }
  const { windows } = batch.images
  let at = 0
  for (let i = 0; windows !== undefined && i < batch.ids.length; i++) {
    const [height, width] = [windows.shapes[2 * i]!, windows.shapes[2 * i + 1]!]
    await writeFileAtomic(join(place, `${i}.pgm`), pgm(windows.pixels.subarray(at, at + height * width), height, width))
    at += height * width
  }
  const path = join(place, 'record.json')
  await writeFileAtomic(path, `${JSON.stringify(record, null, 2)}\n`)
  return path
}

/** Portable greymap (netpbm), binary, 16 bits big endian. */
export function pgm(pixels: Uint16Array, height: number, width: number): Uint8Array {
  const head = Buffer.from(`P5\n${width} ${height}\n65535\n`, 'ascii')
  const body = Buffer.from(new Uint8Array(pixels.buffer, pixels.byteOffset, pixels.byteLength)).swap16()
  return Buffer.concat([head, body])
}
