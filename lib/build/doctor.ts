// Looks at an installation and says, on one page, what is there, what was chosen and why, what is missing, and the command that
// mends it. Changes nothing, downloads nothing. Native libraries are only opened in child processes.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { chooseThreads, type Machine, readMachine, type ThreadChoice } from '../machine.js'
import { addonPath, packageRoot } from '../package-root.js'
import { findCmake, findCompiler, isAtLeast, probeAddon, readBuildRecord } from './build-addon.js'
import { type RunCommand, runCommand } from './command.js'
import { cacheFolder, type FoundLibtorch, findLibtorch } from './find-libtorch.js'

/** `needed` for training, `optional` otherwise; `missing` needed ones are what the exit code tells. */
export interface Check {
  name: string
  state: 'ok' | 'missing' | 'warning'
  /** What was found, or what is wrong. */
  found: string
  /** Command or step that mends it. */
  fix?: string
}

export interface DoctorReport {
  checks: Check[]
  machine: Machine
  threads: ThreadChoice
  libtorch: FoundLibtorch | null
  addon: { path: string; info: unknown } | null
  /** Training and prediction as far as this page can tell. */
  ready: { train: boolean; predict: boolean }
}

export interface DoctorOptions {
  env?: NodeJS.ProcessEnv
  run?: RunCommand
}

/** Never rejects for something that is missing: that is what the report is for. */
export async function doctor(options: DoctorOptions = {}): Promise<DoctorReport> {
  const env = options.env ?? process.env
  const run = options.run ?? runCommand
  const machine = readMachine()
  const threads = chooseThreads(machine)
  const checks: Check[] = [checkNode(), checkPlatform()]
  checks.push(await checkCompiler(run), await checkCmake(run), await checkPip(run, env))

  const libtorch = await lookForLibtorch(env, run)
  checks.push(libtorch.check)
  const addon = await checkAddon(run)
  checks.push(addon.check, checkOpenMp(libtorch.found))
  checks.push(await checkCuda(run, libtorch.found))
  checks.push(
    await checkPackage(run, 'onnxruntime-node', "(await import('onnxruntime-node')).default.env.versions.node ?? 'ok'"),
    await checkPackage(run, 'sharp', "(await import('sharp')).default.versions.vips"),
  )
  checks.push(checkCpu(machine), checkMemory(machine))

  const usable = (name: string) => checks.find((check) => check.name === name)?.state !== 'missing'
  return {
    checks,
    machine,
    threads,
    libtorch: libtorch.found,
    addon: addon.opened,
    ready: {
      train: addon.opened !== null && usable('sharp'),
      predict: usable('Node') && usable('onnxruntime-node') && usable('sharp'),
    },
  }
}

/** The page that a person reads. */
export function formatDoctor(report: DoctorReport): string {
  const mark = { ok: 'ok     ', missing: 'MISSING', warning: 'note   ' }
  const width = Math.max(...report.checks.map((check) => check.name.length))
  const lines = report.checks.map((check) => {
    const fix = check.state === 'ok' || check.fix === undefined ? '' : `\n${' '.repeat(width + 12)}fix: ${check.fix}`
    return `  ${mark[check.state]}  ${check.name.padEnd(width)}  ${check.found}${fix}`
  })
  const { machine, threads, ready } = report
  const quota = machine.cpuQuota === null ? 'no CPU quota' : `quota of ${machine.cpuQuota} CPUs`
  const cores = machine.physicalCores === null ? '' : `, ${machine.physicalCores} cores`
  return [
    'mammo-retinanet: what is installed here',
    '',
    ...lines,
    '',
    `machine   ${machine.cpu}, ${machine.logicalCpus} logical CPUs${cores}, ${quota} (cgroup ${machine.cgroup})`,
    `threads   ${threads.intraOp} for the engine, ${threads.decode} for decoding: ${threads.reason}`,
    `cache     ${cacheFolder()}`,
    '',
    `training   ${ready.train ? 'ready' : 'not ready: mend the lines marked MISSING, from top to bottom'}`,
    `prediction ${ready.predict ? 'ready' : 'not ready: mend the lines marked MISSING, from top to bottom'}`,
    '',
  ].join('\n')
}

