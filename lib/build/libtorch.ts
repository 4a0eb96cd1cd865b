// What a LibTorch folder is: an unpacked wheel, an unpacked release archive, or an installed Python package. Only reads files.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

export type Variant = 'cpu' | 'cuda'

export interface Libtorch {
  /** Folder with include/, lib/ and share/cmake/Torch. */
  path: string
  /** As it names itself, such as `2.13.0+cpu`. */
  version: string
  /** CUDA version it was built with; null for the CPU build. */
  cuda: string | null
  /** `cxx11`, or `pre-cxx11` for builds with the old string layout (never supported). */
  abi: 'cxx11' | 'pre-cxx11'
}

/** First and last supported minor version; the one that is fetched. */
export const SUPPORTED = { from: [2, 11], to: [2, 13], pinned: '2.13.0' } as const

/** Why a folder cannot be used; a sentence for the log and for errors. */
export interface Unusable {
  reason: string
}

/** Reads a LibTorch folder; also accepts the folder that holds `torch/` or `libtorch/`. */
export function readLibtorch(folder: string): Libtorch | Unusable {
  const base = resolve(folder)
  const path = [base, join(base, 'torch'), join(base, 'libtorch')].find((candidate) =>
    existsSync(join(candidate, 'share', 'cmake', 'Torch', 'TorchConfig.cmake')),
  )
  if (path === undefined) return { reason: `no share/cmake/Torch/TorchConfig.cmake in ${base}` }
  const version = readVersion(path)
  if (version === undefined) return { reason: `no version.py or build-version in ${path}` }
  for (const part of ['include/ATen/ATen.h', 'lib/libtorch_cpu.so', 'lib/libc10.so']) {
    if (!existsSync(join(path, part))) return { reason: `${part} is missing in ${path}` }
  }
  if (!readdirSync(join(path, 'lib')).some((name) => name.startsWith('libgomp'))) {
    return { reason: `no libgomp in ${join(path, 'lib')} (a build without GNU OpenMP)` }
  }
  const config = readFileSync(join(path, 'share', 'cmake', 'Torch', 'TorchConfig.cmake'), 'utf8')
  const libtorch: Libtorch = {
    path,
    version,
    cuda: readCuda(path, version),
    abi: /_GLIBCXX_USE_CXX11_ABI=0/.test(config) ? 'pre-cxx11' : 'cxx11',
  }
  if (!isSupported(version)) return { reason: `version ${version}, supported are ${supportedText()}` }
  if (libtorch.abi !== 'cxx11') return { reason: `${path} has the old C++ ABI (_GLIBCXX_USE_CXX11_ABI=0)` }
  return libtorch
}

export function isSupported(version: string): boolean {
  const [major, minor] = version.split('.').map(Number)
  return major === SUPPORTED.from[0] && minor! >= SUPPORTED.from[1] && minor! <= SUPPORTED.to[1]
}

export function supportedText(): string {
  return `${SUPPORTED.from.join('.')} to ${SUPPORTED.to.join('.')}`
}

export function variantOf(libtorch: Libtorch): Variant {
  return libtorch.cuda === null ? 'cpu' : 'cuda'
}

function readVersion(path: string): string | undefined {
  const python = join(path, 'version.py')
  if (existsSync(python)) return /__version__ = '([^']+)'/.exec(readFileSync(python, 'utf8'))?.[1]
  const archive = join(path, 'build-version')
  if (existsSync(archive)) return readFileSync(archive, 'utf8').trim()
  return undefined
}

function readCuda(path: string, version: string): string | null {
  if (!existsSync(join(path, 'lib', 'libtorch_cuda.so'))) return null
  const python = join(path, 'version.py')
  const named = existsSync(python) ? /cuda[^=]*= '([\d.]+)'/.exec(readFileSync(python, 'utf8'))?.[1] : undefined
  const tag = /\+cu(\d+)(\d)$/.exec(version)
  return named ?? (tag === null ? 'unknown' : `${tag[1]}.${tag[2]}`)
}
