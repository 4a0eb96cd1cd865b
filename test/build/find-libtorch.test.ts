import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { CommandResult, RunCommand } from '../../lib/build/command.js'
import { CPU_WHEEL, cacheFolder, findLibtorch } from '../../lib/build/find-libtorch.js'

/** A folder that passes for a LibTorch. */
function makeLibtorch(folder: string, version: string, cuda: string | null = null, abi = 1): string {
  for (const part of ['include/ATen', 'lib', 'share/cmake/Torch']) mkdirSync(join(folder, part), { recursive: true })
  writeFileSync(join(folder, 'include/ATen/ATen.h'), '')
  for (const file of ['libtorch_cpu.so', 'libc10.so', 'libgomp.so.1']) writeFileSync(join(folder, 'lib', file), '')
  if (cuda !== null) writeFileSync(join(folder, 'lib/libtorch_cuda.so'), '')
  writeFileSync(
    join(folder, 'share/cmake/Torch/TorchConfig.cmake'),
    `set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=${abi}")\n`,
  )
  const cudaText = cuda === null ? 'None' : `'${cuda}'`
  writeFileSync(join(folder, 'version.py'), `__version__ = '${version}'\ncuda: Optional[str] = ${cudaText}\n`)
  return folder
}

const done = (stdout = '', status = 0): CommandResult => ({ status, stdout, stderr: '', missing: false })

/** A python3 whose torch lies in `torch`, and whose pip writes `wheel` when it downloads. Records what was asked. */
function fakePython(answers: { torch?: string; wheel?: string; pip?: boolean; unpack?: (folder: string) => void }) {
  const calls: string[][] = []
  const run: RunCommand = async (program, args) => {
    calls.push([program, ...args])
    if (args[0] === '-c' && args[1]?.includes('find_spec')) return done(answers.torch ?? '')
    if (args[2] === '--version') return done('pip 23', answers.pip === false ? 1 : 0)
    if (args[2] === 'download') {
      const folder = args[args.indexOf('-d') + 1]!
      if (answers.wheel === undefined) return { ...done('', 1), stderr: 'ERROR: No matching distribution found' }
      mkdirSync(folder, { recursive: true })
      writeFileSync(join(folder, 'torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl'), answers.wheel)
      return done()
    }
    answers.unpack?.(args[3]!)
    return done()
  }
  return { calls, run, downloads: () => calls.filter((call) => call[3] === 'download') }
}

t.test('LIBTORCH comes first and decides the variant', async (t) => {
  const dir = t.testdir()
  const named = makeLibtorch(join(dir, 'named'), '2.12.1+cu130', '13.0')
  makeLibtorch(join(dir, 'cache/libtorch-2.13.0-cpu/torch'), '2.13.0+cpu')
  const python = fakePython({})
  const found = await findLibtorch({ env: { LIBTORCH: named, MAMMO_CACHE: join(dir, 'cache') }, run: python.run })
  t.match(found, { path: named, version: '2.12.1+cu130', cuda: '13.0', abi: 'cxx11', source: 'path' })
  t.same(python.calls, [], 'nothing else was asked')
})

t.test('a named folder that does not fit is refused, never passed over', async (t) => {
  const dir = t.testdir()
  const cache = makeLibtorch(join(dir, 'cache/libtorch-2.13.0-cpu/torch'), '2.13.0+cpu')
  const env = (LIBTORCH: string) => ({ env: { LIBTORCH, MAMMO_CACHE: cache }, run: fakePython({}).run })
  await t.rejects(findLibtorch(env(join(dir, 'nowhere'))), { code: 'ERR_MAMMO_BUILD', message: /LIBTORCH: expected/ })
  const old = makeLibtorch(join(dir, 'old'), '2.4.0+cpu')
  await t.rejects(findLibtorch(env(old)), { message: /version 2\.4\.0\+cpu, supported are 2\.11 to 2\.13/ })
  const layout = makeLibtorch(join(dir, 'layout'), '2.13.0+cpu', null, 0)
  await t.rejects(findLibtorch(env(layout)), { message: /old C\+\+ ABI/ })
  const cpu = makeLibtorch(join(dir, 'cpu'), '2.13.0+cpu')
  await t.rejects(findLibtorch({ ...env(cpu), variant: 'cuda' }), { message: /expected the cuda build/ })
})

t.test('then the cache, the pinned version before others, only the variant asked for', async (t) => {
  const dir = t.testdir()
  makeLibtorch(join(dir, 'libtorch-a/torch'), '2.12.0+cpu')
  makeLibtorch(join(dir, 'libtorch-b'), '2.13.0+cpu')
  makeLibtorch(join(dir, 'libtorch-c'), '2.13.0+cu130', '13.0')
  makeLibtorch(join(dir, 'libtorch-d.1234.tmp/torch'), '2.13.0+cpu')
  const python = fakePython({ torch: makeLibtorch(join(dir, 'python/torch'), '2.13.0+cpu') })
  const found = await findLibtorch({ env: { MAMMO_CACHE: dir }, run: python.run })
  t.match(found, { path: join(dir, 'libtorch-b'), source: 'cache' })
  t.same(python.calls, [])
  const cuda = await findLibtorch({ env: { MAMMO_CACHE: dir }, variant: 'cuda', run: python.run })
  t.match(cuda, { path: join(dir, 'libtorch-c'), source: 'cache' })
})

