// The rooms of the design as a rule that fails: reads the imports of lib and the includes of native, and refuses an edge the
// table does not allow, and a second file that loads a heavy dependency. Imports are read from the syntax tree, so that a name in
// a string or a comment is no edge; `import type` of the binding's contract is open to all, since it is gone when compiled.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, posix, relative, sep } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import { packageRoot } from '../lib/package-root.js'

/** What each room of lib may import besides itself and the shared files. */
const ROOMS: Record<string, readonly string[]> = {
  binding: [],
  build: [],
  config: [],
  geometry: [],
  weights: [],
  data: ['geometry', 'config'],
  evaluate: ['geometry'],
  anchors: ['geometry', 'config'],
  onnx: ['config'],
  train: ['binding', 'data', 'config', 'evaluate', 'weights'],
  predict: ['onnx', 'geometry', 'data', 'config'],
  report: ['evaluate', 'geometry', 'config'],
  // Fusion and suppression of stored detections are lib/geometry's.
  experiments: ['train', 'evaluate', 'config', 'geometry'],
  tasks: [
    'binding',
    'build',
    'config',
    'geometry',
    'weights',
    'data',
    'evaluate',
    'anchors',
    'onnx',
    'train',
    'predict',
    'report',
    'experiments',
  ],
  cli: ['tasks', 'config'],
}

/** Files beside the rooms, open to every room, and what they may import themselves. */
const SHARED: Record<string, readonly string[]> = {
  'errors.ts': [],
  'package-root.ts': [],
  'machine.ts': [],
  'random.ts': [],
  'atomic-write.ts': ['errors.ts'],
  'file-lock.ts': ['atomic-write.ts', 'errors.ts'],
}

/** The one file that loads each heavy dependency; `.node` stands for the addon. */
const OWNERS: Record<string, string> = {
  '.node': 'lib/binding/load.ts',
  'cmake-js': 'lib/build/build-addon.ts',
  dcmjs: 'lib/data/dicom/parse.ts',
  h5wasm: 'lib/weights/keras-file.ts',
  'onnxruntime-node': 'lib/onnx/runtime.ts',
  sharp: 'lib/data/raster.ts',
  yauzl: 'lib/weights/torch-file.ts',
}

interface Import {
  specifier: string
  typeOnly: boolean
}

interface Imports {
  modules: Import[]
  /** Calls of createRequire(...)(something computed) or process.dlopen. */
  opensNative: boolean
}

function readImports(path: string, source: string): Imports {
  const file = ts.createSourceFile(path, source, ts.ScriptTarget.ES2022, true)
  const found: Imports = { modules: [], opensNative: false }
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) {
      const { moduleSpecifier: specifier } = node
      if (specifier !== undefined && ts.isStringLiteral(specifier)) {
        found.modules.push({ specifier: specifier.text, typeOnly: isTypeOnly(node) })
      }
    } else if (ts.isCallExpression(node)) {
      const [first] = node.arguments
      const callee = node.expression
      const required = ts.isCallExpression(callee) && callee.expression.getText(file) === 'createRequire'
      const loads = required || callee.kind === ts.SyntaxKind.ImportKeyword || callee.getText(file) === 'require'
      if (loads && first !== undefined && ts.isStringLiteral(first)) {
        found.modules.push({ specifier: first.text, typeOnly: false })
      } else if (required || callee.getText(file) === 'process.dlopen') {
        found.opensNative = true
      }
    }
    ts.forEachChild(node, visit)
  }
  visit(file)
  return found
}

function isTypeOnly(node: ts.ImportDeclaration | ts.ExportDeclaration): boolean {
  if (ts.isExportDeclaration(node)) return node.isTypeOnly
  const clause = node.importClause
  if (clause === undefined) return false
  if (clause.isTypeOnly) return true
  const names = clause.namedBindings
  return (
    clause.name === undefined &&
    names !== undefined &&
    ts.isNamedImports(names) &&
    names.elements.every((e) => e.isTypeOnly)
  )
}

/** Everything a file of lib does that the table does not allow. `path` is relative to the package, with `/`. */
function faultsOfModule(path: string, source: string): string[] {
  const { modules, opensNative } = readImports(path, source)
  const faults: string[] = []
  const owns = (name: string) => {
    if (OWNERS[name] !== path) faults.push(`${path} loads ${name}, which belongs to ${OWNERS[name]}`)
  }
  if (opensNative) owns('.node')
  for (const { specifier, typeOnly } of modules) {
    if (specifier.endsWith('.node')) {
      owns('.node')
      continue
    }
    const name = specifier.split('/')[0]!
    if (!typeOnly && OWNERS[name] !== undefined) owns(name)
    if (!specifier.startsWith('.')) continue
    const target = posix.join(posix.dirname(path), specifier).replace(/\.js$/, '.ts')
    if (!isAllowed(path, target, typeOnly)) faults.push(`${path} imports ${target}`)
  }
  return faults
}

function isAllowed(from: string, to: string, typeOnly: boolean): boolean {
  const [top, room = '', ...rest] = from.split('/')
  const [targetTop, target = ''] = to.split('/')
  if (top !== 'lib' || targetTop !== 'lib') return false
  if (rest.length === 0) {
    if (room === 'index.ts') return true
    return SHARED[room]?.includes(target) ?? false
  }
  if (target === room || SHARED[target] !== undefined) return true
  if (to === 'lib/binding/types.ts' && typeOnly) return true
  return ROOMS[room]?.includes(target) ?? false
}

