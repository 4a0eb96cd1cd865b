import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { ConfigError } from '../../lib/errors.js'
import type { Tensor } from '../../lib/onnx/runtime.js'
import { resnetGraph } from './resnet-graph.js'
import {
  runBytes,
  type TinyOptions,
  testImage,
  tinyBytes,
  tinyDetector,
  tinyInput,
  tinyParameters,
} from './tiny-model.js'

const rows = 128
const columns = 256
const pixels = testImage(rows, columns, [120, 200])
const imageSize: Tensor = { dims: [1, 2], data: BigInt64Array.of(120n, 200n) }
const image: Tensor = { dims: [1, 1, rows, columns], data: pixels }
const floats: Tensor = { dims: [1, 1, rows, columns], data: Float32Array.from(pixels) }

function worst(a: Tensor, b: Tensor): number {
  if (a.data.length !== b.data.length) return Number.POSITIVE_INFINITY
  return Array.from(a.data, Number).reduce((m, v, i) => Math.max(m, Math.abs(v - Number(b.data[i]!))), 0)
}

t.test('the same detections from uint16, float32, a fixed shape and normalised input', async (t) => {
  const detector = tinyDetector()
  const run = (options: Parameters<typeof tinyBytes>[1], feeds: Record<string, Tensor>) =>
    runBytes(t.testdir(), tinyBytes(detector, options), feeds)
  const base = await run({}, { image, imageSize })
  t.ok(base['scores']!.data.length > 3, `there are detections (${base['scores']!.data.length})`)
  const others = {
    float32: await run({ input: { ...tinyInput, type: 'float32' } }, { image: floats, imageSize }),
    fixed: await run({ shape: [rows, columns] }, { image, imageSize }),
    normalised: await run(
      { input: { ...tinyInput, type: 'float32', normalise: 'none' } },
      { image: { dims: image.dims, data: Float32Array.from(pixels, (v) => (v - 1000) / 500) }, imageSize },
    ),
    sizes: await run({ input: { ...tinyInput, padMultiple: 1 } }, { image, imageSize }),
  }
  for (const [name, found] of Object.entries(others)) {
    for (const output of ['boxes', 'scores', 'labels', 'imageIndex']) {
      t.ok(worst(found[output]!, base[output]!) < 1e-4, `${name}: ${output}`)
    }
  }
})

t.test('normalise: image is mean and deviation of the non-zero pixels', async (t) => {
  const detector = tinyDetector()
  const inside = Array.from(pixels).filter((v) => v !== 0)
  const mean = inside.reduce((a, b) => a + b, 0) / inside.length
  const std = Math.sqrt(inside.reduce((a, b) => a + (b - mean) ** 2, 0) / inside.length)
  const heads = (input: typeof tinyInput) =>
    runBytes(t.testdir(), tinyBytes(detector, { graph: 'heads', input }), { image })
  const own = await heads({ ...tinyInput, normalise: 'image', mean: [], std: [] })
  const constant = await heads({ ...tinyInput, mean: [mean], std: [std] })
  for (const name of Object.keys(own)) t.ok(worst(own[name]!, constant[name]!) < 1e-4, name)
  const empty: Tensor = { dims: image.dims, data: new Uint16Array(rows * columns) }
  const blank = await runBytes(
    t.testdir(),
    tinyBytes(detector, { graph: 'heads', input: { ...tinyInput, normalise: 'image', mean: [], std: [] } }),
    { image: empty },
  )
  t.ok(
    Object.values(blank).every(({ data }) => Array.from(data, Number).every(Number.isFinite)),
    'an empty image is finite',
  )
})

