// What the machine is and how many threads the engine gets, decided once, with the reason. Reads
// /proc and /sys and the version of this software; asks no device.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { packageRoot } from '../package-root.js'

export interface Threads {
  count: number
  reason: string
}

/** Engine threads: the configured number, otherwise the cores that affinity and the container's quota leave. */
export function engineThreads(configured: number | null): Threads {
  if (configured !== null) return { count: configured, reason: 'run.threads' }
  const cores = availableParallelism()
  const quota = containerCores()
  if (quota !== null && quota < cores) {
    return { count: Math.max(1, Math.floor(quota)), reason: `container quota of ${quota} cores` }
  }
  return { count: cores, reason: `${cores} cores available` }
}

/** Cores that the container may use (cgroup v2 or v1); null without a limit. */
export function containerCores(read: (path: string) => string = (path) => readFileSync(path, 'utf8')): number | null {
  const attempt = (path: string) => {
    try {
      return read(path).trim()
    } catch {
      return undefined
    }
  }
  const [quota, period] = attempt('/sys/fs/cgroup/cpu.max')?.split(' ') ?? []
  if (quota !== undefined && quota !== 'max') return Number(quota) / Number(period)
  const old = Number(attempt('/sys/fs/cgroup/cpu/cpu.cfs_quota_us') ?? -1)
  const oldPeriod = Number(attempt('/sys/fs/cgroup/cpu/cpu.cfs_period_us') ?? 0)
  return old > 0 && oldPeriod > 0 ? old / oldPeriod : null
}

/** CPU features that decide which kernels run. */
const FLAGS = ['avx2', 'fma', 'avx512f', 'avx512_bf16', 'amx_bf16', 'amx_tile']

/** The host as run.json records it; no names of users or machines. */
export function hostRecord(): Record<string, unknown> {
  let flags: string[] = []
  try {
    const line = /^flags\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? ''
    const words = new Set(line.split(' '))
    flags = FLAGS.filter((flag) => words.has(flag))
  } catch {
    flags = []
  }
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined
  const glibc = report?.header?.glibcVersionRuntime
  return {
    os: `${process.platform}-${process.arch} ${release()}`,
    libc: glibc === undefined ? null : `glibc ${glibc}`,
    cpu: cpus()[0]?.model ?? 'unknown',
    flags,
    cores: availableParallelism(),
    cgroupQuota: containerCores(),
    ram: totalmem(),
    node: process.version,
  }
}

/** Environment variables that change numbers or speed; no others are recorded. */
const RECORDED =
  /^(OMP_|MKL_|KMP_|OPENBLAS_|GOMP_|CUDA_VISIBLE|CUDA_LAUNCH|CUBLAS_|NVIDIA_TF32|TORCH_|ATEN_|UV_THREADPOOL|MALLOC_)/

export function recordedEnv(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) => (RECORDED.test(name) && value !== undefined ? [[name, value]] : [])),
  )
}

export interface ToolRecord {
  version: string
  /** Commit of the sources, when they are a git working tree. */
  commit: string | null
  dirty: boolean | null
}

let tool: ToolRecord | undefined

export function toolRecord(): ToolRecord {
  tool ??= readTool(packageRoot())
  return tool
}

function readTool(root: string): ToolRecord {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  if (!existsSync(join(root, '.git'))) return { version, commit: null, dirty: null }
  const git = (...args: string[]) => {
    const { status, stdout } = spawnSync('git', ['-C', root, ...args], { encoding: 'utf8', timeout: 5000 })
    return status === 0 ? stdout.trim() : undefined
  }
  const changes = git('status', '--porcelain', '--untracked-files=no')
  return { version, commit: git('rev-parse', 'HEAD') ?? null, dirty: changes === undefined ? null : changes !== '' }
}
