// What a session refuses before anything crosses, with the exact sentence; and what it gives back. The mathematics is tested in
// test/parity and native/tests.
import t from 'tap'
import { addonExists } from '../../lib/binding/load.js'
import { native, openSession, type Session } from '../../lib/binding/session.js'
import type { ImageBatch, StepOptions, TargetBatch } from '../../lib/binding/types.js'
import { checkBatch, checkStepOptions, checkTargets } from '../../lib/binding/validate.js'
import { tinyBatch, tinyConfig, tinyStep, tinyTargets } from '../tiny-detector.js'

const refused = (message: string) => ({ code: 'ERR_MAMMO_ARGUMENT', exitCode: 2, message })

t.test('batches', async (t) => {
  t.equal(checkBatch(tinyBatch(3), 1), 3)
  const batch = (change: (batch: ImageBatch) => unknown) => () => {
    const value = tinyBatch()
    change(value)
    checkBatch(value, 1)
  }
  const windows = (change: (w: NonNullable<ImageBatch['windows']>) => unknown) => batch((b) => change(b.windows!))
  const cases: [() => void, string][] = [
    [() => checkBatch(null as never, 1), 'batch: expected an ImageBatch, got null'],
    [
      batch((b) => Object.assign(b, { window: 1 })),
      'batch.window: expected one of the fields canvas, sizes, windows, input, got an unknown field',
    ],
    [batch((b) => Object.assign(b, { canvas: 128 })), 'batch.canvas: expected [height, width], got 128'],
    [batch((b) => Object.assign(b, { canvas: [128, 0.5] })), 'batch.canvas[1]: expected an integer >= 1, got 0.5'],
    [
      batch((b) => Object.assign(b, { sizes: [128, 128] })),
      'batch.sizes: expected an Int32Array, got array of length 2',
    ],
    [
      batch((b) => Object.assign(b, { sizes: new Int32Array(3) })),
      'batch.sizes: expected height, width of at least one image (length 2n), got length 3',
    ],
    [
      batch((b) => Object.assign(b, { sizes: Int32Array.of(128, 128, 129, 1) })),
      'batch.sizes[2..3]: expected within 1x1 and the canvas 128x128, got 129x1',
    ],
    [
      batch((b) => Object.assign(b, { windows: undefined })),
      'batch: expected exactly one of windows and input, got neither',
    ],
    [
      batch((b) => Object.assign(b, { input: new Float32Array(1) })),
      'batch: expected exactly one of windows and input, got both',
    ],
    [
      batch((b) => Object.assign(b, { windows: undefined, input: new Float32Array(5) })),
      'batch.input: expected a Float32Array of length 32768, got length 5',
    ],
    [
      windows((w) => Object.assign(w, { pixels: new Uint8Array(9) })),
      'batch.windows.pixels: expected a Uint16Array, got Uint8Array of length 9',
    ],
    [
      windows((w) => Object.assign(w, { pixels: new Uint16Array(9) })),
      'batch.windows.pixels: expected 32768 pixels, the sum over batch.windows.shapes, got 9',
    ],
    [windows((w) => w.shapes.fill(0)), 'batch.windows.shapes[0..1]: expected height and width >= 1, got 0x0'],
    [
      windows((w) => Object.assign(w, { affines: new Float64Array(6) })),
      'batch.windows.affines: expected a Float64Array of length 12, got length 6',
    ],
    [windows((w) => w.affines.fill(Number.NaN, 7, 8)), 'batch.windows.affines[7]: expected a finite number, got NaN'],
    [windows((w) => w.reduce.fill(-1)), 'batch.windows.reduce[0]: expected an integer in 0..8, got -1'],
    [windows((w) => w.normalise.fill(0)), 'batch.windows.normalise[1]: expected a standard deviation > 0, got 0'],
    [windows((w) => w.intensity.fill(0)), 'batch.windows.intensity[2]: expected a gamma > 0, got 0'],
    [
      windows((w) => Object.assign(w, { noiseSeed: new Int32Array(2) })),
      'batch.windows.noiseSeed: expected a Uint32Array, got Int32Array of length 2',
    ],
  ]
  for (const [call, message] of cases) t.throws(call, refused(message), message)
})

