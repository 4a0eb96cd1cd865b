import t from 'tap'
import { DataError, DeviceError, InternalError, MammoError, TrainingError } from '../../lib/errors.js'
import { packError, unpackError } from '../../lib/predict/lane-protocol.js'

t.test('errors keep class, code, exit code and remedy', async (t) => {
  const given = [
    new DataError('IMAGE', 'm', { where: 'w', fix: 'f', details: { rule: 'r' } }),
    new DeviceError('OUT_OF_MEMORY', 'm'),
    new TrainingError('CHECKPOINT', 'm'),
  ]
  for (const error of given) {
    const back = unpackError(structuredClone(packError(error)))
    t.match(back, { code: error.code, exitCode: error.exitCode, message: error.message, details: error.details })
    t.equal(back.where, error.where)
    t.equal(back.fix, error.fix)
    t.ok(back instanceof MammoError)
  }
  t.ok(unpackError(packError(given[0])) instanceof DataError)
  t.match(packError(new TypeError('x is not a function')), {
    code: 'ERR_MAMMO_INTERNAL',
    message: 'x is not a function',
  })
  t.ok(new InternalError('m'))
})
