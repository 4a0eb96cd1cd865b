// Finds LibTorch, or fetches it: a path the user names; the cache; the torch of the Python on the PATH; the CPU wheel through
// pip (version and sha256 pinned); or an archive the user names with its sha256. The only code of the project that downloads.
// A plain `torch` wheel for Linux is the CUDA build without its libraries, so the CPU variant never takes a CUDA build.
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { BindingError } from '../errors.js'
import { type RunCommand, runCommand } from './command.js'
import {
  type Libtorch,
  readLibtorch,
  SUPPORTED,
  supportedText,
  type Unusable,
  type Variant,
  variantOf,
} from './libtorch.js'

/** The wheel that is fetched for the CPU: the cp311 build whatever Python is installed, since only its C++ half is used. */
export const CPU_WHEEL = {
  requirement: `torch==${SUPPORTED.pinned}+cpu`,
  index: 'https://download.pytorch.org/whl/cpu',
  sha256: '6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b',
} as const

/** The CUDA build, with its libraries; fetched only when asked for. pip checks each file against its index's hashes. */
export const CUDA_WHEEL = {
  requirement: `torch==${SUPPORTED.pinned}+cu130`,
  index: 'https://download.pytorch.org/whl/cu130',
} as const

export type Source = 'path' | 'cache' | 'python' | 'pip' | 'archive'

export interface FoundLibtorch extends Libtorch {
  source: Source
}

export interface FindOptions {
  /** Default `cpu`; a path the user names decides for itself. */
  variant?: Variant
  /** A folder; default the environment variable LIBTORCH. */
  libtorch?: string
  /** A LibTorch zip or wheel with its sha256 in hex. */
  archive?: { file: string; sha256: string }
  /** false: look but do not fetch. */
  fetch?: boolean
  env?: NodeJS.ProcessEnv
  run?: RunCommand
  log?: (line: string) => void
}

/** Folder for what is fetched: MAMMO_CACHE, XDG_CACHE_HOME/mammo-retinanet or ~/.cache/mammo-retinanet. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  if (env.MAMMO_CACHE) return resolve(env.MAMMO_CACHE)
  return join(
    env.XDG_CACHE_HOME ? resolve(env.XDG_CACHE_HOME) : join(env.HOME ?? homedir(), '.cache'),
    'mammo-retinanet',
  )
}

/**
 * Resolves to a usable LibTorch. A folder or archive that the user names is taken or refused, never passed over.
 * Rejects with BindingError BUILD that says what was tried.
 */
export async function findLibtorch(options: FindOptions = {}): Promise<FoundLibtorch> {
  const env = options.env ?? process.env
  const log = options.log ?? (() => undefined)
  const run = options.run ?? runCommand
  const variant = options.variant ?? 'cpu'
  const cache = cacheFolder(env)

  if (options.archive !== undefined) return fromArchive(options.archive, cache, run, log)
  const named = options.libtorch ?? env.LIBTORCH
  if (named) return fromPath(named, options.libtorch === undefined ? 'LIBTORCH' : '--libtorch', options.variant)

  const tried: string[] = []
  const cached = fromCache(cache, variant, tried)
  if (cached !== undefined) return cached
  const installed = await fromPython(variant, env, run, tried)
  if (installed !== undefined) return installed
  if (options.fetch === false) {
    throw new BindingError('BUILD', `LibTorch ${supportedText()} (${variant}) was not found\n${list(tried)}`, {
      fix: '`mammo-retinanet build` fetches it, or set LIBTORCH to its folder',
    })
  }
  for (const line of tried) log(`LibTorch: ${line}`)
  return variant === 'cpu' ? fetchCpu(cache, env, run, log) : fetchCuda(cache, env, run, log)
}

const list = (lines: readonly string[]) => lines.map((line) => `  ${line}`).join('\n')

function fromPath(folder: string, name: string, variant: Variant | undefined): FoundLibtorch {
  const found = readLibtorch(folder)
  if ('reason' in found) {
    throw new BindingError(
      'BUILD',
      `${name}: expected the folder of LibTorch ${supportedText()}, but ${found.reason}`,
      {
        where: folder,
        fix: `point ${name} to a folder with include/, lib/ and share/cmake/, or leave it out to have LibTorch found`,
      },
    )
  }
  if (variant !== undefined && variant !== variantOf(found)) {
    throw new BindingError('BUILD', `${name}: expected the ${variant} build of LibTorch, got ${found.version}`, {
      where: folder,
      fix: `leave out --variant, or name another folder`,
    })
  }
  return { ...found, source: 'path' }
}

