import t from 'tap'
import { engineThreads, hostRecord, recordedEnv, toolRecord } from '../../lib/train/environment.js'

t.test('threads: configured wins, otherwise at least one, with a reason', async (t) => {
  t.strictSame(engineThreads(3), { count: 3, reason: 'run.threads' })
  const { count, reason } = engineThreads(null)
  t.ok(count >= 1)
  t.match(reason, /core|CPU/)
})

t.test('only listed variables are recorded', async (t) => {
  const env = { OMP_NUM_THREADS: '2', CUDA_VISIBLE_DEVICES: '0', HOME: '/home/x', CUDA_SECRET: 'y', NPM_TOKEN: 'z' }
  t.strictSame(recordedEnv(env), { OMP_NUM_THREADS: '2', CUDA_VISIBLE_DEVICES: '0' })
})

t.test('host and tool records', async (t) => {
  t.match(hostRecord(), { cores: Number, ram: Number, node: process.version, cpu: String, flags: Array })
  t.match(toolRecord(), { version: /^\d+\.\d+\.\d+/ })
})
