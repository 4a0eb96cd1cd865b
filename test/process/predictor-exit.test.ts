// A process that predicts ends by itself: with and without closing the detector, after an error, in both kinds of isolation.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { unverifiedRecord, writeManifest, writeModel } from '../../lib/onnx/export.js'
import { tinyExport } from '../onnx/tiny-export.js'

t.setTimeout(600_000)

const predictor = new URL('../../lib/predict/predictor.js', import.meta.url).href

function script(body: string): string {
  return `
import { loadDetector } from ${JSON.stringify(predictor)}
const image = () => ({ data: new Uint16Array(128 * 128).fill(1000), height: 128, width: 128 })
const detector = await loadDetector(process.argv[1], { threadsPerWorker: 1, isolation: process.argv[2] })
${body}
`
}

function run(
  body: string,
  model: string,
  isolation: string,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const args = ['--input-type=module', '-e', script(body), model, isolation]
    const child = execFile(process.execPath, args, { timeout: 120_000 }, (_, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    )
  })
}

const bodies: [string, string][] = [
  ['closed', "await detector.predict(image()); await detector.close(); console.log('end')"],
  ['not closed', "await detector.predict(image()); console.log('end')"],
  [
    'closed at once, work cancelled',
    "const p = detector.predict(image()); const q = detector.predict(image()).catch(() => {}); await detector.close(); await p; await q; console.log('end')",
  ],
  [
    'after a bad image',
    "await detector.predict({ data: new Uint16Array(1), height: 2, width: 2 }).catch((e) => console.log(e.code)); console.log('end')",
  ],
  ['never used', "console.log('end')"],
]

for (const isolation of ['thread', 'process']) {
  t.test(isolation, async (t) => {
    const model = join(t.testdir(), 'model.onnx')
    await writeManifest(await writeModel(tinyExport(model)), unverifiedRecord('test'))
    for (const [name, body] of bodies) {
      const { code, stdout, stderr } = await run(body, model, isolation)
      t.strictSame({ code, stderr }, { code: 0, stderr: '' }, name)
      t.match(stdout, /end\n$/, name)
    }
  })
}
