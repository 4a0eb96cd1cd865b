// A whole run report on simulated readings, for tests that look at the page.

import { encodeRgbPng } from '../../lib/data/raster.js'
import { evaluateDetections } from '../../lib/evaluate/evaluate.js'
import type { RunReport } from '../../lib/report/run-report.js'
import { simulate } from '../evaluate/simulate.js'

export async function sampleReport(): Promise<RunReport> {
  const { truth, detections } = simulate(40, 7)
  const metrics = evaluateDetections(truth, detections, {
    classes: ['mass'],
    iou: 0.5,
    scoreThreshold: 0.01,
    maxDetections: 100,
    fppi: [0.1, 0.5, 1, 4],
    criteria: ['centre', 'iou:0.2'],
    credit: 'all',
    bootstrap: { draws: 100, seed: 0 },
  })
  const bytes = await encodeRgbPng(new Uint8Array(3 * 600 * 400).fill(90), 600, 400)
  const history = Array.from({ length: 6 }, (_, i) => ({
    epoch: i + 1,
    'train/loss': 1 / (i + 1),
    'train/loss_cls': 0.6 / (i + 1),
    'train/loss_box': 0.4 / (i + 1),
    'val/loss': 0.8 / (i + 1),
    'val/AP50': [0.1, 0.2, 0.35, 0.5, 0.45, 0.4][i]!,
    'val/AP': 0.05 * i,
    'val/sens@0.1': 0.1 * i,
    'val/sens@1': 0.15 * i,
    lr: 1e-3 / (i + 1),
  }))
  return {
    title: 'Run sample-1',
    notice: 'Simulated readings.',
    warnings: ['only 30 lesions were scored: the intervals are wide'],
    facts: [['status', 'finished']],
    history,
    phaseBorders: [{ epoch: 3, label: 'full' }],
    metrics: [['AP50', '0.5000', '95 % interval 0.4 to 0.6']],
    evaluation: { about: 'Part val', metrics },
    differences: {
      caption: 'Keys that differ from the defaults',
      head: ['key', 'defaults', 'this run'],
      rows: [['loss.gamma', '2', '5']],
    },
    data: {
      table: { caption: 'Parts of the data', head: ['part', 'images', 'patients'], rows: [['train', 100, 50]] },
      remark: 'No patient is in two parts.',
    },
    pictures: ['a', 'b'].map((name) => ({ bytes, type: 'image/png', caption: name, alt: `Mammogram ${name}` })),
    shown: 'Predictions from score 0.3 are shown.',
    omitted: '1 of 3 pictures are left out.',
    anchors: {
      about: '10 lesions.',
      sizes: { caption: 'Coverage by size', head: ['side', 'lesions'], rows: [['0 to 32', 10]] },
      levels: { caption: 'Levels', head: ['level', 'anchors per image'], rows: [['P3', 1000]] },
    },
    time: [['wall time', '60 s']],
    environment: [['host cpu', 'x']],
    commands: ['mammo-retinanet train smoke'],
  }
}
