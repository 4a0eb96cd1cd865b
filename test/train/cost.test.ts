// The numbers of a network that can be counted by hand or were measured: parameters, multiply-adds, peaks of real steps.
import t from 'tap'
import type { Recompute } from '../../lib/binding/types.js'
import { detectorConfig } from '../../lib/config/detector.js'
import { defaultConfig } from '../../lib/config/load.js'
import { type CostSetting, smallerSteps, stepCost } from '../../lib/train/cost.js'
import { resnetGraph } from '../onnx/resnet-graph.js'

function setting(
  given: Partial<Pick<CostSetting, 'height' | 'width' | 'batch' | 'optimizer'>> & {
    frozenStages?: number
    checkpoint?: Recompute
    backbone?: 'resnet18' | 'resnet50'
  } = {},
): CostSetting {
  const config = defaultConfig('torchvision-v1')
  config.model.p6Source = 'c5'
  config.model.backbone = given.backbone ?? 'resnet50'
  config.model.frozenStages = given.frozenStages ?? 0
  config.model.checkpointActivations = given.checkpoint ?? false
  config.data.classes = ['background', 'mass']
  const { model } = detectorConfig(config)
  const { height = 1024, width = 1024, batch = 1, optimizer = 'sgd' } = given
  return { model, backbone: resnetGraph(model), anchorsPerCell: 9, height, width, batch, optimizer }
}

t.test('multiply-adds of ResNet-50 are the published 4.1 billion at 224 pixels', async (t) => {
  const { macs } = stepCost(setting({ height: 224, width: 224 }))
  t.ok(Math.abs(macs.backbone / 4.089e9 - 1) < 0.01, `${macs.backbone}`)
})

t.test('everything per image grows linearly', async (t) => {
  const one = stepCost(setting())
  const two = stepCost(setting({ batch: 2 }))
  const wide = stepCost(setting({ width: 2048 }))
  for (const other of [two, wide]) {
    t.equal(other.stepMacs, 2 * one.stepMacs)
    t.equal(other.bytes.activations, 2 * one.bytes.activations)
    t.equal(other.bytes.optimizer, one.bytes.optimizer)
  }
})

t.test('bytes of a convolution: maps once per image, weights once', async (t) => {
  // Both towers at P3 of 1024 pixels: five convolutions each, 128 x 128 cells, 256 channels, 18 logits and 36 numbers of boxes.
  const cells = 128 * 128
  const maps = cells * (2 * 256 * 9 + 18 + 36)
  const weights = 9 * 256 * (2 * 4 * 256 + 18 + 36)
  t.equal(stepCost(setting()).headTrafficByLevel[3], 4 * (maps + weights))
  t.equal(stepCost(setting({ batch: 3 })).headTrafficByLevel[3], 4 * (3 * maps + weights))
  const { traffic, headTrafficByLevel } = stepCost(setting())
  const levels = Object.values(headTrafficByLevel).reduce((sum, bytes) => sum + bytes, 0)
  t.equal(traffic.classification + traffic.box, levels)
  t.ok(traffic.backbone > 0 && traffic.neck > 0)
})

// GiB above the process with its parameters, ResNet-50 unless told otherwise, measured with `bench train-step`.
const MEASURED: { given: Parameters<typeof setting>[0]; gib: number }[] = [
  { given: {}, gib: 1.079 },
  { given: { batch: 2 }, gib: 1.955 },
  { given: { checkpoint: true }, gib: 0.84 },
  { given: { checkpoint: 'early' }, gib: 0.894 },
  { given: { checkpoint: 'early', optimizer: 'adamw' }, gib: 1.031 },
  { given: { checkpoint: 'early', height: 2048, width: 1664 }, gib: 2.243 },
  { given: { height: 2048, width: 1664 }, gib: 2.951 },
  { given: { frozenStages: 5, height: 2048, width: 1664 }, gib: 0.776 },
  { given: { frozenStages: 5, height: 4096, width: 3328 }, gib: 1.836 },
  { given: { checkpoint: 'early', height: 4096, width: 3328 }, gib: 7.737 },
  { given: { frozenStages: 2, checkpoint: 'early' }, gib: 0.791 },
  { given: { frozenStages: 1, checkpoint: true }, gib: 0.819 },
  { given: { frozenStages: 2 }, gib: 0.824 },
  { given: { frozenStages: 3 }, gib: 0.599 },
  { given: { frozenStages: 5 }, gib: 0.39 },
  { given: { backbone: 'resnet18' }, gib: 0.429 },
  { given: { backbone: 'resnet18', checkpoint: 'early' }, gib: 0.369 },
  { given: { height: 512, width: 512, batch: 4 }, gib: 1.065 },
]
for (const { given, gib } of MEASURED) {
  t.test(`peak of ${JSON.stringify(given)} within 15 % of the measured`, async (t) => {
    const predicted = stepCost(setting(given)).bytes.step / 2 ** 30
    t.ok(Math.abs(predicted / gib - 1) < 0.15, `${predicted.toFixed(2)} GiB predicted, ${gib} measured`)
  })
}

t.test('suggestions are smaller than what does not fit', async (t) => {
  const large = setting({ height: 4096, width: 3328, batch: 2 })
  const suggestions = smallerSteps(large)
  t.same(
    suggestions.map((s) => s.change),
    [
      'data.batchSize=1',
      'model.checkpointActivations=early',
      'model.checkpointActivations=true',
      'model.frozenStages=5',
      'levels P4 and up',
    ],
  )
  for (const { stepBytes, change } of suggestions) t.ok(stepBytes < stepCost(large).bytes.step, change)
})
