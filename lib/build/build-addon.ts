// Builds the native addon: finds LibTorch, asks cmake-js for its CMake commands, runs them, proves that the result opens.
// cmake-js's own `compile` is not used: it deletes and rebuilds on any error, and its `build` reconfigures only when
// CMakeCache.txt is missing, so this file keeps the options of the last configuration and compares. One build at a time.
import { createHash } from 'node:crypto'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { freemem } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { writeFileAtomic } from '../atomic-write.js'
import { BindingError } from '../errors.js'
import { chooseThreads, readMachine } from '../machine.js'
import { addonPath, packageRoot } from '../package-root.js'
import { type RunCommand, runCommand } from './command.js'
import { type FindOptions, type FoundLibtorch, findLibtorch } from './find-libtorch.js'
import type { Variant } from './libtorch.js'

export interface BuildOptions {
  /** Default: the CPU build, or what the named LibTorch is. */
  variant?: Variant
  /** Folder of LibTorch. */
  libtorch?: string
  archive?: { file: string; sha256: string }
  /** CUDA compute capabilities such as `90` or `80,90`; default those of the LibTorch. */
  arch?: string
  /** Compiler processes at a time. */
  jobs?: number
  /** Remove build/native first. */
  clean?: boolean
  log?: (line: string) => void
}

/** Written beside the addon as build-info.json. */
export interface BuildRecord {
  libtorch: FoundLibtorch
  /** CMake variables that were set. */
  options: Record<string, string>
  /** sha256 over the C++ and CMake sources. */
  sourceHash: string
  compiler: string
  cmake: string
  node: string
  /** Seconds of configure and build together. */
  seconds: number
}

export interface BuildResult extends BuildRecord {
  addon: string
  /** false: everything was up to date. */
  rebuilt: boolean
}

/** Resolves when the addon is there, opens, and fits sources and options. Rejects with BindingError BUILD. */
export async function build(options: BuildOptions = {}): Promise<BuildResult> {
  const log = options.log ?? (() => undefined)
  requirePlatform()
  const root = packageRoot()
  const folder = join(root, 'build', 'native')
  return withLock(join(root, 'build'), log, async () => {
    if (options.clean) rmSync(folder, { recursive: true, force: true })
    const tools = await requireTools(runCommand)
    const libtorch = await findLibtorch({ ...findOptions(options), log })
    log(
      `LibTorch ${libtorch.version} (${libtorch.cuda === null ? 'CPU' : `CUDA ${libtorch.cuda}`}) in ${libtorch.path}`,
    )

    const wanted = {
      libtorch,
      options: cmakeOptions(libtorch, options),
      sourceHash: hashSources(root),
      ...tools,
      node: process.version,
    }
    const record = readBuildRecord()
    if (record !== undefined && existsSync(addonPath()) && sameBuild(record, wanted)) {
      log('the addon is up to date')
      return { ...record, addon: addonPath(), rebuilt: false }
    }

    const start = performance.now()
    await configureAndBuild(root, folder, wanted.options, options.jobs ?? defaultJobs(), log)
    const seconds = Math.round((performance.now() - start) / 100) / 10
    await proveItOpens(addonPath())
    const result: BuildRecord = { ...wanted, seconds }
    await writeFileAtomic(recordPath(), `${JSON.stringify(result, null, 2)}\n`)
    log(`built ${relative(process.cwd(), addonPath()) || addonPath()} in ${seconds} s`)
    return { ...result, addon: addonPath(), rebuilt: true }
  })
}

/**
 * For commands that need the addon: builds it when it is missing, after saying so. `allowed: false` (the option --no-build)
 * makes a missing addon an error. An addon that is there is used as it is.
 */
export async function ensureAddon(options: BuildOptions & { allowed?: boolean } = {}): Promise<void> {
  if (existsSync(addonPath())) return
  if (options.allowed === false) {
    throw new BindingError('BINDING_MISSING', 'the native addon has not been built, and --no-build was given', {
      where: addonPath(),
      fix: '`npm run build`, or leave out --no-build',
    })
  }
  options.log?.('the native addon is missing: building it now (some minutes, once)')
  await build(options)
}

/** What the last build wrote; undefined without one. */
export function readBuildRecord(): BuildRecord | undefined {
  try {
    return JSON.parse(readFileSync(recordPath(), 'utf8')) as BuildRecord
  } catch {
    return undefined
  }
}

const recordPath = () => join(dirname(addonPath()), 'build-info.json')

function requirePlatform(): void {
  if (process.platform === 'linux' && process.arch === 'x64') return
  throw new BindingError(
    'BUILD',
    `the addon is built on linux-x64 with glibc, this is ${process.platform}-${process.arch}`,
    {
      fix: 'train on Linux x64; prediction with an exported ONNX file works here without the addon',
    },
  )
}

