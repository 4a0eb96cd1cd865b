// Where the oracle fixtures are (MAMMO_ORACLES, by default ../shared/oracles beside the package) and how tests read them. Without the
// folder a test is skipped with that reason. Any folder of the same format works.
import { existsSync, readdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { packageRoot } from '../lib/package-root.js'
import { openSafetensors } from '../lib/weights/safetensors.js'

export const oracleFolder = process.env['MAMMO_ORACLES'] ?? join(packageRoot(), '..', 'shared', 'oracles')

/** Names of the fixtures with this prefix, without extension. */
export function oracleNames(prefix: string): string[] {
  if (!existsSync(oracleFolder)) return []
  return readdirSync(oracleFolder)
    .filter((file) => file.startsWith(prefix) && file.endsWith('.json'))
    .map((file) => file.slice(0, -'.json'.length))
    .sort()
}

/** Reads a JSON fixture, or skips the test and returns undefined. */
export async function oracleJson<T>(t: Pick<Test, 'comment' | 'pass'>, file: string): Promise<T | undefined> {
  const path = join(oracleFolder, file)
  if (!existsSync(path)) {
    t.pass('no fixture', { skip: `no ${file} in ${oracleFolder}; set MAMMO_ORACLES to the oracle folder` })
    return undefined
  }
  return JSON.parse(await readFile(path, 'utf8')) as T
}

/** Reads all tensors of a fixture whose names pass the filter. int64 becomes a list of numbers. */
export async function oracleTensors(
  file: string,
  wanted: (name: string) => boolean = () => true,
): Promise<Map<string, { shape: number[]; data: Float32Array | number[] }>> {
  const source = await openSafetensors(join(oracleFolder, file))
  const tensors = new Map<string, { shape: number[]; data: Float32Array | number[] }>()
  for (const name of source.tensors.keys()) {
    if (!wanted(name)) continue
    const { shape, data } = await source.read(name)
    tensors.set(name, { shape, data: data instanceof Float32Array ? data : Array.from(data as BigInt64Array, Number) })
  }
  await source.close()
  return tensors
}
