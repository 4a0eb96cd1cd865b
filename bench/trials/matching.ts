// Assigning every anchor of a canvas to a few boxes.
import type { Measurement } from '../trials.js'
import { anchorArgs, measureOp, type OpSetting, scatteredBoxes } from './op.js'

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const { height, width, boxes } = options as { height: number; width: number; boxes: number }
  const args = {
    ...anchorArgs(height, width),
    size: Int32Array.from([height, width]),
    boxes: scatteredBoxes(boxes, width - 700, height - 700, 50, 650),
    ignore: new Float32Array(0),
  }
  const measured = await measureOp('match', args, options as unknown as OpSetting, 15)
  const anchors = 9 * args.grids.reduce((sum, rows, i) => (i % 2 === 0 ? sum + rows * args.grids[i + 1]! : sum), 0)
  return { ...measured, extra: { anchors, extraBytesPerAnchor: (measured.peakBytes - measured.baseBytes) / anchors } }
}