function findOptions(options: BuildOptions): FindOptions {
  const { variant, libtorch, archive } = options
  return {
    ...(variant === undefined ? {} : { variant }),
    ...(libtorch === undefined ? {} : { libtorch }),
    ...(archive === undefined ? {} : { archive }),
  }
}

function cmakeOptions(libtorch: FoundLibtorch, options: BuildOptions): Record<string, string> {
  const cuda: Record<string, string> =
    libtorch.cuda === null
      ? { MAMMO_CUDA: 'OFF' }
      : { MAMMO_CUDA: 'ON', ...(options.arch === undefined ? {} : cudaArchitecture(options.arch)) }
  return { CMAKE_PREFIX_PATH: libtorch.path, ...cuda }
}

/** `90` or `80,90`: what nvcc compiles for, in the two spellings that CMake and LibTorch's configuration read. */
function cudaArchitecture(arch: string): Record<string, string> {
  const capabilities = arch.split(/[,;]/)
  if (!capabilities.every((one) => /^\d{2,3}$/.test(one))) {
    throw new BindingError('BUILD', `--arch: expected compute capabilities such as 90 or 80,90, got "${arch}"`, {
      fix: '80 for A100, 90 for H100 and H200, 120 for RTX 50',
    })
  }
  const dotted = capabilities.map((one) => `${one.slice(0, -1)}.${one.slice(-1)}`)
  return { CMAKE_CUDA_ARCHITECTURES: capabilities.join(';'), TORCH_CUDA_ARCH_LIST: dotted.join(';') }
}

/** One compiler process per thread of the quota, with 2 GiB of free memory for each: LibTorch's headers are large. */
function defaultJobs(): number {
  return Math.max(1, Math.min(chooseThreads(readMachine()).intraOp, Math.floor(freemem() / 2 ** 31)))
}

/** Versions of the programs a build needs; rejects with the command that installs what is missing. */
async function requireTools(run: RunCommand): Promise<{ compiler: string; cmake: string }> {
  const cmake = await findCmake(run)
  if (cmake === undefined) {
    throw new BindingError('BUILD', 'CMake is not on the PATH', { fix: '`sudo apt-get install cmake` (3.20 or later)' })
  }
  if (!isAtLeast(cmake, [3, 20])) {
    throw new BindingError('BUILD', `CMake: expected 3.20 or later, got ${cmake}`, {
      fix: '`pip install cmake`, or a newer package',
    })
  }
  const compiler = await findCompiler(run)
  if (compiler === undefined) {
    throw new BindingError('BUILD', 'no C++ compiler is on the PATH', {
      fix: '`sudo apt-get install g++` (GCC 11 or later)',
    })
  }
  return { compiler, cmake }
}

/** CMake's version; undefined when there is none. */
export async function findCmake(run: RunCommand = runCommand): Promise<string | undefined> {
  const answer = await run('cmake', ['--version'])
  return answer.status === 0 ? /version (\S+)/.exec(answer.stdout)?.[1] : undefined
}

/** First line of the version text of the compiler that CMake will take; undefined when there is none. */
export async function findCompiler(run: RunCommand = runCommand): Promise<string | undefined> {
  for (const program of process.env.CXX ? [process.env.CXX] : ['g++', 'c++', 'clang++']) {
    const answer = await run(program, ['--version'])
    if (answer.status === 0) return answer.stdout.split('\n')[0]?.trim()
  }
  return undefined
}

export function isAtLeast(version: string, wanted: readonly [number, number]): boolean {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10))
  return major > wanted[0] || (major === wanted[0] && minor >= wanted[1])
}

function hashSources(root: string): string {
  const hash = createHash('sha256')
  for (const file of [join(root, 'CMakeLists.txt'), ...sourcesUnder(join(root, 'native'))]) {
    hash.update(relative(root, file)).update('\0').update(readFileSync(file)).update('\0')
  }
  return hash.digest('hex')
}

function sourcesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => !name.startsWith('tests'))
    .sort()
    .map((name) => join(folder, name))
    .filter((file) => statSync(file).isFile())
}

function sameBuild(record: BuildRecord, wanted: Omit<BuildRecord, 'seconds'>): boolean {
  return (
    record.sourceHash === wanted.sourceHash &&
    record.compiler === wanted.compiler &&
    record.libtorch.path === wanted.libtorch.path &&
    record.libtorch.version === wanted.libtorch.version &&
    JSON.stringify(record.options) === JSON.stringify(wanted.options)
  )
}

/** What this file uses of cmake-js, which has no types. */
interface CmakeJs {
  BuildSystem: new (
    options: Record<string, unknown>,
  ) => { getConfigureCommand(): Promise<string[]>; getBuildCommand(): Promise<string[]> }
}

