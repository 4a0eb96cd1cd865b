// Interrupting training anywhere and resuming gives the same parameters, bit for bit, as a run that was never interrupted.
import { copyFileSync, cpSync, existsSync, readdirSync, readFileSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { addonExists } from '../../lib/binding/load.js'
import { checkpointPath, readCheckpointMetadata } from '../../lib/train/checkpoints.js'
import { parseEvents } from '../../lib/train/events.js'
import { readRunRecord } from '../../lib/train/run-folder.js'
import { preparedFixture } from '../train/prepared-fixture.js'
import { differing, type Ended, lastTensors, runTrainingProcess, type SelfSignals, tinyRun } from './training.js'

if (!addonExists()) t.plan(0, 'the addon is not built')
else {
  const home = t.testdir()
  const data = await preparedFixture(join(home, 'prepared'), { train: 6, val: 2 })
  const config = tinyRun(data, join(home, 'runs'))
  const start = (name: string, change: Partial<typeof config.train> = {}, self?: SelfSignals) =>
    runTrainingProcess(home, { ...config, train: { ...config.train, ...change } }, { name }, self)
  const resume = (run: string, self?: SelfSignals) => runTrainingProcess(home, config, { resume: run }, self)
  const folderOf = (name: string) => join(home, 'runs', 'train', `${name}-1`)
  const at = (step: number, ...signals: NodeJS.Signals[]): SelfSignals => ({ step, signals })
  /** results.csv without what depends on time. */
  const results = (run: string) =>
    readFileSync(join(run, 'results.csv'), 'utf8')
      .split('\n')
      .map((line) =>
        line
          .split(',')
          .filter((_, i) => i !== 2 && i < 18)
          .join(','),
      )
  const steps = (run: string) =>
    parseEvents(readFileSync(join(run, 'events.jsonl'), 'utf8')).flatMap((e) => (e.type === 'iteration' ? [e] : []))

  const whole = await start('whole')
  const run = folderOf('whole')
  const wanted = await lastTensors(run)
  const last = await readCheckpointMetadata(checkpointPath(run, 'last'))
  const total = last.state.step

  t.test('an uninterrupted run', async (t) => {
    t.equal(whole.code, 0, JSON.stringify([whole.output, whole.noise]))
    t.strictSame(whole.noise, [])
    t.match(whole.output, { directory: run, status: 'finished', stopped: null })
    t.ok(total >= 8, `${total} updates`)
    t.strictSame(
      steps(run).map((e) => e.step),
      Array.from({ length: total }, (_, i) => i + 1),
    )
    t.match(await readRunRecord(run), {
      status: 'finished',
      error: undefined,
      seeds: { run: 3 },
      numerics: { deterministic: true },
    })
    t.strictSame(
      readdirSync(join(run, 'checkpoints')).filter((f) => !f.endsWith('.safetensors')),
      [],
      'no leftovers',
    )
    for (const file of ['config.resolved.yaml', 'train.log', 'data/split.json', 'data/summary.json']) {
      t.ok(existsSync(join(run, file)), file)
    }
  })

  t.test('the same run again gives the same bits', async (t) => {
    const again = await start('again')
    t.equal(again.code, 0)
    t.strictSame(differing(await lastTensors(folderOf('again')), wanted), [])
    t.strictSame(results(folderOf('again')), results(run))
  })

  const compare = async (t: Test, name: string, resumed: Ended) => {
    t.equal(resumed.code, 0, JSON.stringify(resumed.output))
    t.strictSame(differing(await lastTensors(folderOf(name)), wanted), [])
    t.strictSame(results(folderOf(name)), results(run))
    t.strictSame(
      steps(folderOf(name)).map((e) => [e.step, e.loss, e.lr]),
      steps(run).map((e) => [e.step, e.loss, e.lr]),
      'no step twice, none left out',
    )
    const { state } = await readCheckpointMetadata(checkpointPath(folderOf(name), 'last'))
    const time = { wallSeconds: 0, sums: null }
    t.strictSame({ ...state, ...time }, { ...last.state, ...time })
  }

  for (let step = 1; step <= total; step += 2) {
    t.test(`SIGINT after update ${step}: saved, exit 130, resumed to the same bits`, async (t) => {
      const name = `int${step}`
      const first = await start(name, {}, at(step, 'SIGINT'))
      if (first.code !== 0) {
        t.equal(first.code, 130, JSON.stringify(first.output))
        t.match(first.output, { status: 'interrupted', stopped: 'SIGINT' })
        t.match(await readRunRecord(folderOf(name)), { status: 'interrupted' })
      } else t.equal(step, total, 'only the last update may be too late to interrupt')
      t.strictSame(first.noise, [])
      await compare(t, name, await resume(folderOf(name)))
      t.match(await readRunRecord(folderOf(name)), { status: 'finished' })
    })
  }

  t.test('kill -9 between periodic checkpoints: the lost steps are repeated exactly', async (t) => {
    const first = await start('kill', { checkpointMinutes: 0 }, at(5, 'SIGKILL'))
    t.equal(first.signal, 'SIGKILL')
    t.match(await readRunRecord(folderOf('kill')), { status: 'running' }, 'nobody could write more')
    await compare(t, 'kill', await resume(folderOf('kill')))
  })

  t.test('kill -9 with checkpoints at epochs only', async (t) => {
    const first = await start('kill-epoch', {}, at(total - 1, 'SIGKILL'))
    t.equal(first.signal, 'SIGKILL')
    await compare(t, 'kill-epoch', await resume(folderOf('kill-epoch')))
  })

  t.test('interrupted twice', async (t) => {
    await start('twice', {}, at(2, 'SIGTERM'))
    const second = await resume(folderOf('twice'), at(6, 'SIGHUP'))
    t.equal(second.code, 129)
    await compare(t, 'twice', await resume(folderOf('twice')))
  })

  t.test('a broken last falls back to the one before and says so', async (t) => {
    const first = await start('broken', { checkpointMinutes: 0 }, at(6, 'SIGINT'))
    t.equal(first.code, 130)
    const path = checkpointPath(folderOf('broken'), 'last')
    truncateSync(path, statSync(path).size - 100)
    const resumed = await resume(folderOf('broken'))
    t.match(
      resumed.events.filter((e) => e.type === 'warning'),
      [{ code: 'CHECKPOINT', message: /last\.safetensors/ }],
    )
    await compare(t, 'broken', resumed)
  })

  t.test('without any usable checkpoint: an error that names the files, exit 4', async (t) => {
    cpSync(folderOf('broken'), folderOf('hopeless'), { recursive: true })
    for (const name of ['last', 'previous']) truncateSync(checkpointPath(folderOf('hopeless'), name), 10)
    const resumed = await resume(folderOf('hopeless'))
    t.equal(resumed.code, 4)
    t.match(resumed.output, { code: 'ERR_MAMMO_CHECKPOINT', message: /previous\.safetensors/ })
  })

  t.test('a finished run has nothing left to do', async (t) => {
    const before = results(run)
    const resumed = await resume(run)
    t.equal(resumed.code, 0)
    t.match(resumed.output, { status: 'finished', step: total })
    t.strictSame(results(run), before)
    t.strictSame(differing(await lastTensors(run), wanted), [])
  })

  t.test('other settings are refused', async (t) => {
    const other = { ...config, train: { ...config.train, lr: 1 }, run: { ...config.run, seed: 4 } }
    const refused = await runTrainingProcess(home, other, { resume: run })
    t.equal(refused.code, 2)
    t.match(refused.output, { code: 'ERR_MAMMO_CONFIG', message: /run\.seed[\s\S]*train\.lr/ })
    t.strictSame(differing(await lastTensors(run), wanted), [])
  })

  t.test('SIGTERM saves and exits 143; SIGUSR2 saves and goes on', async (t) => {
    const stopped = await start('term', {}, at(1, 'SIGTERM'))
    t.equal(stopped.code, 143)
    t.ok(existsSync(checkpointPath(folderOf('term'), 'last')))
    const saved = await start('usr2', {}, at(1, 'SIGUSR2'))
    t.equal(saved.code, 0)
    const kept = saved.events.flatMap((e) => (e.type === 'checkpoint' ? [e] : []))
    t.ok(kept.some((e) => e.step > 0 && e.kinds.length === 1 && e.step < total))
    t.strictSame(differing(await lastTensors(folderOf('usr2')), wanted), [], 'saving changes nothing')
  })

  t.test('a second signal ends the process at once; the checkpoint before stays whole', async (t) => {
    const first = await start('second', { checkpointMinutes: 0 }, at(3, 'SIGINT', 'SIGINT'))
    // The process may be done with saving before the second signal comes.
    if (first.code !== 130) t.equal(first.signal, 'SIGINT')
    await compare(t, 'second', await resume(folderOf('second')))
  })

  t.test('a new run from weights takes the parameters and nothing else', async (t) => {
    const init = join(home, 'init.safetensors')
    copyFileSync(checkpointPath(run, 'last'), init)
    const short = { ...config, train: { ...config.train, phases: config.train.phases!.slice(0, 1) } }
    const ended = await runTrainingProcess(home, short, { name: 'init', init })
    t.equal(ended.code, 0, JSON.stringify(ended.output))
    const record = await readRunRecord(folderOf('init'))
    t.match(record, { init: { source: 'init.safetensors', sha256: /^[0-9a-f]{64}$/ }, parents: [init] })
    t.equal(JSON.parse(readFileSync(join(folderOf('init'), 'init.json'), 'utf8')).initial.length, 0)
    t.equal(ended.events.flatMap((e) => (e.type === 'start' ? [e.step] : [])).at(0), 0)
  })

  t.test('a loss that is not finite: exit 5, the images are named, the last checkpoint stays', async (t) => {
    const wild = { ...config, train: { ...config.train, clipNorm: null, weightDecay: 0, checkpointMinutes: 0 } }
    wild.train.optimizer = 'sgd'
    wild.train.phases = wild.train.phases!.map((p) => ({
      ...p,
      lr: 1e30,
      schedule: { ...p.schedule!, warmupSteps: 0 },
    }))
    const ended = await runTrainingProcess(home, wild, { name: 'wild' })
    t.equal(ended.code, 5, JSON.stringify(ended.output))
    t.match(ended.output, { code: 'ERR_MAMMO_NON_FINITE_LOSS', message: /synth\// })
    const [place] = readdirSync(join(folderOf('wild'), 'nonfinite'))
    t.match(place, /^step-00000\d$/)
    t.ok(existsSync(join(folderOf('wild'), 'nonfinite', place!, '0.pgm')))
    t.match(await readRunRecord(folderOf('wild')), { status: 'failed', error: { code: 'ERR_MAMMO_NON_FINITE_LOSS' } })
    t.equal(
      (await readCheckpointMetadata(checkpointPath(folderOf('wild'), 'last'))).state.step,
      Number(place!.slice(5)) - 1,
    )
  })
}
