// The config.ini of keras-retinanet: read as it is, rounded as the reference rounds, every fault with its line; as --config and as a
// starter file. The numbers are compared with the reference's own in test/parity/anchors.test.ts.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { starterFile } from '../../lib/config/document.js'
import { parseKerasIni } from '../../lib/config/keras-ini.js'
import { loadConfig, valueAt } from '../../lib/config/load.js'
import type { ConfigProblem } from '../../lib/errors.js'

const INI = `# from the README
[anchor_parameters]
sizes   = 32 64 128 256
strides = 8 16 32 64
ratios  = 0.5 1 2 3
scales  : 1 1.2
          1.6

[pyramid_levels]
levels = 3 4 5 6
`

function parse(text: string) {
  const problems: ConfigProblem[] = []
  return { ...parseKerasIni(text, 'config.ini', problems), problems }
}
const faults = (text: string) => parse(text).problems.map(({ line, message }) => `${line}: ${message}`)

t.test('values and lines', (t) => {
  const { tree, lines, problems } = parse(INI)
  t.strictSame(problems, [])
  t.strictSame(tree, {
    anchors: {
      sizes: [32, 64, 128, 256],
      strides: [8, 16, 32, 64],
      ratios: [0.5, 1, 2, 3],
      scales: [1, Math.fround(1.2), Math.fround(1.6)],
    },
    model: { levels: [3, 4, 5, 6] },
  })
  t.strictSame([...lines.values()], [3, 4, 5, 6, 10])
  t.strictSame(parse(`\uFEFF${INI.replaceAll('\n', '\r\n')}`).tree, tree, 'byte order mark and Windows lines')
  t.end()
})

t.test('faults', (t) => {
  t.match(faults(INI.replace('32 64 128 256', '32 64.5 128')), [/^3: expected an integer, got "64\.5"/])
  t.match(faults(INI.replace('0.5 1 2 3', '0.5 eins')), [/^5: expected a number, got "eins"/])
  t.match(faults(INI.replace('0.5 1 2 3', '')), [/^5: expected numbers separated by spaces, got nothing/])
  t.match(faults(INI.replace(/strides.*\n/, '')), [/^1: section \[anchor_parameters\] has no "strides"/])
  t.match(faults(`${INI}size = 3\n`), [/^11: unknown key "size" of section \[pyramid_levels\]/])
  t.match(faults(`${INI}levels = 3\n`), [/^11: key "levels" occurs twice/])
  t.match(faults('sizes = 3\n'), [/^1: expected "\[section\]" or "key = value"/, /^1: expected a section/])
  t.match(faults(''), [/^1: expected a section/])
  t.end()
})

t.test('as a configuration, and as the start of one', async (t) => {
  const folder = t.testdir()
  const ini = join(folder, 'config.ini')
  writeFileSync(ini, INI)
  const set = { 'model.semantics': 'keras-retinanet' }
  const { config, origins } = await loadConfig({ file: ini, set, hasWeights: true })
  t.strictSame(config.anchors.scales, [1, Math.fround(1.2), Math.fround(1.6)])
  t.strictSame(config.model.levels, [3, 4, 5, 6])
  t.equal(origins.get('anchors.ratios'), `${ini}:5`)
  t.equal(config.anchors.coder, 'corner')

  const given = new Map<string, unknown>([
    ...Object.entries(set),
    ...['anchors.sizes', 'anchors.strides', 'anchors.ratios', 'anchors.scales', 'model.levels'].map(
      (key) => [key, valueAt(config, key)] as const,
    ),
  ])
  const yaml = join(folder, 'experiment.yaml')
  writeFileSync(yaml, starterFile(undefined, 'keras-retinanet', given))
  t.strictSame((await loadConfig({ file: yaml, hasWeights: true })).config, config, 'the YAML says the same')
  // Any commented line can be opened where it stands.
  writeFileSync(
    yaml,
    starterFile(undefined, 'keras-retinanet', given).replace('#   backbone: "resnet50"', '  backbone: "resnet101"'),
  )
  t.equal((await loadConfig({ file: yaml, hasWeights: true })).config.model.backbone, 'resnet101')

  writeFileSync(ini, INI.replace('levels = 3 4 5 6', 'levels = 3 4 x'))
  await t.rejects(loadConfig({ file: ini, hasWeights: true }), {
    code: 'ERR_MAMMO_CONFIG',
    message: /line 10, column 1: expected an integer, got "x"/,
  })
})
