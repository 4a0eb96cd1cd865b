import t from 'tap'
import { chooseThreads, type Machine, readMachine } from '../lib/machine.js'

const cpu = (processor: number, core: number) =>
  `processor\t: ${processor}\nmodel name\t: Test CPU\nphysical id\t: 0\ncore id\t\t: ${core}\nflags\t\t: fpu avx2 fma\n\n`
const cpuinfo = cpu(0, 0) + cpu(1, 1) + cpu(2, 0) + cpu(3, 1)
const meminfo = 'MemTotal:       1024 kB\n'

t.test('cores, flags and memory', async (t) => {
  const machine = readMachine(t.testdir({ proc: { cpuinfo, meminfo } }))
  t.match(machine, {
    cpu: 'Test CPU',
    logicalCpus: 4,
    physicalCores: 2,
    cpuQuota: null,
    memoryBytes: 1048576,
    cgroup: 'none',
  })
  t.same(machine.flags, ['avx2', 'fma'])
})

t.test('cgroup v2: the tightest limit from the own group upwards', async (t) => {
  const root = t.testdir({
    proc: { cpuinfo, meminfo, self: { cgroup: '0::/a/b\n' } },
    sys: {
      fs: {
        cgroup: {
          'cgroup.controllers': 'cpu memory\n',
          a: {
            'cpu.max': '150000 100000\n',
            'memory.max': 'max\n',
            b: { 'cpu.max': 'max 100000\n', 'memory.max': '4096\n' },
          },
        },
      },
    },
  })
  t.match(readMachine(root), { cgroup: 'v2', cpuQuota: 1.5, memoryLimitBytes: 4096 })
})

t.test('cgroup v1: quota, and "no limit" written as a huge number', async (t) => {
  const root = t.testdir({
    proc: { cpuinfo, meminfo, self: { cgroup: '5:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n' } },
    sys: {
      fs: {
        cgroup: {
          cpu: { 'cpu.cfs_quota_us': '300000\n', 'cpu.cfs_period_us': '100000\n' },
          memory: { 'memory.limit_in_bytes': '9223372036854771712\n' },
        },
      },
    },
  })
  t.match(readMachine(root), { cgroup: 'v1', cpuQuota: 3, memoryLimitBytes: null })
})

t.test('cgroup v1 without a quota is -1', async (t) => {
  const root = t.testdir({
    proc: { cpuinfo, meminfo },
    sys: { fs: { cgroup: { cpu: { 'cpu.cfs_quota_us': '-1\n', 'cpu.cfs_period_us': '100000\n' } } } },
  })
  t.equal(readMachine(root).cpuQuota, null)
})

t.test('threads: physical cores, never above quota or affinity, at least one', async (t) => {
  const base: Machine = {
    cpu: '',
    flags: [],
    logicalCpus: 16,
    physicalCores: 8,
    cpuQuota: null,
    memoryBytes: 1,
    memoryLimitBytes: null,
    cgroup: 'v2',
  }
  t.match(chooseThreads(base), { intraOp: 8, decode: 2, reason: /one per physical core/ })
  t.match(chooseThreads({ ...base, cpuQuota: 2.5 }), { intraOp: 2, decode: 1, reason: /quota of 2\.5 CPUs/ })
  t.match(chooseThreads({ ...base, cpuQuota: 0.5 }), { intraOp: 1 })
  t.match(chooseThreads({ ...base, logicalCpus: 4 }), { intraOp: 4, reason: /affinity/ })
  t.match(chooseThreads({ ...base, physicalCores: null }), { intraOp: 16, reason: /unknown/ })
})
