// One round of one trial, alone in its process: node child.js SCRIPT OPTIONS. Prints a JSON measurement as its last line.
import type { Measurement } from './trials.js'

const [script, options] = process.argv.slice(2)
const module = (await import(`./trials/${script}.js`)) as {
  measure(options: Record<string, unknown>): Promise<Measurement>
}
const result = await module.measure(JSON.parse(options ?? '{}'))
process.stdout.write(`${JSON.stringify(result)}\n`)
