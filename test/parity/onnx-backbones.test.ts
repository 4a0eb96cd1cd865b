// One backbone of each family at an odd size: its layers in onnxruntime against torchvision's stored outputs, and the exported network against
// the engine; with batch norms also as group norms. All backbones: test/slow/onnx-backbones.test.ts. Needs the addon.
import t from 'tap'
import { native } from '../../lib/binding/session.js'
import { checkBackbone, checkReference } from './backbone-parity.js'

t.setTimeout(600_000)

const SMALLEST = [
  'resnet18',
  'resnext50_32x4d',
  'vgg16',
  'vgg16_bn',
  'densenet121',
  'mobilenet_v1_025',
  'mobilenet_v2',
  'mobilenet_v3_large',
  'seresnet50',
  'efficientnet_b0',
  'convnext_tiny',
]
/** One plain family and one whose norms stand before the convolutions. */
const GROUPED = ['mobilenet_v2', 'densenet121']

const available = await native()
  .configure(1)
  .then(
    () => true,
    () => false,
  )
  .catch(() => false)
const skip = available ? false : 'the addon is not built'

for (const name of SMALLEST) {
  t.test(`${name} as torchvision`, { skip }, (t) => checkReference(t, name))
  t.test(`${name} as the engine`, { skip }, (t) => checkBackbone(t, name, 'frozen'))
}
for (const name of GROUPED) t.test(`${name}, group norm`, { skip }, (t) => checkBackbone(t, name, 'group'))
