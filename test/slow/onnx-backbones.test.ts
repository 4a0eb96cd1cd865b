// Every backbone of the table, exported, in onnxruntime against the engine at an odd size, and its row against the engine's description.
// Needs the addon.
// MAMMO_BACKBONES=name,name runs some of them.
import t from 'tap'
import { native, openSession } from '../../lib/binding/session.js'
import { BACKBONES, backboneOf, TAP_STRIDES } from '../../lib/config/backbones.js'
import { sessionConfig } from '../../lib/config/detector.js'
import { defaultConfig } from '../../lib/config/load.js'
import { checkBackbone, checkReference } from '../parity/backbone-parity.js'

t.setTimeout(3_600_000)

const chosen = process.env['MAMMO_BACKBONES']?.split(',') ?? BACKBONES

for (const name of chosen) {
  t.test(name, async (t) => {
    const row = backboneOf(name)
    const config = defaultConfig('mammo', name)
    config.input.channels = 3
    config.model.norm = 'frozen'
    const settings = sessionConfig(config)
    // With all levels, so that every tap is there.
    const { taps } = await native().describeBackbone({ ...settings.detector.model, levels: [2, 3, 4, 5, 6, 7] })
    t.strictSame(
      taps.map(({ level, channels, stride }) => [level, channels, stride]),
      row.channels.map((channels, i) => [i + 2, channels, TAP_STRIDES[i]]),
      'taps',
    )
    const session = await openSession(settings)
    const body = (await session.parameters()).filter(
      (p) => /^backbone\.(?!tap_norm)/.test(p.name) && p.role !== 'buffer',
    )
    await session.dispose()
    // DenseNet as published ends with a norm behind the last features that the pyramid takes.
    const published = row.family === 'densenet' ? row.parameters - 2 * row.channels[3] : row.parameters
    t.equal(
      body.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
      published,
      'parameters of the body',
    )
    await checkReference(t, name)
    await checkBackbone(t, name, 'frozen')
  })
}
