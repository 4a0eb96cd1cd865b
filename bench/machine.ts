// What a result was measured on: processor, flags, memory, versions, date, commit.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { packageRoot } from '../lib/package-root.js'

export interface Machine {
  cpu: string
  cores: number
  threads: number
  flags: string[]
  memoryBytes: number
  kernel: string
  node: string
  date: string
  commit: string
}

export async function machine(threads?: number): Promise<Machine> {
  const info = readFileSync('/proc/cpuinfo', 'utf8')
  const flags = /^flags\s*: (.*)$/m.exec(info)?.[1]?.split(' ') ?? []
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    threads: threads ?? availableParallelism(),
    flags: flags.filter((f) => /^(avx|fma|amx|f16c)/.test(f)),
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
    date: new Date().toISOString(),
    commit: commit(),
  }
}

function commit(): string {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: packageRoot(), encoding: 'utf8' }).trim()
  try {
    return (
      git('rev-parse', '--short', 'HEAD') +
      (git('status', '--porcelain', '--', 'lib', 'native', 'bench', ':!bench/results') === '' ? '' : '+changes')
    )
  } catch {
    return 'not a git checkout'
  }
}
