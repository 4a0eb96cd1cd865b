// results.csv: one row per epoch. Numbers with a dot and six significant digits; an empty cell means not measured in this epoch.

export interface ResultRow {
  epoch: number
  step: number
  seconds: number
  loss: number
  lossCls: number
  lossBox: number
  lr: number
  dataFraction: number
  deviceBytes: number
  /** Absent in epochs without evaluation. */
  val?: ValidationNumbers
}

export interface ValidationNumbers {
  loss: number
  AP50: number
  AP: number
  /** In the order of `evaluate.fppi`. */
  sens: number[]
}

export function resultColumns(fppi: readonly number[]): string[] {
  return [
    ...['epoch', 'step', 'seconds', 'train/loss', 'train/loss_cls', 'train/loss_box', 'lr'],
    ...['val/loss', 'val/AP50', 'val/AP', ...fppi.map((f) => `val/sens@${f}`)],
    ...['data_fraction', 'device_bytes'],
  ]
}

/** The row's value of every column; NaN where not measured. */
export function resultValues(row: ResultRow, fppi: readonly number[]): Record<string, number> {
  const sens = fppi.map((f, i) => [`val/sens@${f}`, row.val?.sens[i] ?? Number.NaN] as const)
  return {
    epoch: row.epoch,
    step: row.step,
    seconds: row.seconds,
    'train/loss': row.loss,
    'train/loss_cls': row.lossCls,
    'train/loss_box': row.lossBox,
    lr: row.lr,
    'val/loss': row.val?.loss ?? Number.NaN,
    'val/AP50': row.val?.AP50 ?? Number.NaN,
    'val/AP': row.val?.AP ?? Number.NaN,
    ...Object.fromEntries(sens),
    data_fraction: row.dataFraction,
    device_bytes: row.deviceBytes,
  }
}

export function resultLine(row: ResultRow, fppi: readonly number[]): string {
  const values = resultValues(row, fppi)
  return `${resultColumns(fppi)
    .map((column) => cell(values[column]!))
    .join(',')}\n`
}

/** Rows of a results.csv text as numbers by column (NaN for empty cells), without a torn last line. */
export function parseResults(text: string): Record<string, number>[] {
  const complete = text.slice(0, text.lastIndexOf('\n') + 1)
  const [head, ...rows] = complete.split('\n').filter((line) => line !== '')
  const columns = head?.split(',') ?? []
  return rows.map((row) => {
    const cells = row.split(',')
    return Object.fromEntries(columns.map((c, i) => [c, cells[i] === '' ? Number.NaN : Number(cells[i])]))
  })
}

/** The text without rows of epochs after `epochs`, which a resumed run writes again. */
export function rowsUpTo(text: string, epochs: number): string {
  const complete = text.slice(0, text.lastIndexOf('\n') + 1)
  const [head = '', ...rows] = complete.split('\n').filter((line) => line !== '')
  return [head, ...rows.filter((row) => Number(row.split(',', 1)[0]) <= epochs)].map((line) => `${line}\n`).join('')
}

function cell(value: number): string {
  if (!Number.isFinite(value)) return ''
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)))
}
