// A trained run scored in the three ways that exist: by the engine, from its stored detections, and as an exported model.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { addonExists } from '../../lib/binding/load.js'
import type { Detection } from '../../lib/evaluate/types.js'
import { compareDetections } from '../../lib/onnx/parity.js'
import { evaluate } from '../../lib/tasks/evaluate.js'
import { exportOnnx } from '../../lib/tasks/export.js'
import { sweepInfer } from '../../lib/tasks/sweep-infer.js'
import { train } from '../../lib/tasks/train.js'
import type { RunEvent } from '../../lib/train/events.js'
import { readPredictions } from '../../lib/train/predictions.js'
import { parseResults } from '../../lib/train/results.js'
import { preparedFixture } from '../train/prepared-fixture.js'
import { tinyRun } from './training.js'

if (!addonExists()) t.plan(0, 'the addon is not built')
else {
  const home = t.testdir()
  const data = await preparedFixture(join(home, 'prepared'), { train: 6, val: 4 })
  const config = tinyRun(data, join(home, 'runs'))
  config.train.phases = null
  config.train.epochs = 2
  config.train.strategy = 'full'
  config.train.schedule.warmupSteps = 0
  const run = train(config)
  const events: RunEvent[] = []
  for await (const event of run.events()) events.push(event)
  const { directory, final, best } = await run.done

  t.test('events of the API: from start to end, in order', async (t) => {
    const kinds = events.map((e) => e.type)
    t.equal(kinds[0], 'start')
    t.equal(kinds.at(-1), 'end')
    t.equal(kinds.filter((k) => k === 'evaluation').length, 2)
    t.ok(best)
  })

  t.test('the stored detections give the numbers of their epoch again', async (t) => {
    const stored = await evaluate(join(directory, 'eval', 'predictions.coco.json'), { config, bootstrap: 0 })
    const rows = parseResults(readFileSync(join(directory, 'results.csv'), 'utf8'))
    const row = rows.find((r) => r['epoch'] === best!.epoch)!
    t.equal(Number(stored.metrics.ap50!.toPrecision(6)), row['val/AP50'])
    t.equal(Number(stored.metrics.ap!.toPrecision(6)), row['val/AP'])
  })

  t.test('the run, scored again, gives the numbers of its best epoch, and others for another part', async (t) => {
    const again = await evaluate(directory, { bootstrap: 0, threads: 1 })
    t.equal(again.kind, 'checkpoint')
    t.equal(again.metrics.ap50, best!.value)
    t.ok(final)
    t.ok(Object.keys(again.seconds).includes('forward'))
    for (const file of ['metrics.json', 'froc.csv', 'perImage.csv', 'predictions.coco.json']) {
      t.ok(existsSync(join(directory, 'eval', file)), file)
    }
    const other = await evaluate(directory, { split: 'test', bootstrap: 0, threads: 1 })
    t.equal(other.directory, join(directory, 'eval', 'test'))
  })

  t.test('the exported model finds the same', async (t) => {
    const model = join(home, 'model.onnx')
    await exportOnnx(directory, { out: model, threads: 1 })
    t.strictSame(
      readdirSync(home).filter((name) => name.includes('unchecked')),
      [],
    )
    const onnx = await evaluate(model, { config, bootstrap: 0, threads: 1 })
    const native = await evaluate(directory, { bootstrap: 0, threads: 1, out: join(home, 'native') })
    t.ok(Math.abs(onnx.metrics.ap50! - native.metrics.ap50!) < 1e-6)
    t.ok(Math.abs(onnx.metrics.ap! - native.metrics.ap!) < 1e-6)
    t.equal(onnx.details.counts.detections, native.details.counts.detections)
  })

  t.test('test-time views: stored one by one, fused, and their gain measured without the model', async (t) => {
    const tta = await evaluate(directory, { bootstrap: 0, threads: 1, tta: ['hflip', 'scale:1.25'] })
    const folder = join(directory, 'eval', 'tta')
    t.equal(tta.directory, folder, 'beside the results of the run, not over them')
    const views = ['plain', 'hflip', 'scale-1.25'].map((name) => join(folder, `predictions.${name}.coco.json`))
    const [plain, mirrored, larger] = await Promise.all(
      views.map(async (path) => (await readPredictions(path, config.data.classes)).detections),
    )
    const own = (await readPredictions(join(directory, 'eval', 'predictions.coco.json'), config.data.classes))
      .detections
    t.strictSame(plain, own, 'the plain view is the run as it is scored without')
    t.notSame(mirrored, plain)
    t.notSame(larger, plain)
    for (const [id, list] of mirrored!)
      for (const { box } of list) t.ok(box[0] < box[2] && box[1] < box[3], `${id}: sides of a mirrored box`)
    const fused = (await readPredictions(join(folder, 'predictions.coco.json'), config.data.classes)).detections
    for (const [id, list] of fused) {
      const all = [plain, mirrored, larger].map((copy) => copy!.get(id)!)
      t.ok(list.length <= all.flat().length && list.length >= Math.max(...all.map((copy) => (copy.length > 0 ? 1 : 0))))
    }
    const found = await sweepInfer(views, { config, rankBy: 'AP50', bootstrap: 20 })
    t.equal(found.stored.metrics['AP50'], (await evaluate(views[0]!, { config, bootstrap: 0 })).metrics.ap50)
    t.strictSame(found.sources, views)
    t.equal(found.fragment, null, 'what joins several files is no setting of one model')

    const model = join(home, 'model.onnx')
    const out = join(home, 'views')
    await evaluate(model, { config, bootstrap: 0, threads: 1, tta: ['hflip'], out })
    const ofModel = await readPredictions(join(out, 'predictions.hflip.coco.json'), config.data.classes)
    // One to one; detections of nearly equal scores may change places.
    const columns = (list: Detection[]) => ({
      boxes: list.flatMap(({ box }) => [...box]),
      scores: list.map(({ score }) => score),
      labels: list.map(({ label }) => label),
    })
    const { scoreThreshold, maxDetections } = config.evaluate
    for (const [id, list] of ofModel.detections) {
      const { failures } = compareDetections(columns(mirrored!.get(id)!), columns(list), {
        ...{ scoreThreshold, maxDetections, nmsIou: config.predict.nmsIou },
      })
      t.strictSame(failures, [], `${id}: the model's mirrored boxes are the engine's`)
    }
    const refused = { code: 'ERR_MAMMO_ARGUMENT' }
    await t.rejects(evaluate(model, { config, bootstrap: 0, tta: ['scale:2'] }), { ...refused, message: /one scale/ })
    await t.rejects(evaluate(directory, { bootstrap: 0, tta: ['vflip'] }), { ...refused, message: /vflip/ })
    await t.rejects(evaluate(directory, { bootstrap: 0, tta: ['hflip', 'hflip'] }), { ...refused, message: /once/ })
  })

  t.test('a time budget and an abort signal end the run with a checkpoint', async (t) => {
    const brief = await train({ ...config, run: { ...config.run, timeHours: 1e-9 } }, { name: 'brief' }).done
    t.match(brief, { status: 'interrupted', stopped: 'time' })
    t.ok(existsSync(join(brief.directory, 'checkpoints', 'last.safetensors')))
    const aborted = await train(config, { name: 'aborted', signal: AbortSignal.abort() }).done
    t.match(aborted, { status: 'interrupted', stopped: 'stop', step: 0 })
    const resumed = await train(config, { resume: aborted.directory }).done
    t.match(resumed, { status: 'finished', best })
  })

  t.test('signals of a program that uses the API are its own', async (t) => {
    const before = process.listenerCount('SIGINT')
    const short = train(config, { name: 'listener' })
    t.equal(process.listenerCount('SIGINT'), before)
    short.requestStop()
    await short.done
    const obeying = train(config, { name: 'listener', handleSignals: true })
    t.equal(process.listenerCount('SIGINT'), before + 1)
    obeying.requestStop()
    await obeying.done
    t.equal(process.listenerCount('SIGINT'), before)
  })

  t.test('a finished run goes on when it gets more epochs', async (t) => {
    const longer = await train({ ...config, train: { ...config.train, epochs: 3 } }, { resume: directory }).done
    t.match(longer, { directory, status: 'finished', step: (final!['step']! / 2) * 3 })
    t.strictSame(
      parseResults(readFileSync(join(directory, 'results.csv'), 'utf8')).map((row) => row['epoch']),
      [1, 2, 3],
    )
  })
}