t.test('three grey channels equal one summed stem; unequal statistics keep three', async (t) => {
  const detector = tinyDetector({ channels: 3 })
  const three = (input: typeof tinyInput, feed: Tensor) =>
    runBytes(t.testdir(), tinyBytes(detector, { graph: 'heads', input }), { image: feed })
  const copies = (mean: number[], std: number[]): Tensor => {
    const data = new Float32Array(3 * pixels.length)
    for (let i = 0; i < data.length; i++) {
      const c = Math.floor(i / pixels.length)
      data[i] = (pixels[i % pixels.length]! - mean[c]!) / std[c]!
    }
    return { dims: [1, 3, rows, columns], data }
  }
  const none = { ...tinyInput, type: 'float32', normalise: 'none' } as const
  for (const [mean, std] of [
    [[1000], [500]],
    [
      [1000, 900, 1100],
      [500, 510, 400],
    ],
  ] as const) {
    const full = await three(none, copies([...mean, ...mean, ...mean], [...std, ...std, ...std]))
    const inGraph = await three({ ...tinyInput, mean: [...mean], std: [...std] }, image)
    for (const name of Object.keys(full))
      t.ok(worst(full[name]!, inGraph[name]!) < 2e-4, `${name} with ${mean.length} means`)
  }
})

const variants: [string, TinyOptions][] = [
  ['levels 4 to 7, group norm everywhere', { levels: [4, 5, 6, 7], norm: 'group', headNorm: 'group' }],
  ['levels 2 to 8', { levels: [2, 3, 4, 5, 6, 7, 8] }],
  ['levels 6 and 7 only', { levels: [6, 7] }],
  ['levels 3 and 4 only', { levels: [3, 4] }],
  ['P6 from P5', { p6Source: 'p5' }],
  ['bottlenecks, TensorFlow padding', { backbone: 'resnet50', padding: 'tf' }],
]
for (const [name, options] of variants) {
  t.test(name, async (t) => {
    const detector = tinyDetector(options)
    const outputs = await runBytes(
      t.testdir(),
      tinyBytes(detector, { graph: 'heads', input: { ...tinyInput, padMultiple: 32 } }),
      { image },
    )
    for (const level of detector.model.levels) {
      const dims = outputs[`logits.p${level}`]!.dims
      t.strictSame(dims, [1, Math.ceil(rows / 2 ** level), Math.ceil(columns / 2 ** level), 9], `p${level}`)
      t.ok(Array.from(outputs[`deltas.p${level}`]!.data, Number).every(Number.isFinite))
    }
  })
}

// 256 x 512 pixels: maps of 32 x 64 to 2 x 4 cells, with several windows and with fewer cells than a window has.
const wide = [256, 512] as const
const twoImages: Record<string, Tensor> = {
  image: {
    dims: [2, 1, ...wide],
    data: Uint16Array.from([
      ...testImage(...wide, [250, 500]),
      ...testImage(...wide).map((v, i) => (v * 7 + i) % 4096),
    ]),
  },
  imageSize: { dims: [2, 2], data: BigInt64Array.of(250n, 500n, 256n, 512n) },
}
for (const [name, options] of [
  ['few candidates', { post: { scoreThreshold: 0.4 } }],
  ['many candidates', { post: { scoreThreshold: 0.01, topkPerLevel: null, maxDetections: 1000 } }],
  ['no candidates', { post: { scoreThreshold: 0.9999999 } }],
  ['three classes, best one only', { classes: 3, post: { bestClassOnly: true } }],
  ['two classes, group norm in the classification only', { classes: 2, headNorm: 'group' }],
  ['strides from sizes', { anchors: { strideRule: 'floorDivision' } }],
] as unknown as [string, TinyOptions][]) {
  t.test(`two steps give the boxes of the dense head: ${name}`, async (t) => {
    const detector = tinyDetector(options)
    if (options.headNorm === 'group') detector.model.headNorm.box = 'none'
    const parameters = tinyParameters(detector)
    const run = (twoStep: boolean, shape: 'dynamic' | [number, number] = 'dynamic') =>
      runBytes(t.testdir(), tinyBytes(detector, { twoStep, shape, parameters }), twoImages)
    const dense = await run(false)
    if (name === 'no candidates') t.equal(dense['scores']!.data.length, 0)
    else t.ok(dense['scores']!.data.length > 3, `there are detections (${dense['scores']!.data.length})`)
    for (const windows of [await run(true), await run(true, [...wide])]) {
      for (const output of ['scores', 'labels', 'imageIndex'])
        t.strictSame(windows[output]!.data, dense[output]!.data, output)
      t.ok(
        worst(windows['boxes']!, dense['boxes']!) < 1e-3,
        `boxes within ${worst(windows['boxes']!, dense['boxes']!)}`,
      )
    }
  })
}

