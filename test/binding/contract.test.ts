// The names of NativeBinding and those the addon registers, compared both ways, and the version on both sides.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import { addonExists, loadBinding } from '../../lib/binding/load.js'
import { ABI_VERSION, type NativeBinding } from '../../lib/binding/types.js'
import { packageRoot } from '../../lib/package-root.js'

/** Method names of an interface of lib/binding/types.ts. */
function methodsOf(name: string): string[] {
  const path = join(packageRoot(), 'lib', 'binding', 'types.ts')
  const file = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.ES2022, true)
  const found = file.statements.filter(ts.isInterfaceDeclaration).find((statement) => statement.name.text === name)
  return (found?.members ?? []).filter(ts.isMethodSignature).map((member) => member.name?.getText(file) ?? '')
}

const skip = addonExists() ? false : 'the addon is not built (npm run build)'

t.test('the addon registers exactly the calls of the contract', { skip }, async (t) => {
  const binding = loadBinding()
  const declared = methodsOf('NativeBinding').sort()
  t.ok(declared.length > 15)
  t.same(Object.keys(binding).sort(), declared, 'registered')
  t.same([...binding.buildInfo().functions].sort(), declared, 'listed by buildInfo')
  for (const name of declared) t.type(binding[name as keyof NativeBinding], 'function', name)
})

t.test('both sides have the same interface version', { skip }, async (t) => {
  t.equal(loadBinding().buildInfo().abiVersion, ABI_VERSION)
})
