import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { addonExists, loadBinding } from '../../lib/binding/load.js'
import { addonPath } from '../../lib/package-root.js'

t.test('a missing addon says how to build it', async (t) => {
  const path = join(t.testdir(), 'mammo.node')
  t.throws(() => loadBinding(path), {
    code: 'ERR_MAMMO_BINDING_MISSING',
    where: path,
    exitCode: 4,
    fix: /npm run build/,
  })
})

t.test('a file that does not open lists numbered remedies, the likely one first', async (t) => {
  const path = join(t.testdir(), 'mammo.node')
  writeFileSync(path, 'not a library')
  t.throws(() => loadBinding(path), {
    code: 'ERR_MAMMO_BINDING_LOAD',
    exitCode: 4,
    message:
      /cannot be opened: .*\n {2}1\. the file is truncated or for another machine: `mammo-retinanet build --clean`\n {2}2\./s,
  })
})

t.test('a LibTorch that has gone is named', async (t) => {
  const dir = t.testdir({ 'build-info.json': JSON.stringify({ libtorch: { path: '/nowhere/torch' } }) })
  writeFileSync(join(dir, 'mammo.node'), 'not a library')
  t.throws(() => loadBinding(join(dir, 'mammo.node')), {
    message: /1\. the LibTorch it was built with is gone \(\/nowhere\/torch\)/,
  })
})

t.test('opened once', { skip: addonExists() ? false : 'the addon is not built (npm run build)' }, async (t) => {
  t.equal(loadBinding(), loadBinding())
  t.equal(loadBinding(addonPath()), loadBinding())
})
