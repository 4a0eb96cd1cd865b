// Runs a program and collects what it prints; the one way in which this room starts other programs, so that tests can hand in
// another. A program that does not exist is a result, not an exception.
import { spawn } from 'node:child_process'

export interface CommandResult {
  /** Exit status; null when it could not be started or was killed. */
  status: number | null
  stdout: string
  stderr: string
  /** Set when the program does not exist. */
  missing: boolean
}

export interface CommandOptions {
  cwd?: string
  env?: NodeJS.ProcessEnv
  /** Called with each full line of both streams as it comes. */
  onLine?: (line: string) => void
  timeoutMs?: number
}

export type RunCommand = (program: string, args: readonly string[], options?: CommandOptions) => Promise<CommandResult>

/** Starts `program` without a shell and waits for its end. */
export const runCommand: RunCommand = (program, args, options = {}) =>
  new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    // Not spawn's own `timeout`: its timer outlives a program that could not be started and keeps this process alive.
    const limit =
      options.timeoutMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), options.timeoutMs)
    const text = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr'] as const) {
      let rest = ''
      child[name].setEncoding('utf8')
      child[name].on('data', (chunk: string) => {
        text[name] += chunk
        const lines = (rest + chunk).split('\n')
        rest = lines.pop() ?? ''
        if (options.onLine) for (const line of lines) options.onLine(line)
      })
      child[name].on('end', () => {
        if (rest !== '') options.onLine?.(rest)
      })
    }
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(limit)
      resolve({ status: null, ...text, stderr: text.stderr || error.message, missing: error.code === 'ENOENT' })
    })
    child.on('close', (status) => {
      clearTimeout(limit)
      resolve({ status, ...text, missing: false })
    })
  })
