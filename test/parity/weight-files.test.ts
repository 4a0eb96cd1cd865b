// Weight files into the engine and out of it: the real Keras files of the oracles give the outputs that Keras gave, a .pth that torchvision
// writes here gives torchvision's detections, and what a model trained here exports loads strictly into torchvision and detects the same.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openSession, type Session } from '../../lib/binding/session.js'
import type { DetectorConfig, ImageBatch, OptimizerConfig, PostConfig, StepOptions } from '../../lib/binding/types.js'
import { loadConfig } from '../../lib/config/load.js'
import { addonPath } from '../../lib/package-root.js'
import { exportWeights } from '../../lib/tasks/export-weights.js'
import { CHECKPOINT_FORMAT } from '../../lib/train/checkpoints.js'
import { loadInitialWeights } from '../../lib/train/initial-weights.js'
import { kerasParameters } from '../../lib/weights/keras.js'
import { openSafetensors, type Tensor, writeSafetensors } from '../../lib/weights/safetensors.js'
import { fillParameters } from '../deterministic-fill.js'
import { oracleFolder, oracleJson, oracleTensors } from '../oracles.js'
import {
  anyPost,
  batchInput,
  checkDetections,
  type KerasFixture,
  kerasDetector,
  type StoredDetections,
  type TorchvisionFixture,
  torchvisionDetector,
  worstDifference,
} from './whole-models.js'

t.setTimeout(600_000)

const optimizer: OptimizerConfig = {
  ...{ kind: 'sgd' as const, momentum: 0.9, nesterov: false, beta1: 0.9, beta2: 0.999 },
  ...{ eps: 1e-8, epsOutsideBiasCorrection: false, decayNorms: true },
}
const matcher: DetectorConfig['matcher'] = {
  ...{ kind: 'iou' as const, positiveIou: 0.5, negativeIou: 0.4, negativeInclusive: false },
  ...{ lowQuality: true, lowQualityMinIou: 0, outside: 'background' as const, atssTopk: 4, atssCentreInBox: true },
}
const loss: DetectorConfig['loss'] = {
  ...{ alpha: 0.25, gamma: 2, box: 'l1' as const, boxBeta: 1 / 9, classificationWeight: 1, boxWeight: 1 },
  ...{ normaliser: 'per_image' as const, emaMomentum: 0.9, emaStart: 100 },
}

const open = (detector: DetectorConfig): Promise<Session> =>
  openSession({
    detector: { ...detector, matcher, loss },
    optimizer,
    device: 'cpu',
    seed: 1,
    deterministic: true,
    precision: 'fp32',
  })

async function detections(session: Session, batch: ImageBatch) {
  const found = await session.detect(batch)
  return Array.from({ length: batch.sizes.length / 2 }, (_, i) => {
    const [from, to] = [found.offsets[i]!, found.offsets[i + 1]!]
    return {
      boxes: found.boxes.slice(4 * from, 4 * to),
      scores: found.scores.slice(from, to),
      labels: found.labels.slice(from, to),
    }
  })
}

const missing = !existsSync(addonPath()) && 'the addon is not built; run `npm run build`'
const keras = 'model_keras_tiny_k3'

