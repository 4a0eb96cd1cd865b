// Every CUDA kernel compiles, on machines that have nvcc; whether it computes the right thing needs a GPU.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/package-root.js'

t.setTimeout(600_000)

const missing = spawnSync('nvcc', ['--version']).status !== 0
const native = join(packageRoot(), 'native')
const folder = join(native, 'core', 'ops', 'cuda')

for (const file of readdirSync(folder).filter((name) => name.endsWith('.cu'))) {
  t.test(`nvcc compiles ${file}`, { skip: missing && 'nvcc is not installed' }, async (t) => {
    const out = mkdtempSync(join(tmpdir(), 'mammo-nvcc-'))
    t.teardown(() => rmSync(out, { recursive: true }))
    const { status, stderr } = spawnSync(
      'nvcc',
      ['-c', '-std=c++20', '--fmad=false', `-I${native}`, join(folder, file), '-o', join(out, 'kernel.o')],
      { encoding: 'utf8' },
    )
    t.equal(status, 0, stderr.slice(-2000))
  })
}
