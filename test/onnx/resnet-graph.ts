// A ResNet as a graph of nodes, for tests of the ONNX walker without the engine (the product asks the engine). Architecture: He et al.
// 2016; strides as torchvision's or keras-resnet's.
import type { BackboneGraph, BackboneNode, ModelConfig } from '../../lib/binding/types.js'
import { ExportError } from '../../lib/errors.js'

const DEPTHS: Record<string, { bottleneck: boolean; depths: number[] }> = {
  resnet18: { bottleneck: false, depths: [2, 2, 2, 2] },
  resnet34: { bottleneck: false, depths: [3, 4, 6, 3] },
  resnet50: { bottleneck: true, depths: [3, 4, 6, 3] },
  resnet101: { bottleneck: true, depths: [3, 4, 23, 3] },
  resnet152: { bottleneck: true, depths: [3, 8, 36, 3] },
}

type ResnetModel = Pick<ModelConfig, 'backbone' | 'stemWidth' | 'strideIn1x1' | 'padding' | 'norm' | 'normEps'>

/** Throws ExportError ONNX_UNSUPPORTED for another family. */
export function resnetGraph(model: ResnetModel): BackboneGraph {
  const row = DEPTHS[model.backbone]
  if (row === undefined) {
    const names = Object.keys(DEPTHS).join(', ')
    throw new ExportError('ONNX_UNSUPPORTED', `expected a backbone of ${names}, got "${model.backbone}"`)
  }
  const { bottleneck, depths } = row
  const nodes: BackboneNode[] = []
  const taps: BackboneGraph['taps'] = []
  const add = (node: BackboneNode) => nodes.push(node) - 1
  const norm = (name: string, from: number, stage: number, channels: number) =>
    add({
      name,
      op: model.norm === 'group' ? 'groupNorm' : 'batchNorm',
      inputs: [from],
      stage,
      channels,
      eps: model.normEps,
    })
  const conv = (name: string, from: number, stage: number, channels: number, kernel: number, stride: number) =>
    add({
      name,
      op: 'conv',
      inputs: [from],
      stage,
      channels,
      kernel,
      stride,
      padding: stride > 1 ? model.padding : 'symmetric',
      groups: 1,
      bias: false,
    })
  const relu = (name: string, from: number, stage: number, channels: number) =>
    add({ name, op: 'relu', inputs: [from], stage, channels })

  const width = model.stemWidth
  let at = norm('backbone.bn1', conv('backbone.conv1', -1, 1, width, 7, 2), 1, width)
  at = relu('backbone.relu', at, 1, width)
  at = add({
    name: 'backbone.maxpool',
    op: 'maxPool',
    inputs: [at],
    stage: 1,
    channels: width,
    kernel: 3,
    stride: 2,
    padding: model.padding,
  })
  let channels = width
  depths.forEach((depth, index) => {
    const stage = index + 2
    const planes = width * 2 ** index
    const out = bottleneck ? 4 * planes : planes
    for (let i = 0; i < depth; i++) {
      const name = `backbone.layer${index + 1}.${i}`
      const stride = i === 0 && index > 0 ? 2 : 1
      const [first, second] = model.strideIn1x1 && bottleneck ? [stride, 1] : [1, stride]
      const plan: [number, number, number][] = bottleneck
        ? [
            [planes, 1, first],
            [planes, 3, second],
            [out, 1, 1],
          ]
        : [
            [out, 3, stride],
            [out, 3, 1],
          ]
      const from = at
      plan.forEach(([to, kernel, step], j) => {
        at = norm(`${name}.bn${j + 1}`, conv(`${name}.conv${j + 1}`, at, stage, to, kernel, step), stage, to)
        if (j < plan.length - 1) at = relu(`${name}.relu${j + 1}`, at, stage, to)
      })
      const shortcut =
        channels === out && stride === 1
          ? from
          : norm(`${name}.downsample.1`, conv(`${name}.downsample.0`, from, stage, out, 1, stride), stage, out)
      at = add({ name: `${name}.add`, op: 'add', inputs: [at, shortcut], stage, channels: out })
      at = relu(`${name}.relu`, at, stage, out)
      channels = out
    }
    taps.push({ level: stage, node: at, channels: out, stride: 2 ** stage })
  })
  return { nodes, taps }
}