function fromCache(cache: string, variant: Variant, tried: string[]): FoundLibtorch | undefined {
  if (!existsSync(cache)) {
    tried.push(`cache: ${cache} does not exist`)
    return undefined
  }
  const usable = readdirSync(cache)
    .filter((name) => name.startsWith('libtorch-') && !name.endsWith('.tmp'))
    .map((name) => readLibtorch(join(cache, name)))
    .filter((found): found is Libtorch => !('reason' in found) && variantOf(found) === variant)
    .sort((a, b) => b.version.localeCompare(a.version, 'en', { numeric: true }))
  const best = usable.find((found) => found.version.startsWith(SUPPORTED.pinned)) ?? usable[0]
  if (best === undefined) tried.push(`cache: no usable ${variant} build in ${cache}`)
  return best === undefined ? undefined : { ...best, source: 'cache' }
}

// find_spec does not import torch: no seconds lost, no side effects.
const LOCATE = `
import importlib.util, os
spec = importlib.util.find_spec("torch")
print(os.path.dirname(spec.origin) if spec and spec.origin else "")
`

async function fromPython(
  variant: Variant,
  env: NodeJS.ProcessEnv,
  run: RunCommand,
  tried: string[],
): Promise<FoundLibtorch | undefined> {
  const answer = await run('python3', ['-c', LOCATE], { env, timeoutMs: 60_000 })
  const folder = answer.stdout.trim()
  if (answer.status !== 0 || folder === '') {
    tried.push(answer.missing ? 'Python: no python3 on the PATH' : 'Python: its python3 has no torch')
    return undefined
  }
  const found: Libtorch | Unusable = readLibtorch(folder)
  if ('reason' in found) {
    tried.push(`Python: ${found.reason}`)
    return undefined
  }
  if (variantOf(found) !== variant) {
    tried.push(`Python: torch ${found.version} is the ${variantOf(found)} build, ${variant} was asked for`)
    return undefined
  }
  return { ...found, source: 'python' }
}

async function requirePip(env: NodeJS.ProcessEnv, run: RunCommand): Promise<void> {
  const answer = await run('python3', ['-m', 'pip', '--version'], { env, timeoutMs: 60_000 })
  if (answer.status === 0) return
  throw new BindingError(
    'BUILD',
    answer.missing ? 'python3 is not on the PATH' : "this python3 has no pip, which fetches LibTorch's wheel",
    {
      fix: 'install it (`sudo apt-get install python3-pip`), or set LIBTORCH, or give --archive FILE --sha256 HEX',
    },
  )
}

function pipFailure(requirement: string, stderr: string): BindingError {
  const last = stderr
    .split('\n')
    .filter((line) => /error/i.test(line))
    .slice(-2)
    .join('; ')
  return new BindingError('BUILD', `pip could not fetch ${requirement}${last === '' ? '' : `: ${last}`}`, {
    fix: "check the network or pip's index settings; or set LIBTORCH to a folder; or give --archive FILE --sha256 HEX",
  })
}

// One retry: an index that cannot be reached costs seconds, not minutes.
const PIP = [
  '-m',
  'pip',
  'download',
  '--disable-pip-version-check',
  '--retries',
  '1',
  '--timeout',
  '30',
  '--only-binary=:all:',
]
const PLATFORM = [
  '--python-version',
  '3.11',
  '--implementation',
  'cp',
  '--abi',
  'cp311',
  '--platform',
  'manylinux_2_28_x86_64',
]

async function fetchCpu(
  cache: string,
  env: NodeJS.ProcessEnv,
  run: RunCommand,
  log: (line: string) => void,
): Promise<FoundLibtorch> {
  await requirePip(env, run)
  return intoCache(cache, `libtorch-${SUPPORTED.pinned}-cpu`, 'pip', async (folder) => {
    log(`fetching LibTorch: ${CPU_WHEEL.requirement} (about 190 MB) through pip`)
    const download = join(folder, 'download')
    const args = [...PIP, ...PLATFORM, '--no-deps', '--extra-index-url', CPU_WHEEL.index, '-d', download]
    const answer = await run('python3', [...args, CPU_WHEEL.requirement], { env })
    const wheel = existsSync(download) ? readdirSync(download).find((name) => name.endsWith('.whl')) : undefined
    if (answer.status !== 0 || wheel === undefined) throw pipFailure(CPU_WHEEL.requirement, answer.stderr)
    const file = join(download, wheel)
    await verify(file, CPU_WHEEL.sha256)
    log('sha256 agrees; unpacking')
    await unpack(file, folder, env, run)
    rmSync(download, { recursive: true })
  })
}