t.test("then the installed torch of the PATH's Python, if supported and of the variant", async (t) => {
  const dir = t.testdir()
  const env = { MAMMO_CACHE: join(dir, 'cache') }
  const torch = makeLibtorch(join(dir, 'site/torch'), '2.11.0+cpu')
  const python = fakePython({ torch })
  t.match(await findLibtorch({ env, run: python.run }), { path: torch, source: 'python' })
  t.same(python.downloads(), [])

  const cuda = fakePython({ torch: makeLibtorch(join(dir, 'gpu/torch'), '2.13.0', '13.0') })
  await t.rejects(findLibtorch({ env, run: cuda.run, fetch: false }), {
    code: 'ERR_MAMMO_BUILD',
    message: /torch 2\.13\.0 is the cuda build, cpu was asked for/,
  })
  const newer = fakePython({ torch: makeLibtorch(join(dir, 'new/torch'), '2.14.1+cpu') })
  await t.rejects(findLibtorch({ env, run: newer.run, fetch: false }), { message: /version 2\.14\.1\+cpu, supported/ })
})

t.test('then the CPU wheel through pip, pinned; a wrong file is not unpacked', async (t) => {
  const dir = t.testdir()
  const env = { MAMMO_CACHE: join(dir, 'cache') }
  const python = fakePython({ wheel: 'not the wheel', unpack: () => t.fail('unpacked') })
  await t.rejects(findLibtorch({ env, run: python.run }), {
    code: 'ERR_MAMMO_BUILD',
    message: new RegExp(`sha256: expected ${CPU_WHEEL.sha256}, got`),
  })
  const [call = []] = python.downloads()
  for (const word of ['--no-deps', '--only-binary=:all:', 'cp311', 'manylinux_2_28_x86_64', 'torch==2.13.0+cpu']) {
    t.ok(call.includes(word), word)
  }
  t.equal(call[call.indexOf('--extra-index-url') + 1], 'https://download.pytorch.org/whl/cpu')
  t.equal(call[call.indexOf('--retries') + 1], '1')
  t.same(readdirSync(join(dir, 'cache')), [], 'the cache holds nothing half done')

  await t.rejects(findLibtorch({ env, run: fakePython({}).run }), { message: /No matching distribution found/ })
  await t.rejects(findLibtorch({ env, run: fakePython({ pip: false }).run }), { message: /no pip/, fix: /LIBTORCH/ })
  const none: RunCommand = async () => ({ status: null, stdout: '', stderr: '', missing: true })
  await t.rejects(findLibtorch({ env, run: none }), { message: /python3 is not on the PATH/ })
})

t.test('an archive is verified, unpacked into the cache, and found there afterwards', async (t) => {
  const dir = t.testdir({ 'libtorch.zip': 'archive' })
  const env = { MAMMO_CACHE: join(dir, 'cache') }
  const file = join(dir, 'libtorch.zip')
  const sha256 = createHash('sha256').update('archive').digest('hex')
  const python = fakePython({ unpack: (folder) => void makeLibtorch(join(folder, 'libtorch'), '2.13.0+cpu') })
  const found = await findLibtorch({ env, run: python.run, archive: { file, sha256: sha256.toUpperCase() } })
  t.match(found, { version: '2.13.0+cpu', source: 'archive' })
  t.ok(found.path.startsWith(join(dir, 'cache', 'libtorch-archive-')))
  t.match(await findLibtorch({ env, run: python.run }), { path: found.path, source: 'cache' })

  await t.rejects(findLibtorch({ env, run: python.run, archive: { file, sha256: '0'.repeat(64) } }), {
    message: /sha256: expected 0{64}/,
  })
  await t.rejects(findLibtorch({ env, run: python.run, archive: { file, sha256: 'abc' } }), { message: /64 hexa/ })
  const absent = { file: join(dir, 'none.zip'), sha256 }
  await t.rejects(findLibtorch({ env, run: python.run, archive: absent }), { message: /does not exist/ })
})

t.test('what is unpacked must be a LibTorch; the cache stays clean', async (t) => {
  const dir = t.testdir({ 'other.zip': 'archive' })
  const env = { MAMMO_CACHE: join(dir, 'cache') }
  const sha256 = createHash('sha256').update('archive').digest('hex')
  const archive = { file: join(dir, 'other.zip'), sha256 }
  await t.rejects(findLibtorch({ env, run: fakePython({}).run, archive }), { message: /not a usable LibTorch/ })
  t.same(readdirSync(join(dir, 'cache')), [])
})

t.test('the cache folder', async (t) => {
  t.equal(cacheFolder({ MAMMO_CACHE: '/a/b' }), '/a/b')
  t.equal(cacheFolder({ XDG_CACHE_HOME: '/x' }), '/x/mammo-retinanet')
  t.equal(cacheFolder({ HOME: '/home/u' }), '/home/u/.cache/mammo-retinanet')
  t.notOk(existsSync('/a/b'), 'asking makes nothing')
})
