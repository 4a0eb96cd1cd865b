// `info` on an exported model, and the words of `export` that need no engine.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { runCli } from '../../lib/cli/main.js'
import { unverifiedRecord, writeManifest, writeModel } from '../../lib/onnx/export.js'
import { tinyExport } from '../onnx/tiny-export.js'

async function run(...argv: string[]) {
  let [out, err] = ['', '']
  const stdout = (text: string) => {
    out += text
  }
  const stderr = (text: string) => {
    err += text
  }
  return { code: await runCli(argv, { stdout, stderr, isTty: false, columns: 100, env: {} }), out, err }
}

t.test('an exported model: facts, manifest, nodes', async (t) => {
  const model = join(t.testdir(), 'model.onnx')
  await writeManifest(await writeModel(tinyExport(model)), unverifiedRecord('test'))
  t.match(await run('info', model), { code: 0, out: /^onnx .*\n {2}model +mammo-retinanet 1\.0\.0, detect, fp32/ })
  const manifest = await run('info', model, '--manifest')
  t.equal(manifest.code, 0)
  t.strictSame(
    JSON.parse(manifest.out),
    JSON.parse(readFileSync(model.replace('.onnx', '.manifest.json'), 'utf8')),
    'the whole manifest',
  )
  const text = await run('info', model, '--graph')
  t.match(text, { code: 0, out: /^graph mammo_retinanet: \d+ nodes/ })
  t.match(text.out, /^input {3}image uint16 \[N, 1, H, W\]/m)
  t.match(text.out, /^backbone\.conv1 +Conv +\[N, \d+, H_2, W_2\] +\d+$/m)
  const json = JSON.parse((await run('info', model, '--graph', '--json')).out)
  t.match(text.out, `graph mammo_retinanet: ${json.nodes.length} nodes`)
})

t.test('what is no model, and shapes without --shape', async (t) => {
  const refused = { code: 2, err: 'ERR_MAMMO_ARGUMENT' }
  t.match(await run('info', 'cbis-resized', '--graph'), refused)
  t.match(await run('export', 'a-run', '384x320'), { ...refused, err: 'got also 384x320' })
  t.match(await run('export', 'a-run', '--calibration', 'val'), { code: 2, err: 'Allowed choices are train' })
})
