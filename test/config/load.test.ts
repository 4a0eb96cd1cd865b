// Layers of a configuration: precedence, origins, and every fault reported at once with its place.
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { defaultConfig, loadConfig, valueAt } from '../../lib/config/load.js'
import { presets } from '../../lib/config/presets.js'
import { SEMANTICS } from '../../lib/config/schema.js'
import { ConfigError } from '../../lib/errors.js'

async function yamlFile(text: string): Promise<string> {
  const path = join(await mkdtemp(join(tmpdir(), 'mammo-config-')), 'experiment.yaml')
  await writeFile(path, text)
  return path
}

async function faults(options: Parameters<typeof loadConfig>[0]): Promise<ConfigError> {
  const error = await loadConfig(options).then(
    () => undefined,
    (e: unknown) => e,
  )
  if (!(error instanceof ConfigError)) throw new Error(`expected a ConfigError, got ${String(error)}`)
  return error
}

t.test('precedence is default < semantics < preset < file < --set', async (t) => {
  const file = await yamlFile(
    'extends: inbreast-two-stage\nloss:\n  alpha: 0.9\n  gamma: 3\nmodel:\n  semantics: keras-retinanet\n  norm: group\n',
  )
  const { config, origins } = await loadConfig({ file, set: { 'loss.gamma': '1.5' } })
  t.equal(config.loss.gamma, 1.5)
  t.equal(config.loss.alpha, 0.9)
  t.strictSame(config.model.levels, [4, 5, 6, 7])
  t.equal(config.loss.box, 'smooth_l1')
  t.equal(config.data.patch.size, 1024)
  t.equal(origins.get('loss.gamma'), '--set')
  t.equal(origins.get('loss.alpha'), `${file}:3`)
  t.equal(origins.get('model.levels'), 'preset inbreast-two-stage')
  t.equal(origins.get('loss.box'), 'semantics keras-retinanet')
  t.equal(origins.get('data.patch.size'), 'default')
})

t.test('all problems at once, each with its place and the nearest key', async (t) => {
  const file = await yamlFile('loss:\n  gama: 3\nanchors:\n  ratios: [1, -0.5]\nmodel:\n  backbone: resnet19\n')
  const error = await faults({ file, set: { 'train.lrr': '3', 'loss.alpha': '7' } })
  t.equal(error.code, 'ERR_MAMMO_CONFIG')
  t.equal(error.exitCode, 2)
  t.equal(error.problems.length, 5)
  const gama = error.problems.find((p) => p.key === 'loss.gama')
  t.match(gama, { line: 2, column: 3, file, message: 'did you mean "loss.gamma"?' })
  t.match(error.message, 'anchors.ratios[1] is -0.5, expected a number > 0')
  t.match(error.message, 'line 6, column 3: model.backbone is "resnet19", expected one of resnet18')
  t.match(error.message, 'unknown key "train.lrr"; did you mean "train.lr"?')
  t.match(error.message, 'loss.alpha is 7, expected a number <= 1')
})

t.test('values of --set are read by YAML; broken ones are named', async (t) => {
  const { config } = await loadConfig({
    set: { 'anchors.scales': '[1, 1.26]', 'run.timeHours': 'null', 'augment.enabled': 'false' },
  })
  t.strictSame(config.anchors.scales, [1, 1.26])
  t.equal(config.augment.enabled, false)
  t.match((await faults({ set: { 'anchors.scales': '[1,' } })).message, '--set anchors.scales')
})

t.test('broken YAML and missing files are configuration errors', async (t) => {
  t.match((await faults({ file: await yamlFile('loss: [1\n') })).problems[0], { line: 2 })
  t.match((await faults({ file: '/nonexistent/experiment.yaml' })).message, 'cannot read')
  t.match((await faults({ file: await yamlFile('- 1\n') })).message, 'expected a mapping')
})

t.test('impossible combinations', async (t) => {
  const cases: [Record<string, unknown>, string][] = [
    [{ 'model.norm': 'frozen' }, 'model.norm is frozen but model.weights is null'],
    [{ 'model.frozenStages': 2 }, 'random layers would never learn'],
    [{ 'model.levels': [3, 5] }, 'contiguous'],
    [{ 'model.levels': [7, 8], 'anchors.sizes': [1, 2], 'anchors.strides': [128, 256] }, 'P7 is made from P6'],
    [{ 'model.levels': [4, 5, 6, 7] }, 'anchors.sizes has 5 entries, model.levels has 4'],
    [{ 'anchors.strides': [8, 16, 32, 61, 114] }, 'anchors.strides[3] is 61, level P6 has stride 64'],
    [{ 'matcher.negativeIou': 0.6 }, 'is above matcher.positiveIou'],
    [{ 'data.resize.rule': 'spacing' }, 'data.resize.spacingMm is needed'],
    [{ 'train.strategy': 'twoStage' }, 'list the phases'],
    [{ 'input.padMultiple': 32 }, 'no multiple of the coarsest stride 128'],
    [{ 'run.precision': 'fp16' }, 'needs a CUDA device'],
    [{ 'input.mean': 3 }, 'both input.mean and input.std'],
  ]
  for (const [set, expected] of cases) t.match((await faults({ set })).message, expected, JSON.stringify(set))
  const { config } = await loadConfig({ set: { 'model.norm': 'frozen' }, hasWeights: true })
  t.equal(config.model.norm, 'frozen')
})

t.test('every preset and every semantics resolves', async (t) => {
  for (const preset of Object.keys(presets)) await t.resolves(loadConfig({ preset }), preset)
  for (const semantics of SEMANTICS) t.equal(defaultConfig(semantics).model.semantics, semantics)
  t.match((await faults({ preset: 'smokes' })).message, 'did you mean "smoke"?')
  t.equal(valueAt(defaultConfig('torchvision-v1'), 'anchors.offset'), 0)
})