t.test('targets', async (t) => {
  checkTargets(tinyTargets(), 2, 2)
  const targets = (change: (targets: TargetBatch) => unknown) => () => {
    const value = tinyTargets()
    change(value)
    checkTargets(value, 2, 2)
  }
  const cases: [() => void, string][] = [
    [
      targets((x) => Object.assign(x, { boxes: new Float64Array(8) })),
      'targets.boxes: expected a Float32Array, got Float64Array of length 8',
    ],
    [
      targets((x) => Object.assign(x, { boxes: new Float32Array(7) })),
      'targets.boxes: expected x1, y1, x2, y2 per row (length 4m), got length 7',
    ],
    [targets((x) => x.boxes.fill(Number.NaN, 5, 6)), 'targets.boxes[5]: expected a finite number, got NaN'],
    [targets((x) => x.boxes.set([9, 1, 9, 5], 4)), 'targets.boxes row 1: expected x2 > x1 and y2 > y1, got 9, 1, 9, 5'],
    [targets((x) => x.labels.fill(2)), 'targets.labels[0]: expected a class in 0..1, got 2'],
    [
      targets((x) => Object.assign(x, { boxOffsets: Int32Array.of(0, 2) })),
      'targets.boxOffsets: expected an Int32Array of length 3, got length 2',
    ],
    [targets((x) => x.boxOffsets.set([0, 2, 1])), 'targets.boxOffsets[2]: expected at least 2, got 1'],
    [targets((x) => x.boxOffsets.set([0, 1, 1])), 'targets.boxOffsets[2]: expected 2, the number of rows, got 1'],
    [targets((x) => x.ignoreOffsets.set([1], 0)), 'targets.ignoreOffsets[0]: expected 0, got 1'],
  ]
  for (const [call, message] of cases) t.throws(call, refused(message), message)
})

t.test('step options', async (t) => {
  checkStepOptions(tinyStep())
  const options = (change: object) => () => checkStepOptions({ ...tinyStep(), ...change } as StepOptions)
  const cases: [() => void, string][] = [
    [options({ lr: -1 }), 'options.lr: expected a finite number >= 0, got -1'],
    [options({ weightDecay: '0' }), 'options.weightDecay: expected a finite number >= 0, got "0"'],
    [options({ clipNorm: 0 }), 'options.clipNorm: expected a finite number > 0, or null for no clipping, got 0'],
    [options({ update: 1 }), 'options.update: expected true or false, got 1'],
    [
      options({ clip: 1 }),
      'options.clip: expected one of the fields lr, weightDecay, lossScale, clipNorm, clipNormPerTensor, clipValue, update, skipNonFinite, emaDecay, got an unknown field',
    ],
    [options({ emaDecay: 1 }), 'options.emaDecay: expected a number in [0, 1), or nothing, got 1'],
    [options({ emaDecay: null }), 'options.emaDecay: expected a number in [0, 1), or nothing, got null'],
  ]
  for (const [call, message] of cases) t.throws(call, refused(message), message)
})

const skip = addonExists() ? false : 'the addon is not built (npm run build)'

async function withSession(work: (session: Session) => Promise<void>): Promise<void> {
  const session = await openSession(tinyConfig())
  try {
    await work(session)
  } finally {
    await session.dispose()
  }
}

t.test('a configuration that cannot be built is a ConfigError', { skip }, async (t) => {
  const config = tinyConfig()
  config.detector.anchors.sizes = [32]
  await t.rejects(openSession(config), {
    name: 'ConfigError',
    code: 'ERR_MAMMO_CONFIG',
    message: /detector\.anchors\.sizes/,
  })
  await t.rejects(openSession({ ...tinyConfig(), device: 'cuda:97' }), { code: 'ERR_MAMMO_NO_CUDA', exitCode: 4 })
})

t.test('tensors go in and come out', { skip }, async (t) => {
  await withSession(async (session) => {
    const parameters = await session.parameters()
    t.ok(parameters.length > 50)
    const first = parameters[0]!
    const tensor = await session.getTensor(first.name)
    t.same(tensor.shape, first.shape)
    tensor.data.fill(0.25)
    await session.setTensor(first.name, tensor.data)
    t.same((await session.getTensor(first.name)).data, tensor.data)
    await t.rejects(session.getTensor('nothing'), { code: 'ERR_MAMMO_ARGUMENT', message: /nothing/ })
    await t.rejects(session.setTensor(first.name, new Float32Array(1)), { code: 'ERR_MAMMO_ARGUMENT' })
    await t.rejects(
      session.setTensor(first.name, [1] as never),
      refused('data: expected a Float32Array, got array of length 1'),
    )
    await t.rejects(session.getTensor(''), refused('name: expected a non-empty string, got ""'))
  })
})

