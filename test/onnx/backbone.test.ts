// Each operation of the backbone walker against the same arithmetic written out here in double, at even and odd sizes; what is folded into
// convolutions, and the names of sizes.
import t, { type Test } from 'tap'
import type { BackboneNode } from '../../lib/binding/types.js'
import { addBackbone } from '../../lib/onnx/backbone.js'
import { createGraph, type Dim } from '../../lib/onnx/graph.js'
import type { Parameter } from '../../lib/onnx/layers.js'
import { encodeModel } from '../../lib/onnx/proto.js'
import { fillTensor } from '../deterministic-fill.js'
import { runBytes, tinyDetector } from './tiny-model.js'

interface Map3 {
  channels: number
  rows: number
  columns: number
  data: Float64Array
}

const CHANNELS = 4
type Part = Partial<BackboneNode> & Pick<BackboneNode, 'op'>

function filled(name: string, shape: number[], offset = 0, amp = 1): Parameter {
  return { shape, data: fillTensor({ name, shape, offset, amp }, 11) }
}

/** A chain (or graph, with `inputs`) of nodes `n0`, `n1`... whose last one is the tap C5. */
function describe(parts: Part[]): BackboneNode[] {
  return parts.map((part, i) => ({ name: `n${i}`, inputs: [i - 1], stage: 1, channels: CHANNELS, ...part }))
}

function build(nodes: BackboneNode[], parameters: ReadonlyMap<string, Parameter>, size: [Dim, Dim], exact = false) {
  const { model } = tinyDetector({ levels: [5] })
  const graph = createGraph()
  const value = graph.input('x', 'float32', ['N', CHANNELS, ...size], '')
  const tap = nodes.length - 1
  const taps = [{ level: 5, node: tap, channels: nodes[tap]!.channels, stride: 32 }]
  const options = { graph, model, parameters, backbone: { nodes, taps }, batch: 'N', exactHalves: exact }
  const map = addBackbone(options, { value, channels: CHANNELS, size }, false).get(5)!
  graph.output(map.value, 'float32', ['N', map.channels, ...map.size], '')
  return { map, graph: graph.finish('g', '') }
}

async function run(t: Test, parts: Part[], parameters: [string, Parameter][], rows: number, columns: number) {
  const nodes = describe(parts)
  const data = filled('x', [CHANNELS, rows, columns], 0.3, 4).data
  const { map, graph } = build(nodes, new Map(parameters), ['H', 'W'])
  const bytes = encodeModel({
    irVersion: 8,
    producerName: 't',
    producerVersion: '0',
    docString: '',
    graph,
    opsetImport: [{ domain: '', version: 17 }],
    metadataProps: [],
  })
  const outputs = await runBytes(t.testdir(), bytes, { x: { dims: [1, CHANNELS, rows, columns], data } })
  const { dims, data: values } = outputs[map.value]!
  const fixed = build(nodes, new Map(parameters), [rows, columns])
  t.same(dims, [1, fixed.map.channels, ...fixed.map.size], 'the size is known before it runs')
  return {
    input: { channels: CHANNELS, rows, columns, data: Float64Array.from(data) } as Map3,
    got: values as Float32Array,
    dims: dims as number[],
    graph,
  }
}

function near(t: Test, got: ArrayLike<number>, expected: ArrayLike<number>, message: string) {
  let worst = got.length === expected.length ? 0 : Number.POSITIVE_INFINITY
  for (let i = 0; i < expected.length; i++)
    worst = Math.max(worst, Math.abs(got[i]! - expected[i]!) / Math.max(1, Math.abs(expected[i]!)))
  t.ok(worst < 3e-6, `${message}: within ${worst}`)
}

/** Windows of a map, zeros (or nothing) outside; `before` rows and columns of padding come first. */
function slide(
  map: Map3,
  kernel: number,
  stride: number,
  before: number,
  out: [number, number],
  reduce: (values: { value: number; at: number }[], channel: number) => number,
): Float64Array {
  const result: number[] = []
  for (let c = 0; c < map.channels; c++) {
    for (let y = 0; y < out[0]; y++) {
      for (let x = 0; x < out[1]; x++) {
        const values: { value: number; at: number }[] = []
        for (let i = 0; i < kernel; i++) {
          for (let j = 0; j < kernel; j++) {
            const [row, column] = [y * stride + i - before, x * stride + j - before]
            if (row < 0 || column < 0 || row >= map.rows || column >= map.columns) continue
            values.push({ value: map.data[(c * map.rows + row) * map.columns + column]!, at: i * kernel + j })
          }
        }
        result.push(reduce(values, c))
      }
    }
  }
  return Float64Array.from(result)
}

const erf = (x: number) => {
  // Series of erf; converges everywhere, exact enough below 6.
  if (Math.abs(x) > 5) return Math.sign(x)
  let term = x
  let sum = x
  for (let n = 1; n < 120; n++) {
    term *= (-x * x) / n
    sum += term / (2 * n + 1)
  }
  return (2 / Math.sqrt(Math.PI)) * sum
}
const clamp = (x: number, high: number) => Math.min(high, Math.max(0, x))

