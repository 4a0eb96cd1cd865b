// The README's table of prediction with an exported model, from bench/results/infer.json: time and peak memory of every side in both sizes.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../lib/package-root.js'
import { markdownTable, secondsText, writeBetweenMarkers } from './markdown.js'
import type { Summary } from './run-side.js'

export interface InferResults {
  rows: (Summary & { variant: string; side: string })[]
}

/** The side that the others are compared with. */
const REFERENCE = 'mammo-retinanet fp32, two steps'
const WORDS: [RegExp, string][] = [
  [/^mammo-retinanet /, 'ours, '],
  [/^torchvision ONNX$/, 'torchvision exported to ONNX, onnxruntime for Python'],
]

const resultFile = () => join(packageRoot(), 'bench', 'results', 'infer.json')

/** Sides by sizes: seconds, times the seconds of the reference, peak memory of the process and what of it came with the work. */
export function inferTable({ rows }: InferResults): string {
  const variants = [...new Set(rows.map(({ variant }) => variant))]
  const sides = [...new Set(rows.map(({ side }) => side))]
  const find = (side: string, variant: string) => rows.find((row) => row.side === side && row.variant === variant)
  const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(2)
  const cells = (side: string, variant: string) => {
    const row = find(side, variant)
    if (row === undefined) return ['', '']
    const ratio = row.medianSeconds / find(REFERENCE, variant)!.medianSeconds
    const compared = side.startsWith('mammo-retinanet') ? '' : ` (${ratio.toFixed(2)}x)`
    return [
      `${secondsText(row.medianSeconds)}${compared}`,
      `${gib(row.peakBytes)} (${gib(row.peakBytes - row.baseBytes)}) GiB`,
    ]
  }
  return markdownTable(
    ['', ...variants.flatMap((variant) => [variant.replace('x', ' x '), 'peak memory (above the start)'])],
    sides.map((side) => [
      WORDS.reduce((text, [pattern, word]) => text.replace(pattern, word), side),
      ...variants.flatMap((variant) => cells(side, variant)),
    ]),
  )
}

export async function writeInferTable(): Promise<void> {
  if (!existsSync(resultFile())) return
  const results = JSON.parse(readFileSync(resultFile(), 'utf8')) as InferResults
  await writeBetweenMarkers(join(packageRoot(), 'README.md'), 'bench infer', inferTable(results))
}
