// The one place that turns an error into text for a person and an exit code for a script.
import { asMammoError } from '../errors.js'
import type { Io } from './io.js'

/** Prints an error as `error CODE: what`, `where`, `fix`; returns its exit code. MAMMO_TRACE=1 adds stacks and causes. */
export function reportError(error: unknown, io: Io): number {
  const known = asMammoError(error)
  const lines = [`error ${known.code}: ${known.message}`]
  if (known.where !== undefined) lines.push(`  where: ${known.where}`)
  if (known.fix !== undefined) lines.push(`  fix:   ${known.fix}`)
  if (io.env['MAMMO_TRACE'] === '1') {
    for (let e: unknown = error; e instanceof Error; e = e.cause) lines.push(e.stack ?? String(e))
  }
  io.stderr(`${lines.join('\n')}\n`)
  return known.exitCode
}
