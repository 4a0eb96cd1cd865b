// A training run in a process of its own, as the command line makes one: the body of the process that resume.test.ts starts, interrupts
// and watches. Records go to stderr as JSON lines, the result to stdout; the exit code is the command line's.
import { readFileSync } from 'node:fs'
import type { Config } from '../../lib/config/schema.js'
import { MammoError } from '../../lib/errors.js'
import { SIGNAL_EXIT, type TrainOptions, train } from '../../lib/tasks/train.js'
import type { RunEvent } from '../../lib/train/events.js'
import type { SelfSignals } from './training.js'

const { config, options, self } = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as {
  config: Config
  options: TrainOptions
  self: SelfSignals | null
}
const write = (text: string) => {
  process.stderr.write(text)
  if (self === null || !text.startsWith('{')) return
  const event = JSON.parse(text) as RunEvent
  if (event.type !== 'iteration' || event.step !== self.step) return
  for (const [i, signal] of self.signals.entries()) {
    if (i === 0) process.kill(process.pid, signal)
    else setTimeout(() => process.kill(process.pid, signal), i)
  }
}
const display = { write, isTty: false, columns: 80, mode: 'json', logEvery: 1 } as const
try {
  const result = await train(config, { ...options, handleSignals: true, display }).done
  process.stdout.write(`${JSON.stringify(result)}\n`)
  process.exitCode = SIGNAL_EXIT[result.stopped as keyof typeof SIGNAL_EXIT] ?? 0
} catch (error) {
  process.stdout.write(`${JSON.stringify({ code: (error as MammoError).code, message: (error as Error).message })}\n`)
  process.exitCode = error instanceof MammoError ? error.exitCode : 1
}
