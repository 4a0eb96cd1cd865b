// native/core alone: configured and built by plain CMake against the LibTorch that `build` uses, without Node, and its own tests run.
import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { findLibtorch } from '../../lib/build/find-libtorch.js'
import { packageRoot } from '../../lib/package-root.js'
import { oracleFolder } from '../oracles.js'

t.setTimeout(1_200_000)

const folder = join(packageRoot(), 'build', 'core')
const tools = ['cmake', 'ctest'].filter((tool) => spawnSync(tool, ['--version']).status !== 0)

function run(command: string, args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd: packageRoot(),
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env: { ...process.env, OMP_WAIT_POLICY: 'passive' },
  })
  if (status !== 0)
    throw new Error(
      `${command} ${args.join(' ')} ended with ${status}:\n${stdout.slice(-6000)}\n${stderr.slice(-3000)}`,
    )
  return stdout
}

t.test(
  'native/core builds and passes its tests',
  { skip: tools.length > 0 && `not installed: ${tools.join(', ')}` },
  async (t) => {
    const libtorch = await findLibtorch({ log: t.comment })
    const generator = spawnSync('ninja', ['--version']).status === 0 ? ['-G', 'Ninja'] : []
    run('cmake', [
      '-S',
      '.',
      '-B',
      folder,
      ...generator,
      `-DCMAKE_PREFIX_PATH=${libtorch.path}`,
      '-DCMAKE_BUILD_TYPE=Release',
    ])
    run('cmake', ['--build', folder, '--parallel', String(Math.min(2, availableParallelism()))])
    const listed = JSON.parse(run('ctest', ['--test-dir', folder, '--show-only=json-v1'])) as {
      tests: { name: string }[]
    }
    t.ok(listed.tests.length > 5, `${listed.tests.length} test programs`)
    for (const { name } of listed.tests) {
      const { status, stdout } = spawnSync('ctest', ['--test-dir', folder, '-R', `^${name}$`, '--output-on-failure'], {
        encoding: 'utf8',
        env: { ...process.env, MAMMO_ORACLES: oracleFolder },
      })
      if (status !== 0) t.comment(stdout.slice(-4000))
      t.equal(status, 0, name)
    }
  },
)