async function configureAndBuild(
  root: string,
  folder: string,
  options: Record<string, string>,
  jobs: number,
  log: (line: string) => void,
): Promise<void> {
  const { BuildSystem } = createRequire(import.meta.url)('cmake-js') as CmakeJs
  const system = new BuildSystem({
    directory: root,
    out: folder,
    config: 'Release',
    cMakeOptions: options,
    parallel: String(jobs),
    noLog: true,
  })
  mkdirSync(folder, { recursive: true })
  const output: string[] = []
  const logFile = join(folder, 'build.log')
  const step = async (name: string, command: string[]) => {
    const [program = 'cmake', ...args] = command
    const onLine = (line: string) => {
      output.push(line)
      if (/^\[\d+\/\d+\]|^\[ *\d+%\]/.test(line)) log(line)
    }
    const answer = await runCommand(program, args, { cwd: folder, onLine })
    if (answer.status === 0) return
    writeFileSync(logFile, `${output.join('\n')}\n`)
    throw buildFailure(name, output, logFile)
  }

  const configure = await system.getConfigureCommand()
  const stamp = join(folder, 'configure.json')
  const command = JSON.stringify(configure)
  const configured =
    existsSync(join(folder, 'CMakeCache.txt')) && existsSync(stamp) && readFileSync(stamp, 'utf8') === command
  if (!configured) {
    // Values that find_package cached for another LibTorch would survive a plain second configuration.
    rmSync(join(folder, 'CMakeCache.txt'), { force: true })
    rmSync(join(folder, 'CMakeFiles'), { recursive: true, force: true })
    log('configuring')
    await step('configure', configure)
    writeFileSync(stamp, command)
  }
  log(`compiling with ${jobs} process${jobs === 1 ? '' : 'es'}`)
  await step('compile', await system.getBuildCommand())
  writeFileSync(logFile, `${output.join('\n')}\n`)
}

function buildFailure(step: string, output: string[], logFile: string): BindingError {
  const shown = output.filter((line) => /error|fatal|killed/i.test(line)).slice(0, 5)
  const killed = shown.some((line) => /killed|signal terminated/i.test(line))
  const lines = shown.length > 0 ? shown : output.slice(-5)
  return new BindingError('BUILD', `the addon did not ${step}\n${lines.map((line) => `  ${line}`).join('\n')}`, {
    where: logFile,
    fix: killed
      ? 'the compiler ran out of memory: `mammo-retinanet build --jobs 1`'
      : 'read the log; after changing compiler or LibTorch: `mammo-retinanet build --clean`',
  })
}

/** Opens the addon in another process, so that one that crashes takes only that process with it. */
export async function probeAddon(
  path: string,
  run: RunCommand = runCommand,
): Promise<{ info: unknown } | { problem: string }> {
  const script = 'process.stdout.write(JSON.stringify(require(process.argv[1]).buildInfo()))'
  const answer = await run(process.execPath, ['-e', script, path], { timeoutMs: 120_000 })
  if (answer.status === 0) return { info: JSON.parse(answer.stdout) }
  const error = /^Error: (.*)$/m.exec(answer.stderr)?.[1]
  return { problem: error ?? answer.stderr.trim().split('\n').pop() ?? `ended with ${answer.status}` }
}

async function proveItOpens(path: string): Promise<void> {
  const probe = await probeAddon(path)
  if ('problem' in probe) {
    throw new BindingError('BUILD', `the addon was built but does not open: ${probe.problem}`, {
      where: path,
      fix: '`mammo-retinanet build --clean`, then `mammo-retinanet doctor`',
    })
  }
}

/** Runs `work` while this process holds the lock file; waits for another builder, takes over from a dead one. */
export async function withLock<T>(folder: string, log: (line: string) => void, work: () => Promise<T>): Promise<T> {
  const lock = join(folder, 'native.lock')
  try {
    mkdirSync(folder, { recursive: true })
  } catch (cause) {
    throw new BindingError('BUILD', 'the build folder cannot be made', {
      where: folder,
      fix: 'make the package folder writable',
      cause,
    })
  }
  let announced = false
  while (!take(lock)) {
    const owner = ownerOf(lock)
    if (owner === undefined ? isAbandoned(lock) : !isAlive(owner)) {
      rmSync(lock, { force: true })
      continue
    }
    if (!announced) log(`another build is running (process ${owner ?? 'unknown'}); waiting`)
    announced = true
    await new Promise((resolve) => setTimeout(resolve, 500))
  }
  try {
    return await work()
  } finally {
    rmSync(lock, { force: true })
  }
}

function take(lock: string): boolean {
  try {
    const file = openSync(lock, 'wx')
    writeFileSync(file, String(process.pid))
    closeSync(file)
    return true
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw new BindingError('BUILD', 'the build folder cannot be written', {
      where: lock,
      fix: 'make the package folder writable',
      cause,
    })
  }
}

function ownerOf(lock: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(lock, 'utf8'), 10)
    return Number.isInteger(pid) ? pid : undefined
  } catch {
    return undefined
  }
}

/** A lock without a number is being written, or its writer died in that moment. */
function isAbandoned(lock: string): boolean {
  const age = statSync(lock, { throwIfNoEntry: false })
  return age !== undefined && Date.now() - age.mtimeMs > 10_000
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
