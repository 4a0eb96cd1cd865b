// What signals do to a training process. SIGINT, SIGHUP, SIGTERM: finish the step, save, end. SIGTERM does not wait longer than
// ten seconds. A second signal ends the process at once. SIGUSR2: save and go on. Never process.exit: native work may be running.

export type StopSignal = 'SIGINT' | 'SIGHUP' | 'SIGTERM'

export const SIGNAL_EXIT: Record<StopSignal, number> = { SIGINT: 130, SIGHUP: 129, SIGTERM: 143 }

/** Longest wait for the current step after SIGTERM; schedulers kill soon after. */
const TERM_GRACE_MS = 10_000

export interface SignalTarget {
  requestStop(signal: StopSignal): void
  requestCheckpoint(): void
}

/** Listens until the returned function is called. `graceMs` is for tests. */
export function listenToSignals(target: SignalTarget, graceMs = TERM_GRACE_MS): () => void {
  let deadline: NodeJS.Timeout | undefined
  let stopping = false
  const reraise = (signal: StopSignal) => {
    remove()
    process.kill(process.pid, signal)
  }
  const stop = (signal: StopSignal) => {
    if (stopping) return reraise(signal)
    stopping = true
    if (signal === 'SIGTERM') deadline = setTimeout(() => reraise(signal), graceMs)
    deadline?.unref()
    target.requestStop(signal)
  }
  const save = () => target.requestCheckpoint()
  const signals = Object.keys(SIGNAL_EXIT) as StopSignal[]
  for (const signal of signals) process.on(signal, stop)
  process.on('SIGUSR2', save)
  function remove(): void {
    clearTimeout(deadline)
    for (const signal of signals) process.off(signal, stop)
    process.off('SIGUSR2', save)
  }
  return remove
}