async function fetchCuda(
  cache: string,
  env: NodeJS.ProcessEnv,
  run: RunCommand,
  log: (line: string) => void,
): Promise<FoundLibtorch> {
  await requirePip(env, run)
  return intoCache(cache, `libtorch-${SUPPORTED.pinned}-cuda`, 'pip', async (folder) => {
    log(`fetching LibTorch: ${CUDA_WHEEL.requirement} with its CUDA libraries (about 3 GB) through pip`)
    const download = join(folder, 'download')
    const args = [...PIP, ...PLATFORM, '--platform', 'manylinux_2_17_x86_64', '--platform', 'manylinux2014_x86_64']
    args.push('--extra-index-url', CUDA_WHEEL.index, '-d', download, CUDA_WHEEL.requirement)
    const answer = await run('python3', args, { env })
    if (answer.status !== 0) throw pipFailure(CUDA_WHEEL.requirement, answer.stderr)
    for (const wheel of readdirSync(download).filter((name) => /^(torch|nvidia)[-_]/.test(name))) {
      log(`unpacking ${wheel}`)
      await unpack(join(download, wheel), folder, env, run)
    }
    rmSync(download, { recursive: true })
  })
}

async function fromArchive(
  archive: { file: string; sha256: string },
  cache: string,
  run: RunCommand,
  log: (line: string) => void,
): Promise<FoundLibtorch> {
  const sha256 = archive.sha256.toLowerCase()
  if (!/^[0-9a-f]{64}$/.test(sha256)) {
    throw new BindingError('BUILD', `--sha256: expected 64 hexadecimal digits, got "${archive.sha256}"`, {
      fix: 'copy it from where the archive was published',
    })
  }
  if (!existsSync(archive.file)) {
    throw new BindingError('BUILD', '--archive: the file does not exist', {
      where: archive.file,
      fix: 'name an existing file',
    })
  }
  await verify(archive.file, sha256)
  const name = `libtorch-archive-${sha256.slice(0, 16)}`
  return intoCache(cache, name, 'archive', async (folder) => {
    log(`unpacking ${basename(archive.file)}`)
    await unpack(archive.file, folder, process.env, run)
  })
}

/** Fills a temporary folder and renames it, so that the cache never holds half a LibTorch; a second process may do the same. */
async function intoCache(
  cache: string,
  name: string,
  source: Source,
  fill: (folder: string) => Promise<void>,
): Promise<FoundLibtorch> {
  const target = join(cache, name)
  const present = readLibtorch(target)
  if (!('reason' in present)) return { ...present, source }
  const temporary = `${target}.${randomBytes(4).toString('hex')}.tmp`
  mkdirSync(temporary, { recursive: true })
  try {
    await fill(temporary)
    const found = readLibtorch(temporary)
    if ('reason' in found) {
      throw new BindingError('BUILD', `what was unpacked is not a usable LibTorch: ${found.reason}`, {
        fix: `use LibTorch ${supportedText()} for Linux x64 with the C++11 ABI`,
      })
    }
    if ('reason' in readLibtorch(target)) {
      rmSync(target, { recursive: true, force: true })
      renameSync(temporary, target)
    }
  } finally {
    rmSync(temporary, { recursive: true, force: true })
  }
  const found = readLibtorch(target)
  if ('reason' in found)
    throw new BindingError('BUILD', found.reason, { where: dirname(target), fix: 'run the build again' })
  return { ...found, source }
}

async function verify(file: string, expected: string): Promise<void> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file)) hash.update(chunk as Uint8Array)
  const actual = hash.digest('hex')
  if (actual === expected) return
  throw new BindingError('BUILD', `sha256: expected ${expected}, got ${actual}; nothing was unpacked`, {
    where: file,
    fix: 'fetch the file again from its publisher; if it differs again, do not use it',
  })
}

// Only what compiling, linking and running need: about a third of the wheel is Python. Refuses names that leave the folder.
const UNPACK = `
import sys, zipfile
archive, folder = sys.argv[1:]
keep = ("include/", "lib/", "share/")
with zipfile.ZipFile(archive) as z:
    for name in z.namelist():
        if name.startswith("/") or ".." in name.split("/"):
            sys.exit("unsafe name in archive: " + name)
        top, _, rest = name.partition("/")
        licence = top.endswith(".dist-info") and "licen" in rest.lower()
        if top == "nvidia" or licence or (top in ("torch", "libtorch") and (rest.startswith(keep) or rest in ("version.py", "build-version"))):
            z.extract(name, folder)
`

async function unpack(archive: string, folder: string, env: NodeJS.ProcessEnv, run: RunCommand): Promise<void> {
  const answer = await run('python3', ['-c', UNPACK, archive, folder], { env })
  if (answer.status === 0) return
  const full = /No space left/i.test(answer.stderr)
  const reason = answer.missing ? 'python3 is not on the PATH' : (answer.stderr.trim().split('\n').pop() ?? '')
  throw new BindingError('BUILD', `the archive cannot be unpacked: ${reason}`, {
    where: archive,
    fix: full
      ? 'free disk space or set MAMMO_CACHE to another disk'
      : 'install Python 3, and fetch the archive again if it is damaged',
  })
}
