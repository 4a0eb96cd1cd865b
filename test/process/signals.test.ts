import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t from 'tap'

/** Starts the child and sends the next signal whenever it has said something. */
async function play(graceMs: number, signals: NodeJS.Signals[], ...more: string[]) {
  const script = fileURLToPath(new URL(`./signals-child${import.meta.url.slice(-3)}`, import.meta.url))
  const args = [...process.execArgv, script, String(graceMs), ...more]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const said: string[] = []
  const waiting = [...signals]
  createInterface({ input: child.stdout }).on('line', (line) => {
    said.push(line)
    const next = waiting.shift()
    if (next) child.kill(next)
  })
  const how = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) =>
    child.on('close', (...end) => resolve(end)),
  )
  return { said, code: how[0], signal: how[1] }
}

const LONG = 600_000

t.test('the first signal asks, the second ends the process with that signal', async (t) => {
  for (const signal of ['SIGINT', 'SIGHUP', 'SIGTERM'] as const) {
    t.strictSame(await play(LONG, [signal, signal]), { said: ['ready', `stop ${signal}`], code: null, signal })
  }
  t.match(await play(LONG, ['SIGINT', 'SIGTERM']), { said: ['ready', 'stop SIGINT'], signal: 'SIGTERM' })
})

t.test('SIGUSR2 saves as often as it comes', async (t) => {
  t.match(await play(LONG, ['SIGUSR2', 'SIGUSR2', 'SIGKILL']), { said: ['ready', 'save', 'save'], signal: 'SIGKILL' })
})

t.test('SIGTERM does not wait for ever', async (t) => {
  t.match(await play(50, ['SIGTERM']), { said: ['ready', 'stop SIGTERM'], signal: 'SIGTERM' })
})

t.test('after removal signals have their usual effect', async (t) => {
  t.match(await play(LONG, ['SIGINT'], 'removed'), { said: ['ready'], signal: 'SIGINT' })
})