t.test('a step changes the parameters, a gradient can be read, detections are ordered', { skip }, async (t) => {
  await withSession(async (session) => {
    const parameters = await session.parameters()
    const weight = parameters.find((p) => p.trainable && p.role === 'weight')!
    const before = await session.getTensor(weight.name)
    const kept = await session.trainStep(tinyBatch(), tinyTargets(), { ...tinyStep(), update: false })
    t.match(kept, { finite: true, updated: false })
    t.ok(Number.isNaN(kept.gradNorm))
    t.same((await session.getTensor(weight.name)).data, before.data, 'no update, no change')
    const gradient = await session.getGradient(weight.name)
    t.ok(gradient.data.some((value) => value !== 0))
    await session.zeroGradients()
    t.ok((await session.getGradient(weight.name)).data.every((value) => value === 0))

    const step = await session.trainStep(tinyBatch(), tinyTargets(), tinyStep())
    t.match(step, { finite: true, updated: true })
    t.ok(step.positives >= 2)
    t.equal(step.perImage.length, 2)
    t.ok(Math.abs(step.loss - (step.classification + step.box)) < 1e-6 * step.loss)
    t.ok(step.gradNorm > 0)
    t.notSame((await session.getTensor(weight.name)).data, before.data)

    const validation = await session.evaluateLoss(tinyBatch(), tinyTargets())
    t.match(validation, { finite: true, updated: false })
    const detections = await session.detect(tinyBatch())
    t.equal(detections.offsets.length, 3)
    t.equal(detections.boxes.length, 4 * detections.scores.length)
    for (let image = 0; image < 2; image++) {
      const scores = [...detections.scores.subarray(detections.offsets[image]!, detections.offsets[image + 1]!)]
      t.same(
        scores,
        scores.toSorted((a, b) => b - a),
      )
    }
    const raw = await session.forward(tinyBatch())
    t.same([...raw.grids], [16, 16, 8, 8, 4, 4])
    const anchors = (16 * 16 + 8 * 8 + 4 * 4) * 9
    t.equal(raw.anchors.length, 4 * anchors)
    t.equal(raw.logits.length, 2 * anchors * 2)
    t.equal(raw.deltas.length, 2 * anchors * 4)
    t.equal((await session.preprocess(tinyBatch())).length, 2 * 128 * 128)
  })
})

t.test('a checkpoint restores the state; a damaged one changes nothing', { skip }, async (t) => {
  const path = `${t.testdir()}/one.safetensors`
  await withSession(async (session) => {
    await session.trainStep(tinyBatch(), tinyTargets(), tinyStep())
    await session.saveCheckpoint(path, '{"epoch":3}')
    const after = await session.trainStep(tinyBatch(), tinyTargets(), tinyStep())
    await withSession(async (other) => {
      const { metadata, report } = await other.loadCheckpoint(path, 'all')
      t.same(JSON.parse(metadata), { epoch: 3 })
      t.ok(report.loaded.length > 50)
      t.same(report.skipped, {})
      t.equal(
        (await other.trainStep(tinyBatch(), tinyTargets(), tinyStep())).loss,
        after.loss,
        'the same step, bit for bit',
      )
      await t.rejects(other.loadCheckpoint(`${path}.none`, 'all'), { code: 'ERR_MAMMO_CHECKPOINT', exitCode: 4 })
      await t.rejects(
        other.loadCheckpoint(path, 'some' as never),
        refused("what: expected 'all' or 'weights', got \"some\""),
      )
    })
  })
})

t.test('what may change within a run', { skip }, async (t) => {
  await withSession(async (session) => {
    await session.update({ post: { ...tinyConfig().detector.post, maxDetections: 1 } })
    const { offsets } = await session.detect(tinyBatch())
    t.ok(offsets[1]! <= 1)
    await t.rejects(session.update({ frozenStages: 9 }), { code: 'ERR_MAMMO_CONFIG' })
  })
})

t.test('dispose is idempotent, and everything after it is refused', { skip }, async (t) => {
  const session = await openSession(tinyConfig())
  const running = session.detect(tinyBatch())
  await Promise.all([session.dispose(), session.dispose()])
  t.ok((await running).offsets, 'what was queued before it still ends')
  await session.dispose()
  await t.rejects(session.detect(tinyBatch()), {
    code: 'ERR_MAMMO_DISPOSED',
    message: 'detect: the session was disposed',
  })
})

t.test("an error has the caller's stack", { skip }, async (t) => {
  await withSession(async (session) => {
    async function theCaller() {
      await session.getTensor('nothing')
    }
    const error = (await theCaller().catch((e: unknown) => e)) as Error
    t.match(error.stack, /theCaller/)
  })
})

t.test('an unknown op, argument or dtype is refused', { skip }, async (t) => {
  await t.rejects(native().runOp('nothing', {}), {
    code: 'ERR_MAMMO_ARGUMENT',
    message: /expected one of anchors, batchedNms/,
  })
  const boxes = new Float32Array(8)
  const scores = new Float32Array(2)
  await t.rejects(native().runOp('nms', { boxes, scores }), { message: 'args.iou: missing' })
  await t.rejects(native().runOp('nms', { boxes, scores, iou: 0.5, more: 1 }), {
    message: /args\.more: this op has no such/,
  })
  await t.rejects(native().runOp('nms', { boxes, scores: [1], iou: 0.5 }), {
    message: /args\.scores: expected a number, a text/,
  })
  await t.rejects(native().configure(0), refused('threads: expected an integer >= 1, got 0'))
})