t.test('activations in their exact forms', async (t) => {
  const forms: [BackboneNode['op'], (x: number) => number][] = [
    ['relu', (x) => Math.max(0, x)],
    ['relu6', (x) => clamp(2 * x, 6)],
    ['sigmoid', (x) => 1 / (1 + Math.exp(-x))],
    ['hardsigmoid', (x) => clamp(x / 6 + 0.5, 1)],
    ['hardswish', (x) => x * clamp(x / 6 + 0.5, 1)],
    ['silu', (x) => x / (1 + Math.exp(-x))],
    ['gelu', (x) => (x / 2) * (1 + erf(x / Math.SQRT2))],
  ]
  for (const [op, form] of forms) {
    // Twice the values reach the upper bound of relu6.
    const parts: Part[] = op === 'relu6' ? [{ op: 'add', inputs: [-1, -1] }, { op }] : [{ op }]
    const { got, input } = await run(t, parts, [], 5, 7)
    near(t, got, input.data.map(form), op)
  }
})

t.test('depthwise convolutions at even and odd sizes, each padding', async (t) => {
  const cases = [
    [3, 1, 'symmetric', 1],
    [3, 2, 'symmetric', 1],
    [5, 2, 'symmetric', 2],
    [7, 1, 'symmetric', 3],
    [2, 2, 'valid', 0],
    [4, 4, 'valid', 0],
    [3, 2, 'tf', -1],
  ] as const
  for (const [kernel, stride, padding, before] of cases) {
    for (const rows of [8, 9, 11]) {
      const weight = filled('w', [CHANNELS, 1, kernel, kernel])
      const bias = filled('b', [CHANNELS])
      const { got, input, dims } = await run(
        t,
        [{ op: 'conv', kernel, stride, padding, groups: CHANNELS, bias: true }],
        [
          ['n0.weight', weight],
          ['n0.bias', bias],
        ],
        rows,
        rows,
      )
      const first = before >= 0 ? before : rows % 2 === 0 ? 0 : 1
      const expected = slide(input, kernel, stride, first, [dims[2]!, dims[3]!], (values, c) =>
        values.reduce((sum, { value, at }) => sum + value * weight.data[c * kernel * kernel + at]!, bias.data[c]!),
      )
      near(t, got, expected, `${kernel}x${kernel}/${stride} ${padding}, ${rows} rows to ${dims[2]}`)
    }
  }
})

t.test('pools round down', async (t) => {
  for (const [op, kernel, stride, padding, sizes] of [
    ['maxPool', 2, 2, 'valid', [4, 4]],
    ['maxPool', 3, 2, 'symmetric', [4, 5]],
    ['avgPool', 2, 2, 'valid', [4, 4]],
  ] as const) {
    for (const [i, rows] of [8, 9].entries()) {
      const { got, input, dims } = await run(t, [{ op, kernel, stride, padding }], [], rows, 9)
      t.equal(dims[2], sizes[i], `${op} ${kernel}/${stride} of ${rows}`)
      const before = padding === 'symmetric' ? 1 : 0
      const expected = slide(input, kernel, stride, before, [dims[2]!, dims[3]!], (values) =>
        op === 'maxPool'
          ? Math.max(...values.map(({ value }) => value))
          : values.reduce((sum, { value }) => sum + value, 0) / values.length,
      )
      near(t, got, expected, op)
    }
  }
})