t.test('keras-retinanet: weights and snapshot', { skip: missing }, async (t) => {
  type Fixture = KerasFixture & { snapshot: { parameters: { name: string; norm: number }[] } }
  const fixture = await oracleJson<Fixture>(t, `${keras}.json`)
  if (fixture === undefined) return
  const tensors = await oracleTensors(`${keras}.safetensors`, (key) => key.startsWith('head.'))
  const images = [...(await oracleTensors('model_inputs_keras.safetensors')).values()]
  const filled = kerasParameters(fillParameters(fixture)).parameters
  const [, rows, columns] = fixture.input.shape
  const { data: input } = batchInput(images as never, 3, [rows, columns], 0, (v) => 2 * v - 1)
  const batch: ImageBatch = { canvas: [rows, columns], sizes: Int32Array.from(fixture.input.image_sizes.flat()), input }
  const detector = kerasDetector(fixture, filled, anyPost)
  const classes = ['a', 'b', 'c']

  const session = await open(detector)
  const { report, lines } = await loadInitialWeights(session, join(oracleFolder, `${keras}_weights.h5`), {
    config: detector.model,
    classes,
  })
  t.comment(lines.join('\n'))
  t.equal(report.layout, 'keras')
  t.equal(report.loaded.length, fixture.parameters.length, 'all of the file')
  t.strictSame([report.skipped, report.initial, report.hints.filter((hint) => !hint.includes('heads'))], [[], [], []])
  for (const [name, { data }] of filled) {
    const { data: loaded } = await session.getTensor(name)
    if (!loaded.every((value, i) => value === data[i])) t.fail(`${name} is not what was saved`)
  }
  const raw = await session.forward(batch)
  const each = (values: Float32Array) => [values.subarray(0, values.length / 2), values.subarray(values.length / 2)]
  const index = tensors.get('head.anchor_index')!.data
  const worst = {
    classification: worstDifference(
      each(raw.logits),
      tensors.get('head.classification')!,
      index,
      (v) => 1 / (1 + Math.exp(-v)),
    ),
    regression: worstDifference(each(raw.deltas), tensors.get('head.regression')!, index, (v) => v),
  }
  const limit = fixture.max_abs_f32_difference
  t.comment(`classification within ${worst.classification}, regression within ${worst.regression}`)
  t.ok(worst.classification <= 10 * limit.classification_probability, 'classification as Keras computed it')
  t.ok(worst.regression <= 10 * limit.regression, 'regression as Keras computed it')
  for (const { settings, detections: stored } of fixture.post) {
    const post: PostConfig = {
      ...anyPost,
      scoreThreshold: settings.score_threshold,
      topkPerLevel: null,
      nmsIou: settings.nms ? settings.nms_threshold : 1,
      agnostic: !settings.class_specific_filter,
      bestClassOnly: !settings.class_specific_filter,
      maxDetections: settings.max_detections,
      clip: 'canvasMinusOne',
    }
    await session.update({ post })
    checkDetections(t, JSON.stringify(settings), await detections(session, batch), stored, post)
  }

  const snapshot = await loadInitialWeights(session, join(oracleFolder, `${keras}_snapshot.h5`), {
    config: detector.model,
    classes,
  })
  t.equal(snapshot.report.loaded.length, fixture.snapshot.parameters.length, 'all parameters of the snapshot')
  t.ok(
    snapshot.report.skipped.length > 0 && snapshot.report.skipped.every(({ reason }) => /optimiser state/.test(reason)),
  )
  const ours = new Map(snapshot.report.loaded.map(({ parameter, from }) => [from[0]!, parameter]))
  for (const { name, norm } of fixture.snapshot.parameters) {
    const key = name.split('/').slice(-2).join('/')
    const { data } = await session.getTensor(ours.get(key) ?? '')
    const found = Math.sqrt(data.reduce((sum, v) => sum + v * v, 0))
    if (Math.abs(found - norm) > 1e-6 * norm) t.fail(`${name}: norm ${found}, Keras says ${norm}`)
  }
  await session.dispose()
})

/** Makes a RetinaNet, or loads one strictly, and detects on an image computed from its indices. */
const PEER = `
import functools, json, sys, torch
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.retinanet import RetinaNetHead, _default_anchorgen
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d
torch.manual_seed(5)
torch.set_num_threads(1)
version, what, path = sys.argv[1:4]
v2 = version == 'v2'
body = resnet_fpn_backbone(backbone_name='resnet18', weights=None, trainable_layers=5, returned_layers=[2, 3, 4],
    norm_layer=torch.nn.BatchNorm2d if v2 else FrozenBatchNorm2d, extra_blocks=LastLevelP6P7(512 if v2 else 256, 256))
anchors = _default_anchorgen()
head = RetinaNetHead(256, anchors.num_anchors_per_location()[0], 2, norm_layer=functools.partial(torch.nn.GroupNorm, 32) if v2 else None)
if v2: head.regression_head._loss_type = 'giou'
model = RetinaNet(body, 2, min_size=256, max_size=512, anchor_generator=anchors, head=head, topk_candidates=1000, score_thresh=0.05).eval()
i = torch.arange(3 * 256 * 320, dtype=torch.int64).reshape(3, 256, 320)
image = ((i * 7919) % 4096).float() / 4096 * (0.5 + 0.5 * ((i // 64) % 5 == 0).float())
if what == 'make':
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith('running_mean'): tensor.normal_(0, 0.2)
            if name.endswith('running_var'): tensor.uniform_(0.5, 2)
        # Scores that spread and boxes that move, so that detections tell networks apart.
        out = model.head(list(model.backbone(model.transform([image])[0].tensors).values()))
        model.head.classification_head.cls_logits.weight.mul_(1.0 / out['cls_logits'].std())
        model.head.regression_head.bbox_reg.weight.mul_(0.3 / out['bbox_regression'].std())
    torch.save(model.state_dict(), path + '.pth')
    torch.save({'model': model.state_dict()}, path + '-old.pth', _use_new_zipfile_serialization=False)
else:
    from safetensors.torch import load_file
    model.load_state_dict(load_file(path), strict=True)
with torch.no_grad():
    found = model([image])[0]
print(json.dumps({'boxes': found['boxes'].tolist(), 'scores': found['scores'].tolist(), 'labels': found['labels'].tolist()}))
`