function checkNode(): Check {
  const version = process.versions.node
  if (isAtLeast(version, [20, 17]))
    return { name: 'Node', state: 'ok', found: `${version}, Node-API ${process.versions.napi}` }
  return {
    name: 'Node',
    state: 'missing',
    found: `${version}, expected 20.17 or later`,
    fix: 'install a newer Node.js',
  }
}

function checkPlatform(): Check {
  const platform = `${process.platform}-${process.arch}`
  const glibc = (process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined)?.header
    ?.glibcVersionRuntime
  if (platform === 'linux-x64' && glibc !== undefined) {
    const found = `${platform}, glibc ${glibc}`
    if (isAtLeast(glibc, [2, 28])) return { name: 'Platform', state: 'ok', found }
    return {
      name: 'Platform',
      state: 'missing',
      found: `${found}, LibTorch needs 2.28 or later`,
      fix: 'use a newer Linux',
    }
  }
  return {
    name: 'Platform',
    state: 'warning',
    found: `${platform}: prediction only, and not tested here; training needs linux-x64 with glibc`,
    fix: 'train on Linux x64',
  }
}

async function checkCompiler(run: RunCommand): Promise<Check> {
  const found = await findCompiler(run)
  if (found !== undefined) return { name: 'Compiler', state: 'ok', found }
  return {
    name: 'Compiler',
    state: buildState(),
    found: 'no g++ or clang++ on the PATH',
    fix: 'sudo apt-get install g++',
  }
}

async function checkCmake(run: RunCommand): Promise<Check> {
  const found = await findCmake(run)
  const ninja = (await run('ninja', ['--version'])).stdout.trim()
  const name = 'CMake'
  if (found === undefined)
    return { name, state: buildState(), found: 'not on the PATH', fix: 'sudo apt-get install cmake' }
  if (!isAtLeast(found, [3, 20])) {
    return { name, state: buildState(), found: `${found}, expected 3.20 or later`, fix: 'pip install cmake' }
  }
  return { name, state: 'ok', found: `${found}, ${ninja === '' ? 'no Ninja (make is used)' : `Ninja ${ninja}`}` }
}

/** Build tools that are missing only matter while the addon is. */
function buildState(): 'missing' | 'warning' {
  return existsSync(addonPath()) ? 'warning' : 'missing'
}

async function checkPip(run: RunCommand, env: NodeJS.ProcessEnv): Promise<Check> {
  const python = (await run('python3', ['--version'], { env })).stdout.trim()
  const name = 'Python, pip'
  const fix = 'sudo apt-get install python3-pip (only to fetch LibTorch)'
  if (python === '') return { name, state: 'warning', found: 'no python3 on the PATH', fix }
  const pip = /^pip (\S+)/.exec((await run('python3', ['-m', 'pip', '--version'], { env })).stdout)?.[1]
  if (pip === undefined) return { name, state: 'warning', found: `${python} without pip`, fix }
  return { name, state: 'ok', found: `${python}, pip ${pip}` }
}

async function lookForLibtorch(
  env: NodeJS.ProcessEnv,
  run: RunCommand,
): Promise<{ check: Check; found: FoundLibtorch | null }> {
  const built = readBuildRecord()?.libtorch
  const name = 'LibTorch'
  try {
    const found = built !== undefined && existsSync(built.path) ? built : await findLibtorch({ env, run, fetch: false })
    const kind = found.cuda === null ? 'CPU' : `CUDA ${found.cuda}`
    const text = `${found.version} (${kind}, ${found.abi}) in ${found.path}, from ${found.source}`
    return { check: { name, state: 'ok', found: text }, found }
  } catch (error) {
    const text = String((error as Error).message)
      .split('\n')
      .join('; ')
    return { check: { name, state: buildState(), found: text, fix: '`mammo-retinanet build` fetches it' }, found: null }
  }
}

