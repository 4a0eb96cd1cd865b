// Where the real data of the tests lies: the folder in MAMMO_DATA, else ../shared/data beside the package. Tests skip without it.
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { packageRoot } from '../lib/package-root.js'

/** Absolute path of the data folder, or of something in it. */
export function dataPath(...parts: string[]): string {
  return join(resolve(process.env['MAMMO_DATA'] ?? join(packageRoot(), '..', 'shared', 'data')), ...parts)
}

/** The reason to skip a test that needs `part` of the data folder; false when it is there. */
export function withoutData(...parts: string[]): string | false {
  const path = dataPath(...parts)
  return existsSync(path) ? false : `no ${parts.join('/')} in the folder of MAMMO_DATA`
}
