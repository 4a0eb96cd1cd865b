// A backbone in three places, at an odd size: torchvision's stored outputs against the exported layers (checkReference), and the exported
// network against the engine's (checkBackbone). Small ones of each family run in the parity tier, all in the slow tier.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { native, openSession, type Session } from '../../lib/binding/session.js'
import type { ImageBatch } from '../../lib/binding/types.js'
import { backboneOf } from '../../lib/config/backbones.js'
import { sessionConfig } from '../../lib/config/detector.js'
import { defaultConfig } from '../../lib/config/load.js'
import type { Config } from '../../lib/config/schema.js'
import { gridSizes } from '../../lib/geometry/anchors.js'
import { addBackbone } from '../../lib/onnx/backbone.js'
import { writeModel } from '../../lib/onnx/export.js'
import { createGraph } from '../../lib/onnx/graph.js'
import type { Parameter } from '../../lib/onnx/layers.js'
import { compareHeads, runOnnx } from '../../lib/onnx/parity.js'
import { encodeModel } from '../../lib/onnx/proto.js'
import { packageRoot } from '../../lib/package-root.js'
import { fillTensor } from '../deterministic-fill.js'
import { tinyExport } from '../onnx/tiny-export.js'
import { runBytes } from '../onnx/tiny-model.js'

/** Odd at several levels, so that rounding up and down differ; not square. */
const CANVAS: [number, number] = [109, 150]
/** Outputs are scaled to about 1; then this is the largest accepted difference. */
const TOLERANCE = 1e-4

export async function checkBackbone(t: Test, name: string, norm: Config['model']['norm']): Promise<void> {
  const config = defaultConfig('mammo', name)
  Object.assign(config.model, { norm, levels: [2, 3, 4, 5, 6], fpnChannels: 16, headDepth: 1 })
  Object.assign(config.model.headNorm, { classification: 'none', box: 'none' })
  Object.assign(config.anchors, { sizes: [16, 32, 64, 128, 256], strides: [4, 8, 16, 32, 64], scales: [1] })
  const settings = sessionConfig(config)
  const { model } = settings.detector
  const session = await openSession(settings)
  try {
    const batch = testBatch()
    await disturbNorms(session)
    await scaleOutputs(session, batch)
    const expected = await session.forward(batch)
    const { halvings } = backboneOf(name)
    t.strictSame(
      Array.from(expected.grids),
      gridSizes(...CANVAS, model.levels, halvings).flat(),
      'real sizes are those that TypeScript counts with',
    )
    const parameters = new Map<string, { shape: number[]; data: Float32Array }>()
    for (const { name: key } of await session.parameters()) parameters.set(key, await session.getTensor(key))
    const written = await writeModel({
      ...tinyExport(join(t.testdir(), 'model.onnx'), {}, { padMultiple: 1, normalisedInGraph: false, type: 'float32' }),
      detector: settings.detector,
      backbone: await native().describeBackbone(model),
      parameters,
      graph: 'heads',
    })
    const image = { dims: [1, 1, ...CANVAS], data: batch.input! }
    const { outputs } = await runOnnx(written.path, [{ image }], 1)
    const { worstLogit, worstDelta } = compareHeads(outputs[0]!, model.levels, expected, 1)
    const text = `${name}, ${norm}: logits within ${worstLogit.toExponential(1)}, deltas within ${worstDelta.toExponential(1)}`
    t.ok(worstLogit <= TOLERANCE && worstDelta <= TOLERANCE, text)
    t.ok(Math.max(...expected.logits.map(Math.abs)) > 1, 'the outputs are not trivial')
  } finally {
    await session.dispose()
  }
}

function testBatch(): ImageBatch {
  const shape = [1, 1, ...CANVAS]
  return {
    canvas: CANVAS,
    sizes: Int32Array.from(CANVAS),
    input: fillTensor({ name: 'image', shape, offset: 0, amp: 1.7 }, 5),
  }
}

/**
 * Affine parameters around 1 and 0, running statistics around 0 and 1, biases around 0: nothing of a fresh network is neutral any more.
 * The gates of squeeze and excitation become flat: steep ones multiply rounding with every block, until in an untrained SE-ResNet-152 the
 * engine's own outputs move by 1.5 deviations when the input moves by its last bit.
 */
export async function disturbNorms(session: Session): Promise<void> {
  for (const { name, shape, role } of await session.parameters()) {
    if (/\.fc[12]\.weight$/.test(name)) {
      const { data } = await session.getTensor(name)
      await session.setTensor(
        name,
        data.map((value) => 0.05 * value),
      )
    }
    if (!name.startsWith('backbone.') || role === 'weight') continue
    const positive = name.endsWith('.weight') || name.endsWith('running_var')
    await session.setTensor(name, fillTensor({ name, shape, offset: positive ? 1 : 0, amp: positive ? 0.3 : 0.1 }, 5))
  }
}

