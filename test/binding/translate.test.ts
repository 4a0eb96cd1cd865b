import t from 'tap'
import { translate } from '../../lib/binding/translate.js'
import { ConfigError, DeviceError, InternalError, TrainingError, UsageError } from '../../lib/errors.js'

const nativeError = (code: string) => Object.assign(new Error('what happened'), { code })

t.test('each native code becomes its class, with a remedy', async (t) => {
  const classes = {
    CONFIG: ConfigError,
    ARGUMENT: UsageError,
    DISPOSED: UsageError,
    NO_CUDA: DeviceError,
    CUDA: DeviceError,
    OUT_OF_MEMORY: DeviceError,
    DISK_FULL: DeviceError,
    CHECKPOINT: TrainingError,
    NON_FINITE_LOSS: TrainingError,
    INTERNAL: InternalError,
  }
  for (const [code, type] of Object.entries(classes)) {
    const cause = nativeError(code)
    const error = translate(cause) as InstanceType<typeof UsageError>
    t.ok(error instanceof type, code)
    t.match(error, { code: `ERR_MAMMO_${code}`, cause, fix: String, message: /what happened/ })
  }
})

t.test('codes of single ops join the class a user knows', async (t) => {
  t.match(translate(nativeError('NON_FINITE')), { code: 'ERR_MAMMO_NON_FINITE_LOSS', exitCode: 5 })
  t.match(translate(nativeError('DEVICE')), { code: 'ERR_MAMMO_NO_CUDA', exitCode: 4 })
})

t.test('an unknown native code is an internal error', async (t) => {
  t.match(translate(nativeError('SOMETHING')), { code: 'ERR_MAMMO_INTERNAL' })
  t.match(translate('text'), { code: 'ERR_MAMMO_INTERNAL', message: 'text' })
})

t.test("our own errors pass unchanged, and the stack is the call's", async (t) => {
  const own = new UsageError('ARGUMENT', 'x')
  t.equal(translate(own), own)
  const site: { stack?: string } = {}
  function theCaller() {
    Error.captureStackTrace(site)
  }
  theCaller()
  t.match(translate(nativeError('CUDA'), site).stack, /^DeviceError: what happened\n {4}at theCaller/)
})
