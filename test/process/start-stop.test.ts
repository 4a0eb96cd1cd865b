// Starting up and shutting down are features: in every situation the process ends by itself, soon, with exit code 0 and nothing
// on stderr. Each situation of child.ts runs in a process of its own.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { addonExists } from '../../lib/binding/load.js'

const child = fileURLToPath(new URL('./child.js', import.meta.url))
const skip = addonExists() ? false : 'the addon is not built (npm run build)'

/** Generous: a hang is what it finds, not slowness. */
const HANG_MS = 120_000

const options = { skip, timeout: HANG_MS + 10_000 }
t.setTimeout(20 * HANG_MS)

interface Ending {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

function start(situation: string, flags: string[] = []): Promise<Ending> {
  return new Promise((resolve) => {
    const env = { ...process.env }
    // The runner's own coverage and loader hooks must not be what is tested.
    delete env.NODE_OPTIONS
    const one = spawn(process.execPath, [...flags, child, situation], { env, timeout: HANG_MS, killSignal: 'SIGKILL' })
    const ending: Ending = { code: null, signal: null, stdout: '', stderr: '' }
    one.stdout.on('data', (chunk) => {
      ending.stdout += chunk
    })
    one.stderr.on('data', (chunk) => {
      ending.stderr += chunk
    })
    one.on('close', (code, signal) => resolve({ ...ending, code, signal }))
  })
}

const clean = { code: 0, signal: null, stderr: '' }

/** What each situation prints. */
const expected: Record<string, string> = {
  'addon opened, nothing done': '',
  'step, then dispose': 'true\n',
  'step, no dispose': 'true\n',
  'end of the program during a step': 'true\n',
  'process.exit during a step': '',
  'process.exit with a queue of steps': '',
  'native error': 'ERR_MAMMO_ARGUMENT\nERR_MAMMO_ARGUMENT\ntrue\n',
  'out of memory': 'ERR_MAMMO_OUT_OF_MEMORY\ntrue\n',
  'step in a worker thread': 'true\nworker ended with 0\n',
  'step in a worker thread without dispose': 'true\nworker ended with 0\n',
  'worker terminated during a step': 'true\n',
  'worker calls process.exit during a step': 'worker ended with 0\n',
  'main thread and workers at the same time': '0,0,0\ntrue\n',
  'with sharp and onnxruntime-node loaded first': 'true\n',
  'with sharp and onnxruntime-node loaded after': 'true\ntrue\n',
  'sharp at work during steps': 'done\n',
}

for (const [situation, stdout] of Object.entries(expected)) {
  t.test(situation, options, async (t) => {
    t.same(await start(situation), { ...clean, stdout })
  })
}

t.test('an error nobody catches ends the process with 1, after the step', options, async (t) => {
  const ending = await start('error nobody catches, during a step')
  t.match(ending, { code: 1, signal: null })
  t.match(ending.stderr, /Error: on purpose/)
})

t.test('sessions nobody disposes are collected', options, async (t) => {
  const ending = await start('sessions nobody disposes are collected', ['--expose-gc'])
  t.match(ending, clean)
  t.ok(
    Number(ending.stdout) < 16 * 2 ** 20,
    `${(Number(ending.stdout) / 2 ** 20).toFixed(1)} MiB more after 12 sessions`,
  )
})

t.test(
  '20 cycles of create, train, dispose: at most 16 MiB more after the 20th than after the 5th',
  { skip },
  async (t) => {
    const ending = await start('twenty cycles')
    t.match(ending, clean)
    const resident = JSON.parse(ending.stdout) as number[]
    const growth = (resident[19]! - resident[4]!) / 2 ** 20
    t.ok(growth <= 16, `${growth.toFixed(1)} MiB more, ${(resident[19]! / 2 ** 20).toFixed(0)} MiB in all`)
  },
)

t.test("two threads at work in our own ops, one OpenMP runtime, LibTorch's", options, async (t) => {
  const ending = await start('two threads')
  t.match(ending, clean)
  const { ticks, openmp } = JSON.parse(ending.stdout) as { ticks: number[]; openmp: string[] }
  t.ok(ticks.length >= 2 && ticks[1]! >= ticks[0]! / 4, `clock ticks by thread: ${ticks.join(', ')}`)
  t.equal(openmp.length, 1, openmp.join(', '))
})
