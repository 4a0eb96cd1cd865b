// The shape of a command file: it declares options and hands them to one task, which it loads only when it runs, so that help is
// quick and `build` and `doctor` work while something else is broken. No work is done here.
import { type Command, InvalidArgumentError } from 'commander'
import type { LoadOptions } from '../config/load.js'
import type { Io } from './io.js'

/** Options that every command understands. */
export interface GlobalOptions {
  config?: string
  set: Record<string, string>
  log: 'text' | 'json'
  quiet: boolean
  verbose: boolean
  color: boolean
  json: boolean
  /** false: a missing addon is an error instead of a build. */
  build: boolean
}

export interface CommandFile {
  /** Name as typed; `data prepare` is the command `prepare` of the group `data`. */
  name: string
  summary: string
  examples: [string, string]
  /** Declares arguments and options. */
  declare(command: Command): void
  /** Runs the task; resolves to the exit code. */
  run(io: Io, global: GlobalOptions, options: Record<string, unknown>, args: string[]): Promise<number>
}

/** Collects repeated `--set key=value`. */
export function collectSet(text: string, previous: Record<string, string>): Record<string, string> {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError(`expected key=value, got "${text}"`)
  return { ...previous, [text.slice(0, at)]: text.slice(at + 1) }
}

export function integerOption(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isInteger(value))
    throw new InvalidArgumentError(`expected an integer, got "${text}"`)
  return value
}

/** A parser of integers of at least `least`. */
export function integerFrom(least: number): (text: string) => number {
  return (text) => {
    const value = integerOption(text)
    if (value < least) throw new InvalidArgumentError(`expected an integer of at least ${least}, got ${value}`)
    return value
  }
}

export function numberOption(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError(`expected a number, got "${text}"`)
  return value
}

/** Where a configuration comes from: a preset argument, `--config`, `--set`. */
export function configSource(global: GlobalOptions, preset?: string): LoadOptions {
  return {
    ...(global.config === undefined ? {} : { file: global.config }),
    ...(preset === undefined ? {} : { preset }),
    set: global.set,
  }
}
