// Non-maximum suppression of scattered boxes.
import type { Measurement } from '../trials.js'
import { measureOp, type OpSetting, scatteredBoxes, uniforms } from './op.js'

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const { boxes } = options as { boxes: number }
  const args = { boxes: scatteredBoxes(boxes, 4000, 4000, 20, 220), scores: uniforms(boxes, 7), iou: 0.5 }
  return measureOp('nms', args, options as unknown as OpSetting, 15)
}
