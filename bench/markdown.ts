// Tables of results as Markdown, and their places in the documents.
import { readFile } from 'node:fs/promises'
import { writeFileAtomic } from '../lib/atomic-write.js'

export function markdownTable(head: readonly string[], body: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...body.map(line)].join('\n')
}

/** With three digits and the unit that suits. */
export function secondsText(seconds: number): string {
  const digits = (value: number) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3))
  if (seconds < 1e-3) return `${digits(seconds * 1e6)} us`
  return seconds < 1 ? `${digits(seconds * 1e3)} ms` : `${digits(seconds)} s`
}

/** Start and end of a generated part. */
const markers = (name: string) => [`<!-- ${name}: generated, do not edit -->`, `<!-- end of ${name} -->`] as const

/** The generated part of a document; undefined without its markers. */
export function betweenMarkers(document: string, name: string): string | undefined {
  const [start, end] = markers(name)
  const [from, to] = [document.indexOf(start), document.indexOf(end)]
  return from < 0 || to < from ? undefined : document.slice(from + start.length, to).trim()
}

/** Replaces the generated part of the file. Rejects when its markers are missing. */
export async function writeBetweenMarkers(path: string, name: string, text: string): Promise<void> {
  const [start, end] = markers(name)
  const document = await readFile(path, 'utf8')
  if (betweenMarkers(document, name) === undefined)
    throw new Error(`expected the lines "${start}" and "${end}" in ${path}`)
  const before = document.slice(0, document.indexOf(start) + start.length)
  await writeFileAtomic(path, `${before}\n${text}\n${document.slice(document.indexOf(end))}`)
}
