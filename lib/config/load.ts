// Builds a configuration from its layers: schema defaults < model.semantics < model.backbone < preset (extends) < file < --set.
// Every fault of every layer is collected and reported at once, with file, line, column and the nearest valid key.
import { readFile } from 'node:fs/promises'
import { distance } from 'fastest-levenshtein'
import { isMap, isScalar, LineCounter, parseDocument } from 'yaml'
import type { z } from 'zod'
import { ConfigError, type ConfigProblem } from '../errors.js'
import { backboneDefaults } from './backbones.js'
import { checkCombinations } from './check.js'
import { parseKerasIni } from './keras-ini.js'
import { presets } from './presets.js'
import { type Config, configSchema, SEMANTICS, type Semantics } from './schema.js'
import { semanticsDefaults } from './semantics.js'

export interface LoadOptions {
  /** YAML or JSON file, or the config.ini of keras-retinanet. */
  file?: string
  /** Preset name; a file's `extends` names one too (the option wins). */
  preset?: string
  /** Dotted keys; values are YAML texts (command line) or plain values (API). */
  set?: Record<string, unknown>
  /** Initial weights come from elsewhere (`--init`, `--resume`), so frozen layers are allowed. */
  hasWeights?: boolean
}

/** Where a resolved value came from. */
export type Origin =
  | 'default'
  | `semantics ${string}`
  | `backbone ${string}`
  | `preset ${string}`
  | `${string}:${number}`
  | '--set'

export interface LoadedConfig {
  config: Config
  /** Dotted key of every leaf -> its origin. */
  origins: Map<string, Origin>
  preset: string | undefined
}

/** A list of allowed values up to this long is printed whole; of a longer one the nearest few. */
const LISTED = 12
const NEAREST = 6

type Tree = { [key: string]: unknown }
interface Layer {
  tree: Tree
  origin: (key: string) => Origin
  place: (key: string) => Partial<ConfigProblem>
}

/** Loads, merges and validates. Throws ConfigError with all problems. */
export async function loadConfig(options: LoadOptions = {}): Promise<LoadedConfig> {
  const problems: ConfigProblem[] = []
  const file = options.file === undefined ? undefined : await readLayer(options.file, problems)
  const presetName = options.preset ?? (file?.tree['extends'] as string | undefined)
  const overrides = overrideLayer(options.set ?? {}, problems)
  const layers: Layer[] = []
  if (presetName !== undefined) {
    const preset = presets[presetName]
    if (preset === undefined) {
      const message = `unknown preset "${presetName}"; ${suggestion(presetName, Object.keys(presets))}`
      problems.push({ key: 'extends', message, ...file?.place('extends') })
    } else layers.push(constantLayer(preset.config as Tree, `preset ${presetName}`))
  }
  if (file !== undefined) {
    delete file.tree['extends']
    layers.push(file)
  }
  layers.push(overrides)
  const semantics = chosenSemantics(layers)
  const backbone = chosen(layers, 'backbone')
  if (typeof backbone === 'string')
    layers.unshift(constantLayer(backboneDefaults(backbone, semantics ?? 'mammo') as Tree, `backbone ${backbone}`))
  if (semantics !== undefined)
    layers.unshift(constantLayer(semanticsDefaults[semantics] as Tree, `semantics ${semantics}`))

  const merged: Tree = {}
  const origins = new Map<string, Origin>()
  for (const layer of layers) mergeInto(merged, layer.tree, layer, origins, '')
  const parsed = configSchema.safeParse(merged)
  const place = (key: string) => layers.map((l) => l.place(key)).findLast((p) => p.line !== undefined || p.file) ?? {}
  if (!parsed.success) problems.push(...parsed.error.issues.flatMap((issue) => describe(issue, merged, place)))
  if (parsed.success) {
    const faults = checkCombinations(parsed.data, options.hasWeights ?? false)
    problems.push(...faults.map((p) => ({ ...p, ...place(p.key) })))
  }
  if (problems.length > 0 || !parsed.success) throw new ConfigError(problems)
  for (const key of leaves(parsed.data as unknown as Tree)) if (!origins.has(key)) origins.set(key, 'default')
  return { config: parsed.data, origins, preset: presetName }
}

