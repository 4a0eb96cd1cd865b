import t from 'tap'
import { fromKeras, fromTorchvision, mapParameters, toTorchvision } from '../../lib/weights/names.js'
import { oracleJson } from '../oracles.js'

t.test('every entry of both torchvision models has a place and comes back', async (t) => {
  const layout = await oracleJson<{ models: { name: string; state_dict: [string, number[], string][] }[] }>(
    t,
    'torchvision_state_dict.json',
  )
  for (const { name, state_dict } of layout?.models ?? []) {
    const names = state_dict.map(([key]) => key)
    const { mapped, unused } = mapParameters(names, fromTorchvision)
    t.ok(
      unused.every((key) => key.endsWith('num_batches_tracked')),
      `${name}: nothing unknown`,
    )
    t.equal(new Set(mapped.values()).size, mapped.size, `${name}: no two share a place`)
    for (const [theirs, ours] of mapped)
      if (toTorchvision(ours) !== theirs) t.fail(`${theirs} -> ${ours} -> ${toTorchvision(ours)}`)
  }
})

t.test('old torchvision spellings', async (t) => {
  t.equal(fromTorchvision('backbone.fpn.inner_blocks.1.weight'), 'fpn.lateral.4.weight')
  t.equal(fromTorchvision('backbone.fpn.layer_blocks.2.bias'), 'fpn.output.5.bias')
  t.equal(fromTorchvision('head.classification_head.conv.6.weight'), 'head.cls.tower.3.conv.weight')
  t.equal(fromTorchvision('head.regression_head.conv.2.bias'), 'head.box.tower.1.conv.bias')
  t.equal(fromTorchvision('roi_heads.box_head.fc6.weight'), undefined)
})

t.test('every array of the keras files has a place', async (t) => {
  interface Layout {
    datasets: [string, number[]][] | null
    names_only: string[] | null
  }
  const layout = await oracleJson<Record<string, Layout>>(t, 'keras_h5_layout.json')
  if (!layout) return
  for (const name of ['resnet50', 'resnet101']) {
    const { datasets, names_only } = layout[name]!
    const names = datasets?.map(([path]) => path) ?? names_only!
    const { mapped, unused } = mapParameters(names, fromKeras)
    t.strictSame(unused, [], name)
    t.equal(new Set(mapped.values()).size, names.length, `${name}: no two share a place`)
  }
  t.equal(fromKeras('res3b2_branch2a/res3b2_branch2a/kernel:0'), 'backbone.layer2.2.conv1.weight')
  t.equal(fromKeras('bn5c_branch2c/moving_variance:0'), 'backbone.layer4.2.bn3.running_var')
  t.equal(fromKeras('res2a_branch1/kernel:0'), 'backbone.layer1.0.downsample.0.weight')
  t.equal(fromKeras('block1_conv1/kernel:0'), undefined)
  t.equal(fromKeras('conv1/what:0'), undefined)
})
