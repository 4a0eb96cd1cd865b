// Opens the native addon: the only place that requires the .node file. Every way to fail ends in a BindingError whose message
// numbers the likely causes with the command that mends each. Opening downloads and builds nothing (lib/build does).
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { BindingError } from '../errors.js'
import { addonPath } from '../package-root.js'
import { ABI_VERSION, type NativeBinding } from './types.js'

let opened: NativeBinding | undefined

/** True when the addon has been built; it may still fail to open. */
export function addonExists(): boolean {
  return existsSync(addonPath())
}

/** The addon, opened once per thread. Throws BINDING_MISSING, BINDING_LOAD or BINDING_ABI. */
export function loadBinding(path: string = addonPath()): NativeBinding {
  if (opened !== undefined && path === addonPath()) return opened
  if (!existsSync(path)) throw missing(path)
  let binding: NativeBinding
  try {
    binding = createRequire(import.meta.url)(path) as NativeBinding
  } catch (cause) {
    throw loadFailure(path, cause)
  }
  const { abiVersion } = binding.buildInfo()
  if (abiVersion !== ABI_VERSION) throw abiMismatch(path, abiVersion)
  if (path === addonPath()) opened = binding
  return binding
}

function missing(path: string): BindingError {
  const platform = `${process.platform}-${process.arch}`
  const supported = platform === 'linux-x64'
  return new BindingError(
    'BINDING_MISSING',
    supported
      ? 'the native addon (LibTorch) has not been built'
      : `the native addon is supported on linux-x64 with glibc, this is ${platform}`,
    {
      where: path,
      fix: supported
        ? "`npm run build` or `mammo-retinanet build` (needs a C++20 compiler, CMake >= 3.25 and either LIBTORCH or Python's pip)"
        : 'train on Linux x64; prediction with an exported ONNX file works here without the addon',
    },
  )
}

/** What build-info.json, written beside the addon by the build, says of the LibTorch it was linked to. */
function linkedLibtorch(path: string): string | undefined {
  try {
    const info = JSON.parse(readFileSync(join(dirname(path), 'build-info.json'), 'utf8'))
    return typeof info.libtorch?.path === 'string' ? info.libtorch.path : undefined
  } catch {
    return undefined
  }
}

function loadFailure(path: string, cause: unknown): BindingError {
  const text = (cause instanceof Error ? cause.message : String(cause)).split('\n')[0] ?? ''
  const libtorch = linkedLibtorch(path)
  const remedies: string[] = []
  if (libtorch !== undefined && !existsSync(libtorch)) {
    remedies.push(`the LibTorch it was built with is gone (${libtorch}): \`mammo-retinanet build --clean\``)
  }
  if (/undefined symbol|version .* not found/i.test(text)) {
    remedies.push('it was built for another LibTorch or compiler runtime: `mammo-retinanet build --clean`')
  }
  if (/libcud|libnv/i.test(text)) {
    remedies.push(
      'CUDA libraries are missing: install the NVIDIA driver, or `mammo-retinanet build --variant cpu --clean`',
    )
  }
  if (/cannot open shared object file/i.test(text)) {
    remedies.push('a library of LibTorch was moved or deleted: point LIBTORCH to it and run `mammo-retinanet build`')
  }
  if (/wrong ELF class|invalid ELF|file too short|not a valid/i.test(text)) {
    remedies.push('the file is truncated or for another machine: `mammo-retinanet build --clean`')
  }
  if (/static TLS/i.test(text)) {
    remedies.push('another package loaded first took the static TLS block: import mammo-retinanet before it')
  }
  if (/GLIBC/i.test(text)) {
    remedies.push(
      'the C library is older than the one it was built on: build on this machine, `mammo-retinanet build --clean`',
    )
  }
  remedies.push('for everything the addon depends on: `mammo-retinanet doctor`')
  const list = remedies.map((remedy, i) => `  ${i + 1}. ${remedy}`).join('\n')
  return new BindingError('BINDING_LOAD', `the native addon cannot be opened: ${text}\n${list}`, {
    where: path,
    fix: '`mammo-retinanet build --clean`, then `mammo-retinanet doctor`',
    cause,
  })
}

function abiMismatch(path: string, found: number): BindingError {
  return new BindingError(
    'BINDING_ABI',
    `the native addon has interface version ${found}, this release expects ${ABI_VERSION}: it was built from other sources`,
    { where: path, fix: '`npm run build`' },
  )
}