const python = process.env['MAMMO_PEER_PYTHON']
const peer = python !== undefined && spawnSync(python, ['-c', 'import torchvision, safetensors.torch']).status === 0
const noPeer = missing || (!peer && 'no Python with torchvision and safetensors; set MAMMO_PEER_PYTHON')

for (const version of ['v1', 'v2'] as const) {
  t.test(`torchvision ${version}: in from .pth, trained, out as .safetensors`, { skip: noPeer }, async (t) => {
    const folder = t.testdir()
    const run = (what: 'make' | 'load', path: string): StoredDetections =>
      JSON.parse(execFileSync(python!, ['-c', PEER, version, what, path], { encoding: 'utf8' }))
    const theirs = run('make', join(folder, 'made'))
    t.ok(theirs.scores.length > 20, `torchvision finds ${theirs.scores.length}`)

    const head = version === 'v2' ? 'group' : null
    const spec = {
      depth: 18,
      channels: 3 as const,
      num_classes: 2,
      p6_from: head ? 'C5' : 'P5',
      head_norm: head,
      eps: 1e-5,
    }
    const base = torchvisionDetector({ spec } as TorchvisionFixture, anyPost)
    const detector = { ...base, model: { ...base.model, frozenStages: 0 } }
    const input = new Float32Array(3 * 256 * 320)
    const [mean, std] = [[0.485, 0.456, 0.406].map(Math.fround), [0.229, 0.224, 0.225].map(Math.fround)]
    for (let i = 0; i < input.length; i++) {
      const c = Math.floor(i / (256 * 320))
      const v = Math.fround(((i * 7919) % 4096) / 4096) * (Math.floor(i / 64) % 5 === 0 ? 1 : 0.5)
      input[i] = Math.fround(v - mean[c]!) / std[c]!
    }
    const batch: ImageBatch = { canvas: [256, 320], sizes: Int32Array.of(256, 320), input }
    const session = await open(detector)
    const expectation = { config: detector.model, classes: ['a', 'b'] }
    for (const name of ['made.pth', 'made-old.pth']) {
      const { report, lines } = await loadInitialWeights(session, join(folder, name), expectation)
      t.comment(lines.join('\n'))
      t.strictSame(report.initial, [], `${name}: every parameter is given`)
      t.ok(report.skipped.every(({ reason }) => /counter/.test(reason)))
      checkDetections(t, name, await detections(session, batch), [theirs], anyPost)
    }

    const step: StepOptions = {
      ...{ lr: 1e-3, weightDecay: 1e-4, clipNorm: 0.1, clipNormPerTensor: null, clipValue: null, lossScale: 1 },
      ...{ update: true, skipNonFinite: false },
    }
    const targets = {
      boxes: Float32Array.of(20, 30, 90, 110, 150, 60, 300, 200),
      labels: Int32Array.of(0, 1),
      boxOffsets: Int32Array.of(0, 2),
      ignore: new Float32Array(0),
      ignoreOffsets: Int32Array.of(0, 0),
    }
    for (let n = 0; n < 3; n++) t.ok((await session.trainStep(batch, targets, step)).updated)
    const trained = await detections(session, batch)
    const set = { 'model.backbone': 'resnet18', 'model.semantics': `torchvision-${version}`, 'model.norm': 'frozen' }
    const { config } = await loadConfig({ set: { ...set, 'data.classes': '[a, b]' }, hasWeights: true })
    const provenance = { classes: ['a', 'b'], normalise: { kind: 'dataset', mean: 0, std: 1 } }
    const checkpoint = join(folder, 'last.safetensors')
    await session.saveCheckpoint(
      checkpoint,
      JSON.stringify({ format: CHECKPOINT_FORMAT, run: 'x', config, provenance }),
    )
    await session.dispose()

    const out = join(folder, 'out.safetensors')
    const written = await exportWeights(checkpoint, out)
    t.strictSame([written.path, written.classes, written.notes], [out, ['a', 'b'], []])
    const again = run('load', out)
    t.notSame(again.scores, theirs.scores, 'training changed the detections')
    checkDetections(t, 'exported and loaded strictly', trained, [again], anyPost)

    // And back: what was written for torchvision is read like anything of torchvision.
    const back = await open(detector)
    const { report } = await loadInitialWeights(back, out, expectation)
    t.strictSame(report.initial, [])
    checkDetections(t, 'back again', await detections(back, batch), [again], anyPost)
    await back.dispose()

    const body = join(folder, 'body.safetensors')
    await exportWeights(checkpoint, body, false)
    const fresh = await open(detector)
    const heads = await loadInitialWeights(fresh, body, expectation)
    t.ok(heads.report.initial.length > 0)
    t.ok(
      heads.report.initial.every(({ name }) => name.startsWith('head.')),
      'without heads, they alone start anew',
    )
    await fresh.dispose()
  })
}

