import t from 'tap'
import type { RunCommand } from '../../lib/build/command.js'
import { doctor, formatDoctor } from '../../lib/build/doctor.js'

/** A machine on which no program exists. */
const nothing: RunCommand = async () => ({ status: null, stdout: '', stderr: 'not found', missing: true })

t.test('with nothing installed, every line says what to do', async (t) => {
  const report = await doctor({ run: nothing, env: { MAMMO_CACHE: t.testdir() } })
  const check = (name: string) => report.checks.find((one) => one.name === name)
  t.match(check('Node'), { state: 'ok', found: /Node-API/ })
  t.match(check('Compiler'), { fix: /apt-get install g\+\+/ })
  t.match(check('CMake'), { fix: /apt-get install cmake/ })
  t.match(check('Python, pip'), { state: 'warning', fix: /python3-pip/ })
  t.match(check('onnxruntime-node'), { state: 'missing', fix: 'npm ci' })
  t.match(check('sharp'), { state: 'missing', fix: 'npm ci' })
  t.same(report.ready, { train: false, predict: false })
  t.ok(report.threads.intraOp >= 1)
  t.same(JSON.parse(JSON.stringify(report)), report, 'plain data')

  const page = formatDoctor(report)
  t.match(page, /MISSING {2}sharp/)
  t.match(page, /fix: npm ci/)
  t.match(page, /threads {3}\d+ for the engine/)
  t.ok(page.split('\n').length < 50, 'one page')
})

t.test('a driver without a CUDA build says how to use it', async (t) => {
  const run: RunCommand = async (program, args, options) =>
    program === 'nvidia-smi'
      ? { status: 0, stdout: 'Test GPU, 570.1, 81559 MiB\n', stderr: '', missing: false }
      : nothing(program, args, options)
  const report = await doctor({ run, env: { MAMMO_CACHE: t.testdir() } })
  const cuda = report.checks.find((one) => one.name === 'CUDA')
  t.match(cuda?.found, /Test GPU/)
})
