import t from 'tap'
import { containerCores, engineThreads, hostRecord, recordedEnv, toolRecord } from '../../lib/train/machine.js'

const files = (content: Record<string, string>) => (path: string) => {
  const text = content[path]
  if (text === undefined) throw new Error('ENOENT')
  return text
}

t.test('the quota of both kinds of control groups', async (t) => {
  t.equal(containerCores(files({ '/sys/fs/cgroup/cpu.max': '150000 100000\n' })), 1.5)
  t.equal(containerCores(files({ '/sys/fs/cgroup/cpu.max': 'max 100000\n' })), null)
  const v1 = { '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '200000\n', '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n' }
  t.equal(containerCores(files(v1)), 2)
  t.equal(containerCores(files({ ...v1, '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1' })), null)
  t.equal(containerCores(files({})), null)
})

t.test('threads: configured wins, otherwise at least one, with a reason', async (t) => {
  t.strictSame(engineThreads(3), { count: 3, reason: 'run.threads' })
  const { count, reason } = engineThreads(null)
  t.ok(count >= 1)
  t.match(reason, /cores/)
})

t.test('only listed variables are recorded', async (t) => {
  const env = { OMP_NUM_THREADS: '2', CUDA_VISIBLE_DEVICES: '0', HOME: '/home/x', CUDA_SECRET: 'y', NPM_TOKEN: 'z' }
  t.strictSame(recordedEnv(env), { OMP_NUM_THREADS: '2', CUDA_VISIBLE_DEVICES: '0' })
})

t.test('host and tool records', async (t) => {
  t.match(hostRecord(), { cores: Number, ram: Number, node: process.version, cpu: String, flags: Array })
  t.match(toolRecord(), { version: /^\d+\.\d+\.\d+/ })
})
