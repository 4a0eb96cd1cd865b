// Finds the folder of the installed package, from the sources or from dist/, by walking up to its package.json.
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Absolute path of the package's top folder (holds package.json, native/, build/). */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  for (;;) {
    const file = join(folder, 'package.json')
    if (existsSync(file) && JSON.parse(readFileSync(file, 'utf8')).name === 'mammo-retinanet') return folder
    const parent = dirname(folder)
    if (parent === folder) throw new Error('package.json of mammo-retinanet not found above this file')
    folder = parent
  }
}

/** Where the built addon lies, whether it exists or not. */
export function addonPath(): string {
  return join(packageRoot(), 'build', 'native', 'Release', 'mammo.node')
}

/** Version of this package. */
export function toolVersion(): string {
  return JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')).version
}
