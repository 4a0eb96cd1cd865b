#!/usr/bin/env node
// Starts the command line. Sets the exit code and returns: the process ends when native work has ended.
import { existsSync } from 'node:fs'

const main = new URL('../dist/lib/cli/main.js', import.meta.url)
if (!existsSync(main)) {
  process.stderr.write(
    'error: the TypeScript sources are not compiled yet\n  fix:   run `npm run build` in the package folder\n',
  )
  process.exitCode = 4
} else {
  const { runCli } = await import(main.href)
  const { processIo } = await import(new URL('../dist/lib/cli/io.js', import.meta.url).href)
  process.exitCode = await runCli(process.argv.slice(2), processIo())
}
