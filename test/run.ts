// Runs test tiers with tap and closes with the real counts: node dist/test/run.js [TIER...]; without a tier, all but `slow`.
// Every test file is a process of its own. The whole TAP stream is kept in dist/test-output.tap.
import { spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { createInterface } from 'node:readline'
import { packageRoot } from '../lib/package-root.js'

const tiers: Record<string, (folder: string) => boolean> = {
  unit: (folder) => !['parity', 'data-tier', 'process', 'native', 'slow'].includes(folder),
  parity: (folder) => folder === 'parity',
  data: (folder) => folder === 'data-tier',
  process: (folder) => folder === 'process',
  native: (folder) => folder === 'native',
  slow: (folder) => folder === 'slow',
}

const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => tiers[name] === undefined)
if (unknown.length > 0) throw new Error(`unknown tier ${unknown.join(', ')}; known: ${Object.keys(tiers).join(', ')}`)
const chosen = wanted.length > 0 ? wanted : Object.keys(tiers).filter((name) => name !== 'slow')

const root = join(packageRoot(), 'dist', 'test')
const files = (await readdir(root, { recursive: true }))
  .filter((file) => file.endsWith('.test.js'))
  .filter((file) => chosen.some((name) => tiers[name]!(file.split(sep)[0]!)))
  .sort()
  .map((file) => relative(packageRoot(), join(root, file)))

const tap = join(packageRoot(), 'node_modules', 'tap', 'dist', 'esm', 'run.mjs')
const args = [tap, 'run', '--reporter=tap', '--jobs=2', '--timeout=1200', ...files]
const child = spawn(process.execPath, args, { cwd: packageRoot(), stdio: ['ignore', 'pipe', 'inherit'] })
const log = createWriteStream(join(packageRoot(), 'dist', 'test-output.tap'))
let counts: Record<string, number> = {}
let failing = false
for await (const line of createInterface({ input: child.stdout })) {
  log.write(`${line}\n`)
  if (/^ *not ok /.test(line)) failing = true
  else if (/^ *ok |^ *# Subtest/.test(line)) failing = false
  if (failing || /^ok /.test(line) || / # SKIP/.test(line)) process.stdout.write(`${line}\n`)
  const summary = /^# \{ (.*) \}$/.exec(line)?.[1]
  if (summary) counts = Object.fromEntries([...summary.matchAll(/(\w+): (\d+)/g)].map((m) => [m[1]!, Number(m[2])]))
}
const code = await new Promise<number | null>((resolve) =>
  child.exitCode === null ? child.on('close', resolve) : resolve(child.exitCode),
)
log.end()
const { pass = 0, fail = 0, skip = 0 } = counts
process.stdout.write(`${pass} passed, ${fail} failed${skip > 0 ? `, ${skip} skipped` : ''}\n`)
process.exitCode = code === 0 && pass > 0 ? 0 : (code ?? 1) || 1
