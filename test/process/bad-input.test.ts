// Bad input at the command line where the engine takes part: loss that is not finite, checkpoints that are spoilt, full disks, signals.
// Each command is a process of its own; what earlier commands left must stay as it was. Without the engine: test/cli/bad-input.test.ts.
import { spawn } from 'node:child_process'
import { cpSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { stringify } from 'yaml'
import { addonExists } from '../../lib/binding/load.js'
import { packageRoot } from '../../lib/package-root.js'
import { checkpointPath } from '../../lib/train/checkpoints.js'
import { type Ended, refused, snapshot } from '../cli/bad-input-kit.js'
import { noTinyDisk, onTinyDisk } from '../cli/full-disk.js'
import { preparedFixture } from '../train/prepared-fixture.js'
import { tinyRun } from './training.js'

if (!addonExists()) t.plan(0, 'the addon is not built')
else {
  const home = t.testdir()
  const at = (...names: string[]) => join(home, ...names)
  const data = await preparedFixture(at('prepared'), { train: 4, val: 2, test: 1 })
  const config = tinyRun(data, at('runs'))
  Object.assign(config.train, { phases: null, epochs: 1, strategy: 'full', optimizer: 'sgd', clipNorm: null })
  config.train.schedule.warmupSteps = 0
  config.run.logEvery = 1
  const file = at('config.yaml')
  writeFileSync(file, stringify(config))
  const trainArgs = (name: string, ...more: string[]) => [
    'train',
    '--no-build',
    '--config',
    file,
    '--name',
    name,
    ...more,
  ]
  const bin = join(packageRoot(), 'bin', 'mammo-retinanet.js')

  /** Runs a command in a process; `interrupt` is sent when stderr shows the first finished step. */
  const command = (argv: string[], interrupt?: NodeJS.Signals): Promise<Ended> =>
    new Promise((resolve) => {
      const env = { ...process.env }
      delete env['NODE_OPTIONS']
      const child = spawn(process.execPath, [bin, ...argv], { env })
      const ended: Ended = { code: -1, out: '', err: '' }
      let sent = interrupt === undefined
      child.stdout.on('data', (chunk) => {
        ended.out += chunk
      })
      child.stderr.on('data', (chunk) => {
        ended.err += chunk
        if (sent || !ended.err.includes('"type":"iteration"')) return
        sent = true
        child.kill(interrupt)
      })
      child.on('close', (code) => resolve({ ...ended, code: code ?? -1 }))
    })

  const run = at('runs', 'train', 'good-1')
  const good = await command(trainArgs('good', '--quiet'))
  t.strictSame(good, { code: 0, out: `${run}\n`, err: '' }, 'a run to spoil copies of')
  const kept = snapshot(run)
  const prepared = snapshot(data)

  t.test('a loss that is not finite: exit 5, the record is named, the run before stays', async (t) => {
    const wild = ['--set', 'train.lr=1e30']
    const single = ['--set', 'data.batchSize=1', '--set', 'train.accumulate=1']
    const ended = await command(trainArgs('wild', '--quiet', ...wild, ...single))
    const where = /wild-1\/nonfinite\/step-\d+\/record\.json$/
    refused(t, ended, { exit: 5, code: 'NON_FINITE_LOSS', message: /expected a finite loss.*synth\//s, where })
    const late = await command(trainArgs('late', '--quiet', ...wild, '--set', 'data.batchSize=4'))
    refused(t, late, { exit: 5, code: 'NON_FINITE_LOSS', message: /^evaluation: /, where: /late-1$/ })
    t.strictSame(snapshot(run), kept)
    t.strictSame(snapshot(data), prepared)
  })

  t.test('checkpoints cut short: nothing to resume, export or evaluate; the files stay', async (t) => {
    const broken = at('runs', 'train', 'broken-1')
    cpSync(run, broken, { recursive: true })
    for (const name of readdirSync(join(broken, 'checkpoints'))) truncateSync(join(broken, 'checkpoints', name), 5000)
    const before = snapshot(broken)
    const best = { exit: 4, code: 'CHECKPOINT', where: checkpointPath(broken, 'best') }
    refused(t, await command(['export', broken, '--no-build', '--quiet']), best)
    refused(t, await command(['evaluate', broken, '--no-build', '--quiet']), best)
    const resumed = await command(['train', '--resume', broken, '--no-build', '--quiet'])
    const where = join(broken, 'checkpoints')
    refused(t, resumed, { exit: 4, code: 'CHECKPOINT', message: /^no usable checkpoint: .*last\.safetensors/s, where })
    t.strictSame(snapshot(broken), before)
    rmSync(where, { recursive: true })
    const none = await command(['train', '--resume', broken, '--no-build', '--quiet'])
    refused(t, none, { exit: 4, code: 'CHECKPOINT', message: /the run has none$/, where })
  })

  t.test('weights that are not there, or are none', async (t) => {
    const weights = at('weights.safetensors')
    const init = () => command(trainArgs('init', '--quiet', '--init', weights))
    refused(t, await init(), { exit: 4, code: 'CHECKPOINT', message: /cannot be opened$/, where: weights })
    writeFileSync(weights, 'no weights')
    refused(t, await init(), { exit: 4, code: 'CHECKPOINT', where: weights })
    const runs = readdirSync(at('runs', 'train')).filter((name) => name.startsWith('init-'))
    t.strictSame(runs, [], 'no run folder was made for them')
  })

  t.test('Ctrl-C: exit 130, the run is named, and goes on with --resume', async (t) => {
    const folder = at('runs', 'train', 'stopped-1')
    const stopped = await command(trainArgs('stopped', '--log', 'json', '--set', 'train.epochs=200'), 'SIGINT')
    t.match(stopped, { code: 130, out: `${folder}\n` })
    const resumed = await command(['train', '--resume', folder, '--no-build', '--quiet', '--set', 'train.epochs=1'])
    t.match(resumed, { code: 0, out: `${folder}\n` }, resumed.err)
  })

  t.test('a disk without space: the run and the model before stay', { skip: noTinyDisk(at('probe')) }, async (t) => {
    const disk = at('disk')
    const model = join(disk, 'model', 'model.onnx')
    const toDisk = ['export', run, '--no-build', '--quiet', '--no-verify', '--out', model]
    const exported = onTinyDisk('64m', { disk, kept: 'model', first: toDisk, second: toDisk, spare: 0 })
    t.equal(exported.first.code, 0, exported.first.err)
    refused(t, exported.second, { exit: 4, code: 'DISK_FULL', where: model })
    t.strictSame(exported.after, exported.before)
    const root = ['--quiet', '--set', `run.root=${disk}`]
    const trained = onTinyDisk('64m', {
      ...{ disk, kept: join('train', 'first-1'), spare: 20 },
      ...{ first: trainArgs('first', ...root), second: trainArgs('second', ...root) },
    })
    t.equal(trained.first.code, 0, trained.first.err)
    refused(t, trained.second, { exit: 4, code: 'DISK_FULL' })
    t.strictSame(trained.after, trained.before)
  })
}
