// No convolution silently falls back to one of oneDNN's reference kernels: a step and a detection of ResNet-50 run in a process of their
// own that oneDNN writes its calls of. Sizes are small; which kernel is taken depends on channels, windows, layouts and threads.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { addonExists } from '../../lib/binding/load.js'

const skip = addonExists() ? false : 'the addon is not built (npm run build)'
t.setTimeout(600_000)

const child = fileURLToPath(new URL('../../bench/child.js', import.meta.url))
const avx2 = { ATEN_CPU_CAPABILITY: 'avx2', ONEDNN_MAX_CPU_ISA: 'AVX2' }

/** Counts of "primitive implementation direction" that oneDNN ran. */
function kernels(work: string, threads: number, env: Record<string, string>): Map<string, number> {
  const options = { height: 256, width: 256, batch: 1, warmup: 0, count: 1, frozenStages: 0, threads }
  const { status, stdout, stderr } = spawnSync(process.execPath, [child, work, JSON.stringify(options)], {
    encoding: 'utf8',
    maxBuffer: 1 << 27,
    env: { ...process.env, NODE_OPTIONS: '', OMP_WAIT_POLICY: 'passive', ONEDNN_VERBOSE: '1', ...env },
  })
  if (status !== 0) throw new Error(`${work} ended with ${status}: ${stderr.slice(-2000)}`)
  const counts = new Map<string, number>()
  for (const line of stdout.split('\n')) {
    const [mark, , kind, event, , primitive, implementation, direction] = line.split(',')
    if (mark !== 'onednn_verbose' || kind !== 'primitive' || event !== 'exec') continue
    const name = `${primitive} ${implementation} ${direction}`
    counts.set(name, (counts.get(name) ?? 0) + 1)
  }
  return counts
}

const isReference = (name: string) => /(^|[ :_])ref([ :_]|$)/.test(name)

t.test('reference kernels are recognised by their names', async (t) => {
  t.ok(isReference('convolution ref:any forward_training'))
  t.ok(isReference('convolution gemm:ref backward_data'))
  t.notOk(isReference('reorder brgemm_matmul_copy_reorder_t undef'))
})

for (const work of ['train-step', 'forward']) {
  for (const [name, threads, env] of [
    ['one thread', 1, {}],
    ['two threads', 2, {}],
    ['one thread, AVX2', 1, avx2],
  ] as const) {
    t.test(`${work}, ${name}`, { skip }, async (t) => {
      const seen = [...kernels(work, threads, env)].sort()
      for (const [kernel, count] of seen) t.comment(`${count} x ${kernel}`)
      t.ok(seen.filter(([kernel]) => kernel.startsWith('convolution ')).length > 1, 'oneDNN was seen at work')
      t.same(seen.map(([kernel]) => kernel).filter(isReference), [], 'no reference kernel')
    })
  }
}
