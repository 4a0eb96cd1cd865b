import t from 'tap'
import {
  fromClassifier,
  fromKeras,
  fromTorchvision,
  mapParameters,
  torchvisionLowest,
  toTorchvision,
} from '../../lib/weights/names.js'
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
  t.equal(fromTorchvision('backbone.fpn.layer_blocks.1.bias', 4), 'fpn.output.5.bias')
  for (const lowest of [2, 3, 4]) {
    const names = [2, 3, 4, 5].filter((level) => level >= lowest).map((level) => `fpn.lateral.${level}.weight`)
    const theirs = names.map((name) => toTorchvision(name, lowest)!)
    t.equal(torchvisionLowest(theirs), lowest)
    t.strictSame(
      theirs.map((name) => fromTorchvision(name, lowest)),
      names,
    )
  }
  t.equal(torchvisionLowest(['backbone.body.conv1.weight']), 3, 'without a pyramid')
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
  const vgg = layout['vgg16']!.datasets!.map(([path]) => path)
  const { mapped, unused } = mapParameters(vgg, (path) => fromKeras(path, 'vgg16'))
  t.strictSame(unused, [], 'vgg16')
  t.equal(new Set(mapped.values()).size, vgg.length)
  t.equal(fromKeras('res3b2_branch2a/res3b2_branch2a/kernel:0'), 'backbone.layer2.2.conv1.weight')
  t.equal(fromKeras('bn5c_branch2c/moving_variance:0'), 'backbone.layer4.2.bn3.running_var')
  t.equal(fromKeras('res2a_branch1/kernel:0'), 'backbone.layer1.0.downsample.0.weight')
  t.equal(fromKeras('block1_conv1/kernel:0'), undefined)
  t.equal(fromKeras('conv1/what:0'), undefined)
})

t.test('layers of keras-applications, by family', async (t) => {
  const at = (backbone: string, layer: string, array = 'kernel:0') => fromKeras(`${layer}/${array}`, backbone)
  t.equal(at('vgg16', 'block5_conv3'), 'backbone.features.28.weight')
  t.equal(at('vgg19', 'block5_conv4', 'bias:0'), 'backbone.features.34.bias')
  t.equal(at('vgg16', 'block1_conv1'), 'backbone.features.0.weight')
  t.equal(at('resnet50', 'conv4_block6_2_bn', 'gamma:0'), 'backbone.layer3.5.bn2.weight')
  t.equal(at('resnet50', 'conv2_block1_0_conv', 'bias:0'), 'backbone.layer1.0.downsample.0.bias')
  t.equal(at('densenet121', 'conv1/conv'), 'backbone.features.conv0.weight')
  t.equal(at('densenet121', 'conv1/bn', 'moving_mean:0'), 'backbone.features.norm0.running_mean')
  t.equal(at('densenet121', 'conv3_block12_2_conv'), 'backbone.features.denseblock2.denselayer12.conv2.weight')
  t.equal(at('densenet121', 'conv3_block1_0_bn', 'beta:0'), 'backbone.features.denseblock2.denselayer1.norm1.bias')
  t.equal(at('densenet121', 'pool4_conv'), 'backbone.features.transition3.conv.weight')
  t.equal(at('mobilenet_v1_050', 'conv_dw_13', 'depthwise_kernel:0'), 'backbone.conv_dw_13.weight')
  t.equal(at('mobilenet_v1_050', 'conv_pw_1_bn', 'moving_variance:0'), 'backbone.conv_pw_1_bn.running_var')
  t.equal(at('mobilenet_v2', 'expanded_conv_project_BN', 'gamma:0'), 'backbone.features.1.conv.2.weight')
  t.equal(at('mobilenet_v2', 'block_16_depthwise', 'depthwise_kernel:0'), 'backbone.features.17.conv.1.0.weight')
  t.equal(at('mobilenet_v2', 'block_1_project'), 'backbone.features.2.conv.2.weight')
  t.equal(at('efficientnet_b0', 'block1a_project_bn', 'beta:0'), 'backbone.features.1.0.block.2.1.bias')
  t.equal(at('efficientnet_b4', 'block6h_se_expand', 'bias:0'), 'backbone.features.6.7.block.2.fc2.bias')
  t.equal(at('efficientnet_b7', 'top_bn', 'moving_mean:0'), 'backbone.features.8.1.running_mean')
  for (const backbone of ['vgg16', 'densenet121', 'mobilenet_v1_100', 'mobilenet_v2', 'efficientnet_b7']) {
    t.equal(at(backbone, 'C5_reduced'), 'fpn.lateral.5.weight', `${backbone}: the pyramid`)
    t.equal(at(backbone, 'pyramid_regression_3', 'bias:0'), 'head.box.tower.3.conv.bias', `${backbone}: the heads`)
  }
})

t.test('older and other spellings of backbones alone', async (t) => {
  const known = (names: string[]) => (ours: string) => names.includes(ours)
  const dense = 'backbone.features.denseblock1.denselayer2.norm1.weight'
  t.equal(fromClassifier('features.denseblock1.denselayer2.norm.1.weight', known([dense])), dense)
  t.equal(fromClassifier('backbone.body.denseblock1.denselayer2.norm1.weight', known([dense])), dense)
  const scale = 'backbone.features.1.0.layer_scale.weight'
  t.equal(fromClassifier('features.1.0.layer_scale', known([scale])), scale)
  t.equal(fromClassifier('layer0.conv1.weight', known(['backbone.conv1.weight'])), 'backbone.conv1.weight')
  t.equal(fromClassifier('classifier.weight', known([dense])), undefined)
})