/** The schema's defaults with the given rules and backbone: a complete configuration without a file. */
export function defaultConfig(semantics: Semantics = 'mammo', backbone?: string): Config {
  const tree: Tree = {}
  const layers = [constantLayer({ ...(semanticsDefaults[semantics] as Tree) }, `semantics ${semantics}`)]
  if (backbone !== undefined)
    layers.push(constantLayer(backboneDefaults(backbone, semantics) as Tree, `backbone ${backbone}`))
  for (const layer of layers) mergeInto(tree, layer.tree, layer, new Map(), '')
  tree['model'] = {
    ...(tree['model'] as Tree | undefined),
    semantics,
    ...(backbone === undefined ? {} : { backbone }),
  }
  return configSchema.parse(tree)
}

async function readLayer(path: string, problems: ConfigProblem[]): Promise<Layer> {
  const source = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new ConfigError([{ key: '', message: `cannot read the configuration file (${cause.code})`, file: path }], {
      fix: 'check the path; `mammo-retinanet config init` prints a file to start from',
      cause,
    })
  })
  if (path.toLowerCase().endsWith('.ini')) {
    const { tree, lines } = parseKerasIni(source, path, problems)
    const place = (key: string) => (lines.has(key) ? { file: path, line: lines.get(key)!, column: 1 } : {})
    return { tree: tree as Tree, place, origin: (key) => `${path}:${lines.get(key) ?? 1}` }
  }
  const counter = new LineCounter()
  const document = parseDocument(source, { lineCounter: counter, prettyErrors: false })
  const at = (offset: number) => {
    const { line, col } = counter.linePos(offset)
    return { file: path, line, column: col }
  }
  for (const error of document.errors) problems.push({ key: '', message: error.message, ...at(error.pos[0]) })
  const place = (key: string): Partial<ConfigProblem> => {
    let node: unknown = document.contents
    let offset: number | undefined
    for (const part of key.split('.')) {
      if (!isMap(node)) break
      const item = node.items.find((i) => isScalar(i.key) && String(i.key.value) === part)
      if (item === undefined) break
      offset = (item.key as { range?: [number, number, number] }).range?.[0]
      node = item.value
    }
    return offset === undefined || !document.hasIn(key.split('.')) ? {} : at(offset)
  }
  const tree = document.errors.length > 0 ? {} : (document.toJS() as unknown)
  if (tree !== null && (typeof tree !== 'object' || Array.isArray(tree))) {
    throw new ConfigError([{ key: '', message: 'expected a mapping of sections', file: path, line: 1, column: 1 }])
  }
  return { tree: (tree ?? {}) as Tree, place, origin: (key) => `${path}:${place(key).line ?? 1}` }
}

function overrideLayer(set: Record<string, unknown>, problems: ConfigProblem[]): Layer {
  const tree: Tree = {}
  for (const [key, raw] of Object.entries(set)) {
    const document = typeof raw === 'string' ? parseDocument(raw) : undefined
    if (document !== undefined && document.errors.length > 0) {
      problems.push({ key, message: `--set ${key}: "${String(raw)}" is not a value`, file: '--set' })
      continue
    }
    const parts = key.split('.')
    let node = tree
    for (const part of parts.slice(0, -1)) {
      if (typeof node[part] !== 'object' || node[part] === null) node[part] = {}
      node = node[part] as Tree
    }
    node[parts.at(-1)!] = document === undefined ? raw : document.toJS()
  }
  const given = (key: string) =>
    key.split('.').reduce<unknown>((n, p) => (n as Tree | undefined)?.[p], tree) !== undefined
  return { tree, origin: () => '--set', place: (key) => (given(key) ? { file: '--set' } : {}) }
}

function constantLayer(tree: Tree, origin: Origin): Layer {
  return { tree, origin: () => origin, place: () => ({}) }
}

function chosenSemantics(layers: readonly Layer[]): Semantics | undefined {
  return SEMANTICS.find((s) => s === chosen(layers, 'semantics'))
}