/** Activations of an untrained network grow with its depth: the last convolutions are scaled to outputs of deviation 1. */
export async function scaleOutputs(session: Session, batch: ImageBatch): Promise<void> {
  const { logits, deltas } = await session.forward(batch)
  for (const [name, values] of [
    ['head.cls.logits', logits],
    ['head.box.deltas', deltas],
  ] as const) {
    const mean = values.reduce((a, b) => a + b, 0) / values.length
    const std = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length)
    const { data } = await session.getTensor(`${name}.weight`)
    await session.setTensor(
      `${name}.weight`,
      data.map((v) => v / std),
    )
    const bias = await session.getTensor(`${name}.bias`)
    await session.setTensor(
      `${name}.bias`,
      bias.data.map((v) => (v - mean) / std),
    )
  }
}

interface Reference {
  seed: number
  size: [number, number]
  backbones: Record<string, { taps: { shape: number[]; norm: number; samples: number[] }[] }>
}

/** Offset and amplitude of a filled parameter, the same as in test/fixtures/make_backbones.py. */
function rule(name: string, shape: readonly number[]): [number, number] {
  if (name.endsWith('running_var')) return [1, 0.3]
  if (name.endsWith('layer_scale')) return [0.5, 0.2]
  if (name.endsWith('weight') && shape.length > 1)
    // Steep gates would make a deep network chaotic: float32 rounding grows by half with every block.
    return [
      0,
      Math.sqrt(6 / shape.slice(1).reduce((product, dim) => product * dim, 1)) * (name.includes('.fc') ? 0.05 : 1),
    ]
  return name.endsWith('weight') ? [1, 0.2] : [0, 0.1]
}

/** C2..C5 with the weights of test/fixtures/make_backbones.py, filled by torchvision's names, against its stored numbers. */
export async function checkReference(t: Test, name: string): Promise<void> {
  const path = join(packageRoot(), 'test', 'fixtures', 'backbones.json')
  const reference = JSON.parse(readFileSync(path, 'utf8')) as Reference
  const { seed, size } = reference
  const config = defaultConfig('mammo', name)
  config.input.channels = 3
  Object.assign(config.model, { norm: 'frozen', levels: [2, 3, 4, 5], fpnChannels: 8, headDepth: 0 })
  Object.assign(config.anchors, { sizes: [16, 32, 64, 128], strides: [4, 8, 16, 32], scales: [1] })
  const { model } = sessionConfig(config).detector
  const session = await openSession(sessionConfig(config))
  const parameters = new Map<string, Parameter>()
  for (const { name: key, shape } of await session.parameters()) {
    if (!key.startsWith('backbone.')) continue
    // Torchvision has no `.weight` after a layer scale.
    const theirs = key.slice('backbone.'.length).replace(/layer_scale\.weight$/, 'layer_scale')
    const [offset, amp] = rule(theirs, shape)
    parameters.set(key, { shape, data: fillTensor({ name: theirs, shape, offset, amp }, seed) })
  }
  await session.dispose()
  const graph = createGraph()
  const image = {
    value: graph.input('x', 'float32', ['N', 3, 'H', 'W'], ''),
    channels: 3,
    size: ['H', 'W'] as [string, string],
  }
  const backbone = await native().describeBackbone(model)
  const build = { graph, model, backbone, parameters, batch: 'N', exactHalves: false }
  const taps = [...addBackbone(build, image, false)].sort(([a], [b]) => a - b)
  for (const [, map] of taps) graph.output(map.value, 'float32', ['N', map.channels, ...map.size], '')
  const bytes = encodeModel({
    irVersion: 8,
    producerName: 't',
    producerVersion: '0',
    docString: '',
    graph: graph.finish('g', ''),
    opsetImport: [{ domain: '', version: 17 }],
    metadataProps: [],
  })
  const data = fillTensor({ name: 'image', shape: [1, 3, ...size], offset: 0, amp: 1.7 }, seed)
  const outputs = await runBytes(t.testdir(), bytes, { x: { dims: [1, 3, ...size], data } })
  const expected = reference.backbones[name]!.taps
  taps.forEach(([level, map], i) => {
    const { dims, data: values } = outputs[map.value]!
    const { shape, norm, samples } = expected[i]!
    t.strictSame(dims.slice(1), shape, `${name} C${level}`)
    const got = values as Float32Array
    const ours = Math.sqrt(got.reduce((sum, v) => sum + v * v, 0))
    const scale = norm / Math.sqrt(got.length)
    const worst = samples.reduce(
      (most, v, k) => {
        const at = Math.floor((k * (got.length - 1)) / (samples.length - 1))
        return Math.max(most, Math.abs(got[at]! - v) / scale)
      },
      Math.abs(ours / norm - 1),
    )
    t.ok(worst < 1e-4, `${name} C${level}: within ${worst.toExponential(1)} of its root mean square`)
  })
}
