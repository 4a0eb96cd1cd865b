// What a command may touch of the outside world, handed in so that tests call commands without a process of their own.
export interface Io {
  stdout: (text: string) => void
  stderr: (text: string) => void
  /** stderr is a terminal: progress may redraw its line. */
  isTty: boolean
  columns: number
  env: Readonly<Record<string, string | undefined>>
}

/** The streams of this process. */
export function processIo(): Io {
  // A reader that has seen enough, such as head, is no error.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
    })
  }
  return {
    stdout: (text) => void process.stdout.write(text),
    stderr: (text) => void process.stderr.write(text),
    isTty: process.stderr.isTTY === true,
    columns: process.stderr.columns ?? 100,
    env: process.env,
  }
}