/** What the last layer that speaks of it says of `model.<key>`. */
function chosen(layers: readonly Layer[], key: string): unknown {
  return layers.map((l) => (l.tree['model'] as Tree | undefined)?.[key]).findLast((v) => v !== undefined)
}

function mergeInto(target: Tree, source: Tree, layer: Layer, origins: Map<string, Origin>, prefix: string): void {
  for (const [name, value] of Object.entries(source)) {
    const key = prefix + name
    if (isTree(value)) {
      if (!isTree(target[name])) target[name] = {}
      mergeInto(target[name] as Tree, value, layer, origins, `${key}.`)
    } else {
      target[name] = structuredClone(value)
      origins.set(key, layer.origin(key))
    }
  }
}

/** Dotted names of all values that are not sections. */
export function leaves(tree: Tree, prefix = ''): string[] {
  return Object.entries(tree).flatMap(([name, value]) =>
    isTree(value) ? leaves(value, `${prefix}${name}.`) : [prefix + name],
  )
}

/** The value at a dotted key. */
export function valueAt(config: Config, key: string): unknown {
  return key.split('.').reduce<unknown>((node, part) => (isTree(node) ? node[part] : undefined), config)
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const allKeys = leaves(configSchema.parse({}) as unknown as Tree)
const sections = [...new Set(allKeys.flatMap((k) => k.split('.').map((_, i, p) => p.slice(0, i + 1).join('.'))))]

function describe(
  issue: z.core.$ZodIssue,
  merged: Tree,
  place: (key: string) => Partial<ConfigProblem>,
): ConfigProblem[] {
  const path = issue.path.map(String)
  const key = path.join('.')
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((name) => {
      const full = [...path, name].join('.')
      return { key: full, message: `unknown key "${full}"; ${suggestion(full, sections)}`, ...place(full) }
    })
  }
  const value = issue.path.reduce<unknown>((node, part) => (node as Tree | undefined)?.[part as string], merged)
  const shown = value === undefined ? 'nothing' : JSON.stringify(value)
  const indexed = path.reduce((k, p) => (/^\d+$/.test(p) ? `${k}[${p}]` : k === '' ? p : `${k}.${p}`), '')
  return [
    {
      key,
      message: `${indexed} is ${shown}, expected ${expectation(issue, value)}`,
      ...place(path.filter((p) => !/^\d+$/.test(p)).join('.')),
    },
  ]
}

function expectation(issue: z.core.$ZodIssue, value: unknown): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.expected
    case 'invalid_value':
      return oneOf(issue.values.map(String), String(value))
    case 'too_small':
      return `${issue.origin === 'array' ? 'at least that many items:' : 'a number'} ${issue.inclusive ? '>=' : '>'} ${issue.minimum}`
    case 'too_big':
      return `${issue.origin === 'array' ? 'at most that many items:' : 'a number'} ${issue.inclusive ? '<=' : '<'} ${issue.maximum}`
    default:
      return issue.message.replace(/^Invalid (string|input): /, '').replace(/^must match pattern/, 'text like')
  }
}

/** All of a short list; of a long one those nearest to what was written. */
function oneOf(values: string[], written: string): string {
  if (values.length <= LISTED) return `one of ${values.join(', ')}`
  const near = values.toSorted((a, b) => distance(a, written) - distance(b, written)).slice(0, NEAREST)
  return `one of ${near.join(', ')} or ${values.length - near.length} others (\`mammo-retinanet config schema\` lists all)`
}

function suggestion(name: string, known: readonly string[]): string {
  const last = name.split('.').at(-1)!
  const score = (k: string) =>
    Math.min(distance(name, k), distance(last, k.split('.').at(-1)!) + (k.includes('.') ? 0.5 : 0))
  const best = known.reduce((a, b) => (score(b) < score(a) ? b : a))
  return score(best) <= Math.max(2, name.length / 3)
    ? `did you mean "${best}"?`
    : `known: ${known.filter((k) => !k.includes('.')).join(', ')}`
}
