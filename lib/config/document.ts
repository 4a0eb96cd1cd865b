// Configurations as YAML texts for people: every value with its origin, or a commented starter file.
import { stringify } from 'yaml'
import { defaultConfig, type LoadedConfig, leaves, valueAt } from './load.js'
import { configJsonSchema, type Semantics } from './schema.js'

/** The resolved configuration as YAML, each value with its origin as a comment; `diff` keeps what differs from the defaults. */
export function showConfig(loaded: LoadedConfig, diff: boolean): string {
  const base = defaultConfig(loaded.config.model.semantics)
  const shown = (key: string) => {
    const value = valueAt(loaded.config, key)
    if (!diff) return true
    return JSON.stringify(value) !== JSON.stringify(valueAt(base, key)) || key === 'model.semantics'
  }
  return yamlTree(leaves(loaded.config as never).filter(shown), (key) => ({
    value: valueAt(loaded.config, key),
    comment: loaded.origins.get(key) ?? 'default',
  }))
}

/** The resolved configuration as plain YAML that `--config` reads back to the same values. */
export function resolvedYaml(loaded: LoadedConfig): string {
  return stringify(loaded.config, { lineWidth: 0 })
}

/** A starter file: the preset's name, and every key with its meaning; those that are not given stand commented out with their defaults. */
export function starterFile(
  preset: string | undefined,
  semantics: Semantics = 'mammo',
  given: ReadonlyMap<string, unknown> = new Map(),
): string {
  const base = defaultConfig(semantics)
  const head = [
    '# Configuration of mammo-retinanet. Remove the # of a line to change its value.',
    '# Check it with: mammo-retinanet config show --config THIS_FILE --diff',
    preset === undefined ? '# extends: inbreast-two-stage' : `extends: ${preset}`,
    '',
  ]
  const body = yamlTree(
    leaves(base as never),
    (key) => ({ value: given.get(key) ?? valueAt(base, key), comment: descriptionOf(key) }),
    (key) => ![...given.keys()].some((name) => name === key || name.startsWith(`${key}.`)),
  )
  return `${head.join('\n')}\n${body}`
}

/** Meaning of a key, from the schema. */
export function descriptionOf(key: string): string {
  type Node = { description?: string; properties?: Record<string, Node> }
  let node: Node | undefined = configJsonSchema([]) as Node
  for (const part of key.split('.')) node = node?.properties?.[part]
  return node?.description ?? ''
}

/** `commented`: whether the line of a key or section has a # before it. */
function yamlTree(
  keys: string[],
  entry: (key: string) => { value: unknown; comment: string },
  commented: (key: string) => boolean = () => false,
): string {
  const lines: string[] = []
  let open: string[] = []
  for (const key of keys) {
    const parts = key.split('.')
    const parents = parts.slice(0, -1)
    const same = parents.findIndex((p, i) => open[i] !== p)
    for (let i = same === -1 ? parents.length : same; i < parents.length; i++) {
      const mark = commented(parents.slice(0, i + 1).join('.')) ? '# ' : ''
      lines.push(`${mark}${'  '.repeat(i)}${parents[i]}:`)
    }
    open = parents
    const { value, comment } = entry(key)
    const text = `${'  '.repeat(parents.length)}${parts.at(-1)}: ${JSON.stringify(value)}`
    const mark = commented(key) ? '# ' : ''
    lines.push(`${mark}${comment === '' ? text : `${text.padEnd(44)} # ${comment}`}`)
  }
  return `${lines.join('\n')}\n`
}
