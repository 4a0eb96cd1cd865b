// Reads delimited tables for the adapters: RFC 4180 with quoted line breaks, CRLF or LF, byte order mark; cells are trimmed. Knows no
// dataset. Broken quoting is an error with its line.
import { readFile } from 'node:fs/promises'
import { CsvError, parse } from 'csv-parse/sync'
import { DataError } from '../../errors.js'

export interface TableRow {
  /** 1-based line that the row begins on. */
  line: number
  cells: string[]
}

export interface Table {
  /** Case-folded, `_` as space. */
  header: string[]
  rows: TableRow[]
  /** Lines of the file as an editor counts them. */
  lines: number
}

/** Rows of a table without header. Empty lines are left out. Throws ERR_MAMMO_ANNOTATION. */
export async function readRows(path: string, delimiter = ','): Promise<TableRow[]> {
  return parseRows(await readText(path), path, delimiter)
}

/** A table with a header line. Throws ERR_MAMMO_ANNOTATION, also when `needed` columns are missing. */
export async function readTable(path: string, needed: readonly string[], delimiter = ','): Promise<Table> {
  const text = await readText(path)
  const [first, ...rows] = parseRows(text, path, delimiter)
  const header = (first?.cells ?? []).map((name) => name.toLowerCase().replaceAll('_', ' '))
  const missing = needed.filter((name) => !header.includes(name))
  if (missing.length > 0) {
    throw new DataError(
      'ANNOTATION',
      `expected the columns ${missing.join(', ')}, got ${header.join(', ') || 'none'}`,
      {
        where: `${path}:1`,
        fix: 'restore the table from its source',
        details: { rule: 'csv/header' },
      },
    )
  }
  const lines = text.split('\n').length - (text.endsWith('\n') ? 1 : 0)
  return { header, rows, lines }
}

/** A reader of cells by column name; the first column of a name counts. Absent cells are empty. */
export function columnsOf(header: readonly string[]): (row: TableRow, ...names: string[]) => string {
  const at = new Map<string, number>()
  for (const [n, name] of header.entries()) if (!at.has(name)) at.set(name, n)
  return (row, ...names) => {
    const name = names.find((candidate) => at.has(candidate))
    return name === undefined ? '' : (row.cells[at.get(name)!] ?? '')
  }
}

export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    throw new DataError(
      'ANNOTATION',
      `expected a file that can be read, got ${(cause as NodeJS.ErrnoException).code}`,
      {
        where: path,
        fix: 'check the path and its permissions',
        details: { rule: 'data/missing-file' },
      },
    )
  }
}

function parseRows(text: string, path: string, delimiter: string): TableRow[] {
  let end = 0
  try {
    // Line ends are made alike, because the parser counts CRLF inside quotes as two lines.
    const found = parse(text.replace(/\r\n?/g, '\n'), {
      bom: true,
      delimiter,
      info: true,
      relax_column_count: true,
      skip_empty_lines: false,
      trim: true,
    }) as unknown as { record: string[]; info: { lines: number } }[]
    return found
      .map(({ record, info }) => {
        const row = { line: end + 1, cells: record }
        end = info.lines
        return row
      })
      .filter(({ cells }) => cells.some((cell) => cell !== ''))
  } catch (cause) {
    if (!(cause instanceof CsvError)) throw cause
    const line = (cause as { lines?: number }).lines ?? 1
    throw new DataError('ANNOTATION', `expected a table with closed quotes, got a broken one`, {
      where: `${path}:${line}`,
      fix: 'restore the table from its source, or correct the quotes of that line',
      details: { rule: 'csv/quotes' },
    })
  }
}
