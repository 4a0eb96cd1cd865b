import t from 'tap'
import { parseResults, type ResultRow, resultColumns, resultLine, rowsUpTo } from '../../lib/train/results.js'

const fppi = [0.1, 0.2, 0.3, 0.5, 1, 2, 4, 8]
const row: ResultRow = {
  ...{ epoch: 3, step: 1234567, seconds: 12.3456789, loss: 0.123456789, lossCls: 0.1, lossBox: 1 / 3, lr: 1e-7 },
  ...{ dataFraction: 0.25, deviceBytes: 44_000_000_000 },
}

t.test('the columns are those of the documentation', async (t) => {
  t.equal(
    resultColumns(fppi).join(','),
    'epoch,step,seconds,train/loss,train/loss_cls,train/loss_box,lr,val/loss,val/AP50,val/AP,val/sens@0.1,val/sens@0.2,val/sens@0.3,val/sens@0.5,val/sens@1,val/sens@2,val/sens@4,val/sens@8,data_fraction,device_bytes',
  )
})

t.test('six significant digits, a dot, whole numbers whole, empty cells without evaluation', async (t) => {
  t.equal(resultLine(row, fppi), '3,1234567,12.3457,0.123457,0.1,0.333333,1e-7,,,,,,,,,,,,0.25,44000000000\n')
  const val = { loss: 0.5, AP50: 0.75, AP: Number.NaN, sens: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1] }
  t.equal(
    resultLine({ ...row, val }, fppi),
    '3,1234567,12.3457,0.123457,0.1,0.333333,1e-7,0.5,0.75,,0,0.1,0.2,0.3,0.4,0.5,0.6,1,0.25,44000000000\n',
  )
})

t.test('rows are read back as numbers', async (t) => {
  const [first] = parseResults(`${resultColumns(fppi).join(',')}\n${resultLine(row, fppi)}4,12`)
  t.equal(first?.['step'], 1234567)
  t.ok(Number.isNaN(first?.['val/AP50']))
  t.equal(parseResults('').length, 0)
})

t.test('rows of epochs that a resumed run repeats are dropped, a torn row too', async (t) => {
  const text = 'epoch,step\n1,10\n2,20\n3,30\n4,'
  t.equal(rowsUpTo(text, 2), 'epoch,step\n1,10\n2,20\n')
  t.equal(rowsUpTo(text, 9), 'epoch,step\n1,10\n2,20\n3,30\n')
})
