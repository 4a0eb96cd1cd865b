// Simulated readings for tests: images of patients with lesions and noisy detections. Deterministic by seed; no data set.
import type { Detection, ImageTruth, TruthBox } from '../../lib/evaluate/types.js'
import type { Box } from '../../lib/geometry/boxes.js'
import { randomStream } from '../../lib/random.js'

/** Two breasts per patient, two views each; about a third of the breasts hold a lesion, seen in both views. */
export function simulate(patients: number, seed: number, quality = 1) {
  const truth: ImageTruth[] = []
  const detections = new Map<string, Detection[]>()
  for (let p = 0; p < patients; p++) {
    for (const laterality of ['L', 'R']) {
      const random = randomStream(seed, p, laterality)
      const ill = random.uniform() < 1 / 3
      for (const view of ['CC', 'MLO']) {
        const id = `${p}-${laterality}-${view}`
        // What is found draws from its own stream, so that the quality leaves the truth alone.
        const reader = randomStream(seed, p, laterality, view)
        const boxes: TruthBox[] = []
        const found: Detection[] = []
        if (ill) {
          const [x, y, side] = [random.uniform(0, 800), random.uniform(0, 800), random.uniform(40, 300)]
          const box: Box = [x, y, x + side, y + side]
          boxes.push({ box, label: 0, sizeMm: side * 0.1 })
          if (reader.uniform() < 0.8 * quality) {
            const shift = () => reader.normal() * side * 0.08
            found.push({
              box: [x + shift(), y + shift(), x + side + shift(), y + side + shift()],
              label: 0,
              score: reader.uniform(0.3, 1),
            })
          }
        }
        for (let n = reader.integer(4); n > 0; n--) {
          const [x, y, side] = [reader.uniform(0, 900), reader.uniform(0, 900), reader.uniform(40, 200)]
          found.push({ box: [x, y, x + side, y + side], label: 0, score: reader.uniform(0.01, 0.7) })
        }
        truth.push({ id, patient: String(p), laterality, view, density: 'abcd'[p % 4]!, spacingMm: 0.1, boxes })
        detections.set(id, found)
      }
    }
  }
  return { truth, detections }
}
