// The bridge for users of keras-retinanet (docs/from-keras-retinanet.md) says nothing that is not so: every key and value it names is one of
// our configuration, every option one of our commands, and every option of keras-retinanet has its line. Its files are read as they are:
// config.ini in test/config/keras-ini.test.ts, CSV in test/data/formats/keras-csv.test.ts, weights in test/parity/weight-files.test.ts.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { runCli } from '../lib/cli/main.js'
import { defaultConfig, leaves, loadConfig } from '../lib/config/load.js'
import { packageRoot } from '../lib/package-root.js'

const text = readFileSync(join(packageRoot(), 'docs', 'from-keras-retinanet.md'), 'utf8')
const code = [...text.matchAll(/`([^`\n]+)`/g)].map(([, inner]) => inner!)

/** Options of keras-retinanet 1.0.0 by script, from its parsers. */
const OPTIONS: Record<string, string[]> = {
  train: [
    ...['snapshot', 'imagenet-weights', 'weights', 'no-weights', 'backbone', 'batch-size', 'gpu', 'multi-gpu'],
    ...['multi-gpu-force', 'initial-epoch', 'epochs', 'steps', 'lr', 'optimizer-clipnorm', 'snapshot-path'],
    ...['tensorboard-dir', 'tensorboard-freq', 'no-snapshots', 'no-evaluation', 'freeze-backbone', 'random-transform'],
    ...['image-min-side', 'image-max-side', 'no-resize', 'config', 'weighted-average', 'compute-val-loss'],
    ...['reduce-lr-patience', 'reduce-lr-factor', 'group-method', 'multiprocessing', 'workers', 'max-queue-size'],
    ...['val-annotations', 'image-extension'],
  ],
  evaluate: [
    ...['convert-model', 'backbone', 'gpu', 'score-threshold', 'iou-threshold', 'max-detections', 'save-path'],
    ...['image-min-side', 'image-max-side', 'no-resize', 'config'],
  ],
  debug: [
    ...[
      'no-resize',
      'anchors',
      'display-name',
      'show-annotations',
      'annotations',
      'random-transform',
      'image-min-side',
    ],
    ...['image-max-side', 'config', 'no-gui', 'output-dir', 'flatten-output'],
  ],
  convert_model: [
    ...['backbone', 'no-nms', 'no-class-specific-filter', 'config', 'nms-threshold', 'score-threshold'],
    ...['max-detections', 'parallel-iterations'],
  ],
}

/** The lines of a section's table: what stands left and right. */
function rows(section: string): [left: string, right: string][] {
  const body = text.split(new RegExp(`^## ${section}$`, 'm'))[1]!.split(/^## /m)[0]!
  return [...body.matchAll(/^\| (.+?) \| (.+?) \|$/gm)].slice(1).map(([, left, right]) => [left!, right!])
}

t.test('every option of its four scripts has a line', (t) => {
  for (const [script, options] of Object.entries(OPTIONS)) {
    const left = rows(script)
      .map(([cell]) => cell)
      .join(' ')
    for (const option of options) {
      if (!new RegExp(`--${option}(?![\\w-])`).test(left)) t.fail(`${script}: --${option} has no line`)
    }
    t.ok(
      rows(script).every(([, right]) => right.length > 10),
      script,
    )
  }
  t.end()
})

t.test('every key exists and takes the value shown', async (t) => {
  const known = new Set(leaves(defaultConfig() as never))
  const set: Record<string, string> = {}
  for (const part of code) {
    const [, key, value] = /^([a-z]+(?:\.[a-zA-Z]+)+)(?:=(.+))?$/.exec(part) ?? []
    if (key === undefined || /\.(md|ini|csv|h5|json|onnx|yaml)$/.test(key)) continue
    if (!known.has(key)) t.fail(`${key} is no key`)
    if (value !== undefined && !/^(DIR|FILE)$/.test(value)) set[key] = value
  }
  t.ok(Object.keys(set).length > 30, `${Object.keys(set).length} keys`)
  for (const [key, value] of Object.entries(set)) {
    const needed = key.startsWith('data.resize') ? { 'data.resize.rule': 'sides' } : {}
    await t.resolves(loadConfig({ set: { ...needed, [key]: value }, hasWeights: true }), `${key}=${value}`)
  }
})

t.test('every option of ours exists', async (t) => {
  const help = async (command: string) => {
    let out = ''
    const write = (line: string) => {
      out += line
    }
    await runCli([...command.split(' ').filter(Boolean), '--help'], {
      ...{ stdout: write, stderr: write, isTty: false, columns: 200, env: {} },
    } as never)
    return out
  }
  const commands = [
    '',
    'train',
    'evaluate',
    'predict',
    'export',
    'data prepare',
    'data split',
    'data view',
    'config init',
  ]
  const all = (await Promise.all(commands.map(help))).join('\n')
  const right = Object.keys(OPTIONS).flatMap((script) => rows(script).map(([, cell]) => cell))
  const blocks = [...text.matchAll(/```\n([\s\S]*?)```/g)].map(([, block]) => block!)
  for (const [option] of [...right, ...blocks].join(' ').matchAll(/--[a-z][a-z-]*/g)) {
    if (!new RegExp(`${option}(?![\\w-])`).test(all)) t.fail(`${option} is no option of ours`)
  }
  t.match(all, /--from-ini/)
})