t.test('batch norm and layer scale fold into the convolution before them', async (t) => {
  const weight = filled('w', [CHANNELS, CHANNELS])
  const bias = filled('b', [CHANNELS])
  const norm = (name: string): [string, Parameter][] => [
    [`${name}.weight`, filled('g', [CHANNELS], 1, 0.5)],
    [`${name}.bias`, filled('s', [CHANNELS])],
    [`${name}.running_mean`, filled('m', [CHANNELS])],
    [`${name}.running_var`, filled('v', [CHANNELS], 1, 0.5)],
  ]
  const linear = (x: Map3) =>
    slide(x, 1, 1, 0, [x.rows, x.columns], () => 0).map((_, i) => {
      const area = x.rows * x.columns
      const [o, p] = [Math.floor(i / area), i % area]
      let sum = bias.data[o]!
      for (let c = 0; c < CHANNELS; c++) sum += weight.data[o * CHANNELS + c]! * x.data[c * area + p]!
      return sum
    })
  const conv: Part = { op: 'conv', kernel: 1, stride: 1, bias: true }
  const both: [string, Parameter][] = [
    ['n0.weight', weight],
    ['n0.bias', bias],
  ]
  const normal = (values: Float64Array, parameters: [string, Parameter][], area: number, eps: number) => {
    const [g, s, m, v] = parameters.map(([, p]) => p.data) as [Float32Array, Float32Array, Float32Array, Float32Array]
    return values.map((x, i) => {
      const c = Math.floor(i / area)
      return ((x - m[c]!) / Math.sqrt(v[c]! + eps)) * g[c]! + s[c]!
    })
  }

  const folded = await run(t, [conv, { op: 'batchNorm', eps: 0.01 }], [...both, ...norm('n1')], 5, 6)
  t.same(
    folded.graph.node.map(({ opType, name }) => [opType, name]),
    [['Conv', 'n0']],
  )
  near(t, folded.got, normal(linear(folded.input), norm('n1'), 30, 0.01), 'a linear layer with bias, folded')

  const first = await run(t, [{ op: 'batchNorm', eps: 0.01 }, { op: 'relu' }], norm('n0'), 5, 6)
  const rectified = normal(first.input.data, norm('n0'), 30, 0.01).map((x) => Math.max(0, x))
  near(t, first.got, rectified, 'a norm before the convolution stands alone')

  const shared = await run(
    t,
    [conv, { op: 'batchNorm', eps: 0.01 }, { op: 'add', inputs: [0, 1] }],
    [...both, ...norm('n1')],
    5,
    6,
  )
  t.ok(
    shared.graph.node.some(({ opType }) => opType === 'BatchNormalization'),
    'somebody else reads the convolution',
  )
  const plain = linear(shared.input)
  const normed = normal(plain, norm('n1'), 30, 0.01)
  near(
    t,
    shared.got,
    plain.map((x, i) => x + normed[i]!),
    'shared',
  )

  const factor = filled('f', [CHANNELS, 1, 1])
  const scaled = await run(t, [conv, { op: 'scale' }], [...both, ['n1.weight', factor]], 5, 6)
  t.equal(scaled.graph.node.length, 1)
  near(
    t,
    scaled.got,
    linear(scaled.input).map((x, i) => x * factor.data[Math.floor(i / 30)]!),
    'layer scale',
  )
  const alone = await run(t, [{ op: 'scale' }], [['n0.weight', factor]], 5, 6)
  near(
    t,
    alone.got,
    alone.input.data.map((x, i) => x * factor.data[Math.floor(i / 30)]!),
    'scale of a map',
  )
})

t.test('layer norm over the channels of each position', async (t) => {
  const [gamma, beta] = [filled('g', [CHANNELS], 1, 0.5), filled('s', [CHANNELS])]
  const parameters: [string, Parameter][] = [
    ['n0.weight', gamma],
    ['n0.bias', beta],
  ]
  const { got, input } = await run(t, [{ op: 'layerNorm', eps: 1e-3 }], parameters, 5, 6)
  const expected = input.data.map((x, i) => {
    const [c, p] = [Math.floor(i / 30), i % 30]
    const column = [0, 1, 2, 3].map((k) => input.data[k * 30 + p]!)
    const mean = column.reduce((a, b) => a + b, 0) / 4
    const variance = column.reduce((a, b) => a + (b - mean) ** 2, 0) / 4
    return ((x - mean) / Math.sqrt(variance + 1e-3)) * gamma.data[c]! + beta.data[c]!
  })
  near(t, got, expected, 'layer norm')
})

t.test('squeeze and excitation, concatenation', async (t) => {
  const gate = await run(
    t,
    [
      { op: 'relu' },
      { op: 'globalAvgPool' },
      { op: 'sigmoid' },
      { op: 'mul', inputs: [2, 0] },
      { op: 'concat', inputs: [3, -1], channels: 8 },
      { op: 'maxPool', kernel: 2, stride: 2, padding: 'valid', channels: 8 },
    ],
    [],
    6,
    7,
  )
  t.same(gate.dims, [1, 8, 3, 3])
  const { input } = gate
  const rectified = input.data.map((x) => Math.max(0, x))
  const gates = [0, 1, 2, 3].map((c) => {
    const mean = rectified.slice(42 * c, 42 * (c + 1)).reduce((a, b) => a + b, 0) / 42
    return 1 / (1 + Math.exp(-mean))
  })
  const joined = Float64Array.from([...rectified.map((x, i) => x * gates[Math.floor(i / 42)]!), ...input.data])
  const pooled = slide({ channels: 8, rows: 6, columns: 7, data: joined }, 2, 2, 0, [3, 3], (values) =>
    Math.max(...values.map(({ value }) => value)),
  )
  near(t, gate.got, pooled, 'gated and joined')
})

t.test('unread nodes are left out; unknown sizes get names that say how they round', async (t) => {
  const nodes = describe([
    { op: 'maxPool', kernel: 3, stride: 2, padding: 'symmetric' },
    { op: 'maxPool', kernel: 2, stride: 2, padding: 'valid' },
    { op: 'relu', inputs: [1] },
    { op: 'maxPool', inputs: [1], kernel: 3, stride: 2, padding: 'symmetric' },
  ])
  const { graph, map } = build(nodes, new Map(), ['H', 'W'])
  t.same(
    graph.node.map(({ name }) => name),
    ['n0', 'n1', 'n3'],
  )
  t.same(map.size, ['H_8_cfc', 'W_8_cfc'])
  t.same(build(nodes, new Map(), ['H', 'W'], true).map.size, ['H_8', 'W_8'])
  t.same(build(nodes, new Map(), [21, 22]).map.size, [3, 3])
})