t.test('a new run from a checkpoint with averages begins with the averages', { skip: missing }, async (t) => {
  const spec = { depth: 18, channels: 3 as const, num_classes: 2, p6_from: 'P5', head_norm: null, eps: 1e-5 }
  const base = torchvisionDetector({ spec } as TorchvisionFixture, anyPost)
  const detector = { ...base, model: { ...base.model, frozenStages: 0 } }
  const session = await open(detector)
  const input = Float32Array.from({ length: 3 * 64 * 64 }, (_, i) => Math.sin(i))
  const batch: ImageBatch = { canvas: [64, 64], sizes: Int32Array.of(64, 64), input }
  const none = new Float32Array(0)
  const empty = { boxOffsets: Int32Array.of(0, 0), ignoreOffsets: Int32Array.of(0, 0), labels: new Int32Array(0) }
  const step: StepOptions = {
    ...{ lr: 1e-2, weightDecay: 0, clipNorm: null, clipNormPerTensor: null, clipValue: null, lossScale: 1 },
    ...{ update: true, skipNonFinite: false, emaDecay: 0.9 },
  }
  for (let n = 0; n < 2; n++) await session.trainStep(batch, { ...empty, boxes: none, ignore: none }, step)
  const path = join(t.testdir(), 'averaged.safetensors')
  const provenance = { classes: ['a', 'b'], normalise: { kind: 'dataset', mean: 0, std: 1 } }
  await session.saveCheckpoint(path, JSON.stringify({ format: CHECKPOINT_FORMAT, run: 'x', config: {}, provenance }))
  const name = 'head.cls.logits.bias'
  const trained = (await session.getTensor(name)).data
  await session.dispose()

  const started = await open(detector)
  const { report, lines } = await loadInitialWeights(started, path, { config: detector.model, classes: ['a', 'b'] })
  t.strictSame(report.initial, [])
  t.match(lines.join('\n'), /their averages are taken: optimizer\.trained\./)
  const file = await openSafetensors(path)
  const stored = (await file.read(name)).data
  await file.close()
  t.strictSame([...(await started.getTensor(name)).data], [...(stored as Float32Array)])
  t.notSame([...(stored as Float32Array)], [...trained], 'which are not the weights of the last step')
  await started.dispose()
})

t.test('an export to torchvision says where torchvision differs', async (t) => {
  const folder = t.testdir()
  const { config } = await loadConfig({
    set: { 'model.levels': '[4,5,6]', 'anchors.sizes': '[64,128,256]', 'anchors.strides': '[16,32,64]' },
  })
  const tensors = new Map<string, Tensor>(
    [
      'backbone.conv1.weight',
      'backbone.bn1.running_var',
      'fpn.lateral.4.bias',
      'fpn.extra.6.bias',
      'optimizer.first.x',
    ].map((name) => [name, { shape: [1], data: Float32Array.of(3) }]),
  )
  const checkpoint = join(folder, 'a.safetensors')
  const provenance = { classes: ['mass'], normalise: { kind: 'dataset', mean: 0, std: 1 } }
  const metadata = JSON.stringify({ format: CHECKPOINT_FORMAT, run: 'x', config, provenance })
  await writeSafetensors(checkpoint, tensors, { metadata })
  const written = await exportWeights(checkpoint)
  t.equal(written.path, join(folder, 'model.safetensors'))
  t.match(written.notes, [/model\.semantics is mammo/, /one input channel/, /group norm/])
  const file = await openSafetensors(written.path)
  t.strictSame(
    [...file.tensors.keys()],
    [
      'backbone.body.conv1.weight',
      'backbone.body.bn1.running_var',
      'backbone.body.bn1.num_batches_tracked',
      'backbone.fpn.inner_blocks.0.0.bias',
      'backbone.fpn.extra_blocks.p6.bias',
    ],
  )
  t.strictSame(JSON.parse(file.metadata['mammo-retinanet']!).model.levels, [4, 5, 6])
  await file.close()
  writeFileSync(checkpoint, 'x')
  await t.rejects(exportWeights(checkpoint), { code: 'ERR_MAMMO_CHECKPOINT' })
})
