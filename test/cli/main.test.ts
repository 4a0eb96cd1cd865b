// The command line without a process: help, versions, errors with their exit codes.
import t from 'tap'
import type { Io } from '../../lib/cli/io.js'
import { runCli } from '../../lib/cli/main.js'

async function run(...argv: string[]) {
  let out = ''
  let err = ''
  const io: Io = {
    stdout: (text) => {
      out += text
    },
    stderr: (text) => {
      err += text
    },
    isTty: false,
    columns: 100,
    env: {},
  }
  return { code: await runCli(argv, io), out, err }
}

t.test('help lists the commands; each command ends with two examples and the exit codes', async (t) => {
  const { code, out } = await run('--help')
  t.equal(code, 0)
  for (const name of [
    'demo',
    'data',
    'anchors',
    'train',
    'evaluate',
    'export',
    'predict',
    'info',
    'config',
    'doctor',
    'build',
  ])
    t.match(out, name)
  for (const words of [
    ['train'],
    ['evaluate'],
    ['export'],
    ['predict'],
    ['info'],
    ['demo'],
    ['doctor'],
    ['build'],
    ['data', 'check'],
    ['data', 'prepare'],
    ['data', 'stats'],
    ['data', 'view'],
    ['data', 'split'],
    ['data', 'synth'],
    ['anchors', 'report'],
    ['cv'],
    ['sweep'],
    ['sweep', 'infer'],
    ['compare'],
    ['report'],
    ['anchors', 'optimize'],
    ['config', 'show'],
  ]) {
    const help = await run(...words, '--help')
    t.equal(help.code, 0, words.join(' '))
    t.match(
      help.out,
      new RegExp(`Examples:\n  mammo-retinanet ${words.join(' ')}.*\n  mammo-retinanet ${words.join(' ')}`),
    )
    t.match(help.out, 'Exit codes: 0 success')
  }
})

t.test('unknown commands and options are usage errors', async (t) => {
  t.match(await run('trian'), { code: 2, err: "unknown command 'trian'" })
  t.match(await run('config', 'show', '--presett', 'x'), { code: 2, err: '--preset' })
  t.match(await run('config', 'show', '--set', 'nonsense'), { code: 2, err: 'expected key=value' })
})

t.test('configuration errors name every problem and exit 2', async (t) => {
  const { code, err, out } = await run('config', 'show', '--set', 'loss.gama=3', '--set', 'loss.alpha=7')
  t.equal(code, 2)
  t.equal(out, '')
  t.match(err, /^error ERR_MAMMO_CONFIG: 2 problems/)
  t.match(err, 'did you mean "loss.gamma"?')
  t.match(err, /\n {2}fix: /)
})

t.test('config show, init and schema print to stdout', async (t) => {
  t.match((await run('config', 'show', '--preset', 'smoke', '--diff')).out, /backbone: "resnet18" +# preset smoke/)
  t.match((await run('config', 'init', '--preset', 'smoke')).out, 'extends: smoke')
  t.match(JSON.parse((await run('config', 'schema')).out), { title: 'mammo-retinanet configuration' })
  t.equal(JSON.parse((await run('config', 'show', '--json', '--set', 'loss.gamma=5')).out).loss.gamma, 5)
})
