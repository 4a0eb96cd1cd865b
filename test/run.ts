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

// Files that use the engine on all cores run one at a time; two at once would measure each other's waiting.
const heavy = (file: string) => ['parity', 'process', 'native', 'slow'].includes(file.split(sep)[2]!)
const groups = [
  { files: files.filter((file) => !heavy(file)), jobs: 2 },
  { files: files.filter(heavy), jobs: 1 },
].filter((group) => group.files.length > 0)

const tap = join(packageRoot(), 'node_modules', 'tap', 'dist', 'esm', 'run.mjs')
const log = createWriteStream(join(packageRoot(), 'dist', 'test-output.tap'))
const total = { pass: 0, fail: 0, skip: 0 }
let failed = files.length === 0
for (const group of groups) {
  const { code, counts } = await runTap(group.files, group.jobs)
  for (const key of ['pass', 'fail', 'skip'] as const) total[key] += counts[key] ?? 0
  if (code !== 0) failed = true
}
log.end()
// A file that ends badly without a failed assertion (a crash, a time-out) still counts as one failure.
if (failed && total.fail === 0) total.fail = 1
process.stdout.write(`${total.pass} passed, ${total.fail} failed${total.skip > 0 ? `, ${total.skip} skipped` : ''}\n`)
process.exitCode = failed || total.pass === 0 ? 1 : 0

/** Runs files with tap, shows one line per file and everything about failures. */
async function runTap(
  list: readonly string[],
  jobs: number,
): Promise<{ code: number | null; counts: Record<string, number> }> {
  const args = [tap, 'run', '--reporter=tap', `--jobs=${jobs}`, '--timeout=1200', ...list]
  const child = spawn(process.execPath, args, {
    cwd: packageRoot(),
    stdio: ['ignore', 'pipe', 'inherit'],
    // Threads that wait for work must not spin while another test file has the core.
    env: { ...process.env, OMP_WAIT_POLICY: 'passive' },
  })
  const closed = new Promise<number | null>((resolve) => child.on('close', resolve))
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
  return { code: await closed, counts }
}
