// The config.ini of keras-retinanet as a layer of our configuration: anchor parameters and pyramid levels, with the line of each value.
// Read as it is: sections and keys of Python's configparser, numbers separated by spaces. Rounded as the reference rounds: sizes
// and strides are integers, ratios and scales float32. Source: keras-retinanet 1.0.0, utils/config.py; its README, "Anchor optimization".
import type { ConfigProblem } from '../errors.js'

export interface KerasIni {
  tree: { model?: { levels: number[] }; anchors?: Record<string, number[]> }
  /** Dotted key of ours -> line in the file. */
  lines: Map<string, number>
}

interface Value {
  text: string
  line: number
}

const ANCHOR_KEYS: Record<string, 'integers' | 'float32'> = {
  sizes: 'integers',
  strides: 'integers',
  ratios: 'float32',
  scales: 'float32',
}

/** Reads the text; faults are added to `problems` with their line. */
export function parseKerasIni(text: string, file: string, problems: ConfigProblem[]): KerasIni {
  const fault = (line: number, message: string) => problems.push({ key: '', message, file, line, column: 1 })
  const sections = readSections(text, fault)
  const result: KerasIni = { tree: {}, lines: new Map() }
  const anchors = sections.get('anchor_parameters')
  if (anchors !== undefined) {
    const values: Record<string, number[]> = {}
    for (const [key, kind] of Object.entries(ANCHOR_KEYS)) {
      const value = anchors.get(key)
      if (value === undefined) {
        fault(1, `section [anchor_parameters] has no "${key}"; keras-retinanet asks for sizes, strides, ratios, scales`)
        continue
      }
      const numbers = readNumbers(value, kind === 'integers', fault)
      values[key] = kind === 'integers' ? numbers : numbers.map(Math.fround)
      result.lines.set(`anchors.${key}`, value.line)
    }
    result.tree.anchors = values
  }
  const levels = sections.get('pyramid_levels')?.get('levels')
  if (levels !== undefined) {
    result.tree.model = { levels: readNumbers(levels, true, fault) }
    result.lines.set('model.levels', levels.line)
  }
  for (const [section, keys] of sections) {
    const known = { anchor_parameters: Object.keys(ANCHOR_KEYS), pyramid_levels: ['levels'] }[section] ?? []
    for (const [key, { line }] of keys) {
      if (!known.includes(key))
        fault(line, `unknown key "${key}" of section [${section}] in a config.ini of keras-retinanet`)
    }
  }
  if (anchors === undefined && levels === undefined) {
    fault(1, 'expected a section [anchor_parameters] or [pyramid_levels] of keras-retinanet')
  }
  return result
}

function readSections(text: string, fault: (line: number, message: string) => void): Map<string, Map<string, Value>> {
  const sections = new Map<string, Map<string, Value>>()
  let section: Map<string, Value> | undefined
  let last: Value | undefined
  for (const [index, raw] of text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .entries()) {
    const line = index + 1
    if (/^\s*([#;].*)?$/.test(raw)) continue
    const head = /^\[([^\]]+)\]\s*$/.exec(raw)
    const pair = /^([^\s=:][^=:]*?)\s*[=:]\s*(.*?)\s*$/.exec(raw)
    if (head !== null) {
      section = sections.get(head[1]!) ?? new Map()
      sections.set(head[1]!, section)
      last = undefined
    } else if (/^\s/.test(raw) && last !== undefined) {
      last.text += ` ${raw.trim()}`
    } else if (pair !== null && section !== undefined) {
      const key = pair[1]!.toLowerCase()
      if (section.has(key)) fault(line, `key "${key}" occurs twice`)
      last = { text: pair[2]!, line }
      section.set(key, last)
    } else fault(line, `expected "[section]" or "key = value", got "${raw.trim().slice(0, 40)}"`)
  }
  return sections
}

function readNumbers({ text, line }: Value, integers: boolean, fault: (line: number, message: string) => void) {
  const words = text.split(/\s+/).filter(Boolean)
  const numbers = words.map(Number)
  const bad = words.find((_, i) => !(integers ? Number.isInteger(numbers[i]) : Number.isFinite(numbers[i])))
  if (words.length === 0) fault(line, 'expected numbers separated by spaces, got nothing')
  else if (bad !== undefined) fault(line, `expected ${integers ? 'an integer' : 'a number'}, got "${bad}"`)
  return numbers
}
