// Columns of text for a terminal: numbers to the right, words to the left. No lines, no colours.

/** One line per row, the head first. */
export function textTable(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string[] {
  const texts = [head, ...rows].map((row) => row.map(String))
  const widths = head.map((_, i) => Math.max(...texts.map((row) => row[i]?.length ?? 0)))
  const numeric = head.map((_, i) => rows.every((row) => /^([-+]?[\d.]+|undefined|)$/.test(String(row[i] ?? ''))))
  return texts.map((row) =>
    row
      .map((text, i) => (numeric[i] ? text.padStart(widths[i]!) : text.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd(),
  )
}
