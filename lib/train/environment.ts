// What a run records about where it ran: host, environment variables that matter, version and commit of this software; and the engine's
// threads, the configured number or the one that lib/machine.ts chooses. Asks no device.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { chooseThreads, readMachine } from '../machine.js'
import { packageRoot } from '../package-root.js'

/** Engine threads with the reason for their number. */
export function engineThreads(configured: number | null): { count: number; reason: string } {
  if (configured !== null) return { count: configured, reason: 'run.threads' }
  const { intraOp, reason } = chooseThreads(readMachine())
  return { count: intraOp, reason }
}

/** The host as run.json records it; no names of users or machines. */
export function hostRecord(): Record<string, unknown> {
  const { cpu, flags, logicalCpus, physicalCores, cpuQuota, memoryBytes, memoryLimitBytes } = readMachine()
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined
  const glibc = report?.header?.glibcVersionRuntime
  return {
    os: `${process.platform}-${process.arch} ${release()}`,
    libc: glibc === undefined ? null : `glibc ${glibc}`,
    ...{ cpu, flags, cores: physicalCores ?? logicalCpus, logicalCpus, cgroupQuota: cpuQuota },
    ...{ ram: memoryBytes, ramLimit: memoryLimitBytes, node: process.version },
  }
}

/** Environment variables that change numbers or speed; no others are recorded. */
const RECORDED =
  /^(OMP_|MKL_|KMP_|OPENBLAS_|GOMP_|CUDA_VISIBLE|CUDA_LAUNCH|CUBLAS_|NVIDIA_TF32|TORCH_|ATEN_|ONEDNN_|DNNL_|UV_THREADPOOL|MALLOC_)/

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