/** Everything an own file of native includes that its room must not know. */
function faultsOfSource(path: string, source: string): string[] {
  const faults: string[] = []
  for (const [, header = ''] of source.matchAll(/^\s*#\s*include\s*[<"]([^>"]+)[>"]/gm)) {
    const refuse = (why: string) => faults.push(`${path} includes ${header}: ${why}`)
    const isNode = /^(napi|node_api|js_native_api|node)\b/.test(header)
    if (isNode && path !== 'native/addon/napi_setup.h') refuse('napi_setup.h is the only include of Node')
    if (path.startsWith('native/core/')) {
      if (header.startsWith('addon/') || header.includes('/addon/')) refuse('core knows nothing of the addon')
      if (path.startsWith('native/core/ops/') && /^core\/(?!ops\/|config\.h$|error\.h$)/.test(header)) {
        refuse('an op knows its configuration and other ops only')
      }
      if (path.endsWith('.cu') && /^(ATen|torch|c10)\//.test(header)) refuse('kernels are plain launchers')
    }
  }
  return faults
}

const root = packageRoot()

function filesUnder(folder: string, pattern: RegExp): string[] {
  const base = join(root, folder)
  if (!existsSync(base)) return []
  return readdirSync(base, { recursive: true, encoding: 'utf8' })
    .filter((name) => pattern.test(name))
    .map((name) => relative(root, join(base, name)).split(sep).join('/'))
    .sort()
}

const read = (path: string) => readFileSync(join(root, path), 'utf8')

t.test('lib keeps to its rooms', async (t) => {
  const files = filesUnder('lib', /\.ts$/)
  t.ok(files.length > 20, `${files.length} files read`)
  t.same(
    files.flatMap((path) => faultsOfModule(path, read(path))),
    [],
  )
  const unknown = files.filter((path) => {
    const [, room = '', ...rest] = path.split('/')
    return rest.length === 0 ? room !== 'index.ts' && SHARED[room] === undefined : ROOMS[room] === undefined
  })
  t.same(unknown, [], 'every file lies in a room of the table')
})

t.test('native keeps to its rooms', async (t) => {
  const files = filesUnder('native', /\.(h|cc|cu|cuh)$/).filter((path) => !path.startsWith('native/third_party/'))
  t.ok(files.length > 10, `${files.length} files read`)
  t.same(
    files.flatMap((path) => faultsOfSource(path, read(path))),
    [],
  )
})

t.test('owners of heavy dependencies load them', async (t) => {
  for (const [name, path] of Object.entries(OWNERS)) {
    if (!existsSync(join(root, path))) {
      t.fail(`${path}, owner of ${name}, does not exist`)
      continue
    }
    const { modules, opensNative } = readImports(path, read(path))
    const loads = name === '.node' ? opensNative : modules.some((m) => m.specifier.split('/')[0] === name)
    t.ok(loads, `${path} loads ${name}`)
  }
})

t.test('a forbidden edge is found', async (t) => {
  const fault = (path: string, source: string) => faultsOfModule(path, source)
  t.same(fault('lib/geometry/fake.ts', "import { train } from '../train/trainer.js'"), [
    'lib/geometry/fake.ts imports lib/train/trainer.ts',
  ])
  t.same(fault('lib/cli/fake.ts', "export { x } from '../binding/session.js'"), [
    'lib/cli/fake.ts imports lib/binding/session.ts',
  ])
  t.same(fault('lib/cli/commands/fake.ts', "const x = await import('../../data/prepare.js')"), [
    'lib/cli/commands/fake.ts imports lib/data/prepare.ts',
  ])
  t.same(fault('lib/errors.ts', "import { x } from './package-root.js'"), ['lib/errors.ts imports lib/package-root.ts'])
  t.same(fault('lib/config/fake.ts', "import { ABI_VERSION } from '../binding/types.js'"), [
    'lib/config/fake.ts imports lib/binding/types.ts',
  ])
  t.same(fault('lib/data/fake.ts', "import x from '../../test/oracles.js'"), [
    'lib/data/fake.ts imports test/oracles.ts',
  ])
  t.same(fault('lib/report/fake.ts', "import sharp from 'sharp'"), [
    'lib/report/fake.ts loads sharp, which belongs to lib/data/raster.ts',
  ])
  t.same(fault('lib/predict/fake.ts', "const ort = await import('onnxruntime-node')").length, 1)
  t.same(fault('lib/train/fake.ts', "createRequire(import.meta.url)('../build/mammo.node')").length, 1)
  t.same(fault('lib/train/fake.ts', 'createRequire(import.meta.url)(path)').length, 1)
  t.same(fault('lib/tasks/fake.ts', "createRequire(import.meta.url)('cmake-js')").length, 1)

  t.same(
    fault('lib/config/fake.ts', "import type { LossConfig } from '../binding/types.js'"),
    [],
    'the contract is open',
  )
  t.same(
    fault('lib/report/fake.ts', "const text = \"import sharp from 'sharp'\" // import 'dcmjs'"),
    [],
    'text is no edge',
  )

  t.same(faultsOfSource('native/core/model/fake.cc', '#include <napi.h>').length, 1)
  t.same(faultsOfSource('native/addon/fake.cc', '#include <node_api.h>').length, 1)
  t.same(faultsOfSource('native/core/fake.cc', '#include "addon/engine.h"').length, 1)
  t.same(faultsOfSource('native/core/ops/cpu/fake.cc', '#include "core/session.h"').length, 1)
  t.same(faultsOfSource('native/core/ops/cuda/fake.cu', '#include <ATen/ATen.h>').length, 1)
  t.same(faultsOfSource('native/core/ops/cpu/fake.cc', '#include "core/config.h"\n#include <ATen/ATen.h>'), [])
})