t.test('two steps need a box head without statistics of the map, and the detect graph', (t) => {
  const refused = { code: 'ERR_MAMMO_ONNX_UNSUPPORTED' }
  t.throws(() => tinyBytes(tinyDetector({ headNorm: 'group' }), { twoStep: true }), refused)
  t.throws(() => tinyBytes(tinyDetector(), { twoStep: true, graph: 'heads' }), refused)
  t.end()
})

t.test('impossible contracts are named together', async (t) => {
  const detector = tinyDetector()
  const error = t.throws(
    () => tinyBytes(detector, { shape: [100, 128], input: { ...tinyInput, mean: [1, 2], std: [1, 0] } }),
    ConfigError,
  )
  const keys = (error as unknown as ConfigError).problems.map(({ key }) => key)
  t.strictSame(keys.sort(), ['export.shape', 'input.mean', 'input.std'])
  t.throws(() => tinyBytes(detector, { input: { ...tinyInput, normalise: 'none' } }), { code: 'ERR_MAMMO_CONFIG' })
  const odd = tinyDetector()
  odd.anchors.strides = [8]
  t.throws(() => tinyBytes(odd), /anchors.strides: expected 5 numbers/)
})

t.test('missing parameters and unknown operations are named', async (t) => {
  const detector = tinyDetector()
  const parameters = tinyParameters(detector)
  parameters.delete('backbone.layer3.1.bn2.running_var')
  t.throws(() => tinyBytes(detector, { parameters }), /backbone.layer3.1.bn2.running_var/)
  const backbone = resnetGraph(detector.model)
  Object.assign(backbone.nodes[2]!, { op: 'softsign' })
  t.throws(() => tinyBytes(detector, { backbone }), {
    code: 'ERR_MAMMO_ONNX_UNSUPPORTED',
    message: /"backbone.relu" of resnet18, got "softsign"/,
  })
})

t.test("ONNX's own checker accepts every graph", async (t) => {
  const python = process.env['MAMMO_PEER_PYTHON']
  const run = promisify(execFile)
  const found =
    python &&
    (await run(python, ['-c', 'import onnx']).then(
      () => true,
      () => false,
    ))
  if (!found) {
    t.pass('checker', { skip: 'no Python with the package onnx; set MAMMO_PEER_PYTHON' })
    return
  }
  const folder = t.testdir()
  const files = variants.concat([['default', {}]]).flatMap(([, options], i) =>
    (['detect', 'heads'] as const).flatMap((graph) =>
      (['dynamic', [rows * 2, columns]] as ('dynamic' | [number, number])[]).map((shape) => {
        const path = join(folder, `${i}-${graph}-${shape}.onnx`)
        const normalise = i % 2 === 0 ? 'dataset' : 'image'
        writeFileSync(
          path,
          tinyBytes(tinyDetector(options), { graph, shape, input: { ...tinyInput, normalise, padMultiple: 32 } }),
        )
        return path
      }),
    ),
  )
  files.push(join(folder, 'two-step.onnx'))
  writeFileSync(files.at(-1)!, tinyBytes(tinyDetector(), { twoStep: true }))
  const script = `
import sys, onnx
for path in sys.argv[1:]:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names) and all(names)
    assert {p.key: p.value for p in model.metadata_props} == {'mammo.name': 'tiny'}
    assert model.graph.doc_string and all(v.doc_string for v in list(model.graph.input) + list(model.graph.output))
print(len(sys.argv) - 1)
`
  const { stdout } = await run(python, ['-c', script, ...files], { maxBuffer: 2 ** 24 })
  t.equal(stdout.trim(), String(files.length), `${files.length} files`)
})
