// The table of backbones: complete, and what it changes in a configuration.
import t from 'tap'
import { BACKBONES, backboneDefaults, backboneOf } from '../../lib/config/backbones.js'
import { showConfig } from '../../lib/config/document.js'
import { defaultConfig, loadConfig } from '../../lib/config/load.js'
import { SEMANTICS } from '../../lib/config/schema.js'
import { ConfigError } from '../../lib/errors.js'

t.test('rows are complete', async (t) => {
  t.equal(BACKBONES.length, 34)
  for (const name of BACKBONES) {
    const row = backboneOf(name)
    t.match(row.halvings, /^[cf]{5}$/, name)
    t.ok(
      row.channels.every((c) => Number.isInteger(c) && c > 0),
      name,
    )
    t.ok(Object.keys(row.sources).length > 0, `${name} has a source`)
    t.equal(row.norm === 'none', Object.values(row.sources).some(({ eps }) => eps === 0) && row.norm === 'none', name)
  }
  t.throws(() => backboneOf('resnet19'), /resnet18.*got "resnet19"/)
})

t.test('a MobileNet v1 of another width has the parameters of its formula', async (t) => {
  const pointwise = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
  for (const percent of [100, 75, 50, 25]) {
    const width = (channels: number) => (channels * percent) / 100
    let input = width(32)
    let sum = 27 * input + 2 * input
    for (const channels of pointwise) {
      const output = width(channels)
      sum += 9 * input + 2 * input + input * output + 2 * output
      input = output
    }
    t.equal(backboneOf(`mobilenet_v1_${String(percent).padStart(3, '0')}`).parameters, sum, `${percent} %`)
  }
})

t.test('the epsilon follows the source of the weights', async (t) => {
  const eps = async (backbone: string, semantics: string, more: Record<string, unknown> = {}) => {
    const set = { 'model.backbone': backbone, 'model.semantics': semantics, ...more }
    const { config, origins } = await loadConfig({ set, hasWeights: true })
    return [config.model.normEps, origins.get('model.normEps')]
  }
  t.same(await eps('mobilenet_v3_large', 'mammo'), [1e-3, 'backbone mobilenet_v3_large'])
  t.same(await eps('efficientnet_b0', 'mammo'), [1e-5, 'default'])
  t.same(await eps('efficientnet_b0', 'keras-retinanet'), [1e-3, 'backbone efficientnet_b0'])
  t.same(await eps('efficientnet_b7', 'mammo'), [1e-3, 'backbone efficientnet_b7'])
  t.same(await eps('densenet121', 'keras-retinanet'), [1.001e-5, 'backbone densenet121'])
  t.same(await eps('convnext_tiny', 'mammo'), [1e-6, 'backbone convnext_tiny'])
  t.same(await eps('mobilenet_v3_large', 'mammo', { 'model.normEps': 0.5 }), [0.5, '--set'], 'an override wins')
  const loaded = await loadConfig({ set: { 'model.backbone': 'convnext_tiny' } })
  t.match(showConfig(loaded, true), /normEps: 0.000001.*# backbone convnext_tiny/)
})

t.test('ResNets keep the defaults of their semantics', async (t) => {
  for (const semantics of SEMANTICS) {
    for (const name of ['resnet18', 'resnet50', 'resnet152']) {
      t.same(backboneDefaults(name, semantics), { model: {} })
      const config = defaultConfig(semantics)
      config.model.backbone = name
      t.same(defaultConfig(semantics, name), config)
    }
  }
})

t.test('every backbone resolves with every semantics', async (t) => {
  for (const semantics of SEMANTICS) {
    for (const name of BACKBONES) {
      if (semantics === 'keras-retinanet' && /^resnet(18|34)$/.test(name)) continue // refused: no bottleneck
      const set = { 'model.backbone': name, 'model.semantics': semantics }
      const { config } = await loadConfig({ set, hasWeights: true })
      t.equal(config.model.backbone, name)
      t.equal(config.model.strideIn1x1 && !backboneOf(name).bottleneck, false)
    }
  }
})

t.test('rules that follow from the backbone', async (t) => {
  const fault = async (set: Record<string, unknown>) => {
    const error = await loadConfig({ set }).then(
      () => undefined,
      (e: unknown) => e,
    )
    return error instanceof ConfigError ? error.message : 'accepted'
  }
  t.match(await fault({ 'model.backbone': 'densenet121', 'model.norm': 'frozen' }), /model.norm is frozen/)
  t.equal(await fault({ 'model.backbone': 'vgg16', 'model.norm': 'frozen' }), 'accepted', 'nothing to freeze')
  t.match(await fault({ 'model.backbone': 'vgg16', 'model.stemWidth': 32 }), /vgg16 has the widths of its family/)
  t.match(await fault({ 'model.backbone': 'vgg16', 'model.strideIn1x1': true }), /vgg16 has none/)
  const unknown = await fault({ 'model.backbone': 'efficientnet-b3' })
  t.match(unknown, /model.backbone is "efficientnet-b3", expected one of efficientnet_b3, /)
  t.match(unknown, /28 others/)
})