async function checkAddon(run: RunCommand): Promise<{ check: Check; opened: DoctorReport['addon'] }> {
  const path = addonPath()
  const name = 'Addon'
  if (!existsSync(path)) {
    return { check: { name, state: 'missing', found: 'not built', fix: 'npm run build' }, opened: null }
  }
  const probe = await probeAddon(path, run)
  if ('problem' in probe) {
    const check: Check = { name, state: 'missing', found: probe.problem, fix: 'mammo-retinanet build --clean' }
    return { check, opened: null }
  }
  const info = probe.info as { abiVersion: number; libtorch: string; compiler: string }
  const found = `opens; interface ${info.abiVersion}, LibTorch ${info.libtorch}, ${info.compiler}`
  return { check: { name, state: 'ok', found }, opened: { path, info } }
}

/** Two OpenMP runtimes in one process start two teams of threads; there must be LibTorch's alone. */
function checkOpenMp(libtorch: FoundLibtorch | null): Check {
  const name = 'OpenMP'
  if (libtorch === null) return { name, state: 'warning', found: 'unknown without LibTorch' }
  const files = readdirSync(join(libtorch.path, 'lib')).filter((file) => /^lib(gomp|iomp5|omp)\b/.test(file))
  if (files.length === 1) return { name, state: 'ok', found: `${files[0]} beside LibTorch` }
  return { name, state: 'warning', found: `expected one runtime beside LibTorch, found ${files.join(', ') || 'none'}` }
}

async function checkCuda(run: RunCommand, libtorch: FoundLibtorch | null): Promise<Check> {
  const name = 'CUDA'
  const query = ['--query-gpu=name,driver_version,memory.total', '--format=csv,noheader']
  const driver = await run('nvidia-smi', query, { timeoutMs: 30_000 })
  const gpus = driver.status === 0 ? driver.stdout.trim().split('\n').filter(Boolean) : []
  if (gpus.length === 0) {
    const found = libtorch?.cuda == null ? 'no NVIDIA GPU or driver; the CPU is used' : 'no NVIDIA GPU or driver'
    return { name, state: libtorch?.cuda == null ? 'ok' : 'warning', found, fix: 'install the NVIDIA driver' }
  }
  if (libtorch?.cuda == null) {
    return {
      name,
      state: 'warning',
      found: `${gpus.join('; ')}, unused: the addon is the CPU build`,
      fix: 'mammo-retinanet build --variant cuda',
    }
  }
  return { name, state: 'ok', found: gpus.join('; ') }
}

async function checkPackage(run: RunCommand, name: string, expression: string): Promise<Check> {
  const script = `process.stdout.write(String(${expression}))`
  const answer = await run(process.execPath, ['--input-type=module', '-e', script], {
    cwd: packageRoot(),
    timeoutMs: 60_000,
  })
  if (answer.status === 0) {
    const version = packageVersion(name)
    return { name, state: 'ok', found: `${version ?? 'unknown version'} opens (${answer.stdout})` }
  }
  const reason = /^(?:\w*Error.*?): (.*)$/m.exec(answer.stderr)?.[1] ?? 'does not open'
  return { name, state: 'missing', found: reason, fix: 'npm ci' }
}

/** Version of an installed package, wherever above the package root npm put it. */
function packageVersion(name: string): string | undefined {
  for (let folder = packageRoot(); ; folder = join(folder, '..')) {
    const file = join(folder, 'node_modules', name, 'package.json')
    if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')).version
    if (folder === join(folder, '..')) return undefined
  }
}

function checkCpu(machine: Machine): Check {
  const name = 'CPU'
  const flags = machine.flags.join(', ')
  if (machine.flags.includes('avx2')) {
    const bf16 = machine.flags.some((flag) => flag.endsWith('bf16'))
    return {
      name,
      state: 'ok',
      found: `${flags}; bf16 arithmetic ${bf16 ? 'in hardware' : 'not in hardware: train in fp32'}`,
    }
  }
  return { name, state: 'warning', found: `no AVX2 (${flags || 'no known flags'}): training is many times slower` }
}

function checkMemory(machine: Machine): Check {
  const name = 'Memory'
  const limit = Math.min(machine.memoryBytes, machine.memoryLimitBytes ?? Number.POSITIVE_INFINITY)
  const gib = (limit / 2 ** 30).toFixed(1)
  if (limit >= 6 * 2 ** 30) return { name, state: 'ok', found: `${gib} GiB` }
  return {
    name,
    state: 'warning',
    found: `${gib} GiB: full-resolution training needs 6`,
    fix: 'use crops or a smaller image',
  }
}
