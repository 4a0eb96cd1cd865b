// What the machine offers, and how many threads to use for what, with the reason. Reads /proc and /sys only; the root folder is
// an argument so that tests can hand in a made-up machine. The decision is a pure function.
import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism, cpus, totalmem } from 'node:os'
import { join } from 'node:path'

export interface Machine {
  cpu: string
  /** Instruction sets that matter here, of those the CPU has. */
  flags: string[]
  /** Logical CPUs this process may run on (affinity included). */
  logicalCpus: number
  /** Physical cores of those, when known. */
  physicalCores: number | null
  /** CPUs' worth of time the container grants; null for no limit. */
  cpuQuota: number | null
  memoryBytes: number
  /** Memory limit of the container; null for none. */
  memoryLimitBytes: number | null
  cgroup: 'v1' | 'v2' | 'none'
}

export interface ThreadChoice {
  /** Intra-op threads of LibTorch, and of onnxruntime-node when it works alone. */
  intraOp: number
  /** Threads of the image decoder beside training. */
  decode: number
  reason: string
}

const WANTED_FLAGS = ['avx2', 'fma', 'avx512f', 'avx512_bf16', 'amx_bf16', 'avx512_vnni', 'avx_vnni']

/** Reads the machine. Missing files mean "unknown" or "no limit", never an error. */
export function readMachine(root = '/'): Machine {
  const cpuinfo = readText(join(root, 'proc/cpuinfo'))
  const flags = new Set((/^flags\s*:\s*(.*)$/m.exec(cpuinfo)?.[1] ?? '').split(/\s+/))
  const limits = readCgroup(root)
  return {
    cpu: /^model name\s*:\s*(.*)$/m.exec(cpuinfo)?.[1] ?? cpus()[0]?.model ?? 'unknown',
    flags: WANTED_FLAGS.filter((flag) => flags.has(flag)),
    logicalCpus: root === '/' ? availableParallelism() : (cpuinfo.match(/^processor\s*:/gm)?.length ?? 1),
    physicalCores: countCores(cpuinfo),
    cpuQuota: limits.cpu,
    memoryBytes: root === '/' ? totalmem() : memTotal(readText(join(root, 'proc/meminfo'))),
    memoryLimitBytes: limits.memory,
    cgroup: limits.version,
  }
}

/**
 * Threads for a machine: one per physical core (a second thread on the same core shares its multipliers), never more than the
 * container's quota (more threads than quota are stopped by the scheduler in the middle of a parallel region).
 */
export function chooseThreads(machine: Machine): ThreadChoice {
  const cores = Math.min(machine.physicalCores ?? machine.logicalCpus, machine.logicalCpus)
  const quota = machine.cpuQuota === null ? Number.POSITIVE_INFINITY : Math.max(1, Math.floor(machine.cpuQuota))
  const intraOp = Math.max(1, Math.min(cores, quota))
  const reason =
    quota < cores
      ? `the container's quota of ${machine.cpuQuota} CPUs, of ${cores} cores`
      : machine.physicalCores === null
        ? `${cores} logical CPUs (physical cores are unknown)`
        : cores < machine.physicalCores
          ? `${cores} CPUs in this process's affinity mask, of ${machine.physicalCores} cores`
          : `one per physical core (${cores} cores, ${machine.logicalCpus} logical CPUs)`
  return { intraOp, decode: Math.max(1, Math.floor(intraOp / 4)), reason }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

function countCores(cpuinfo: string): number | null {
  const cores = new Set<string>()
  for (const block of cpuinfo.split(/\n\s*\n/)) {
    const socket = /^physical id\s*:\s*(\d+)$/m.exec(block)?.[1]
    const core = /^core id\s*:\s*(\d+)$/m.exec(block)?.[1]
    if (socket !== undefined && core !== undefined) cores.add(`${socket}.${core}`)
  }
  return cores.size === 0 ? null : cores.size
}

function memTotal(meminfo: string): number {
  return Number(/^MemTotal:\s*(\d+) kB$/m.exec(meminfo)?.[1] ?? 0) * 1024
}

interface Limits {
  version: Machine['cgroup']
  cpu: number | null
  memory: number | null
}

/** The tightest limit on the way from this process's group up to the root counts. */
function readCgroup(root: string): Limits {
  const mount = join(root, 'sys/fs/cgroup')
  const groups = readText(join(root, 'proc/self/cgroup'))
  if (existsSync(join(mount, 'cgroup.controllers'))) {
    const own = /^0::(.*)$/m.exec(groups)?.[1] ?? '/'
    const cpu = tightest(upwards(mount, own).map((folder) => quotaV2(readText(join(folder, 'cpu.max')))))
    const memory = tightest(upwards(mount, own).map((folder) => bytes(readText(join(folder, 'memory.max')))))
    return { version: 'v2', cpu, memory }
  }
  const ownOf = (controller: string) =>
    groups
      .split('\n')
      .map((line) => line.split(':'))
      .find((parts) => parts[1]?.split(',').includes(controller))?.[2] ?? '/'
  const cpuMount = [join(mount, 'cpu'), join(mount, 'cpu,cpuacct')].find(existsSync)
  const memoryMount = join(mount, 'memory')
  if (cpuMount === undefined && !existsSync(memoryMount)) return { version: 'none', cpu: null, memory: null }
  const cpu =
    cpuMount === undefined
      ? null
      : tightest(
          upwards(cpuMount, ownOf('cpu')).map((folder) =>
            quotaV1(readText(join(folder, 'cpu.cfs_quota_us')), readText(join(folder, 'cpu.cfs_period_us'))),
          ),
        )
  const memory = tightest(
    upwards(memoryMount, ownOf('memory')).map((folder) => bytes(readText(join(folder, 'memory.limit_in_bytes')))),
  )
  return { version: 'v1', cpu, memory }
}

/** The group's folder and its parents; in a container the group's own path often does not exist below the mount. */
function upwards(mount: string, group: string): string[] {
  const parts = group.split('/').filter(Boolean)
  return Array.from({ length: parts.length + 1 }, (_, i) => join(mount, ...parts.slice(0, parts.length - i)))
}

function tightest(values: (number | null)[]): number | null {
  const limits = values.filter((value): value is number => value !== null)
  return limits.length === 0 ? null : Math.min(...limits)
}

function quotaV2(text: string): number | null {
  const [quota, period] = text.trim().split(/\s+/)
  if (!quota || quota === 'max') return null
  return Number(quota) / Number(period)
}

function quotaV1(quota: string, period: string): number | null {
  const microseconds = Number(quota)
  if (quota.trim() === '' || microseconds <= 0 || Number(period) <= 0) return null
  return microseconds / Number(period)
}

/** cgroup v1 writes "no limit" as a number near 2^63. */
function bytes(text: string): number | null {
  const value = Number(text)
  return text.trim() === '' || !Number.isFinite(value) || value > 2 ** 60 ? null : value
}
