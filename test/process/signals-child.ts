// A process that asks to be stopped never: what signals do to it is the work of lib/train/signals.ts alone. signals.test.ts starts it.
import { listenToSignals } from '../../lib/train/signals.js'

const say = (text: string) => void process.stdout.write(`${text}\n`)
const remove = listenToSignals(
  { requestStop: (signal) => say(`stop ${signal}`), requestCheckpoint: () => say('save') },
  Number(process.argv[2]),
)
if (process.argv[3] === 'removed') remove()
setInterval(() => undefined, 1000)
say('ready')
