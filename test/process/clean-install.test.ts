// The packed package in a clean folder predicts without addon, LibTorch, compiler or Python: only node is on the PATH, and nothing that
// was built here is in the tarball. Its dependencies are those installed here, so that no network is needed.
import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { encodeGrey16Png } from '../../lib/data/raster.js'
import { unverifiedRecord, writeManifest, writeModel } from '../../lib/onnx/export.js'
import { packageRoot } from '../../lib/package-root.js'
import type { Prediction } from '../../lib/predict/results.js'
import { tinyExport } from '../onnx/tiny-export.js'
import { testImage } from '../onnx/tiny-model.js'

t.setTimeout(600_000)
const run = promisify(execFile)

t.test('the package predicts with nothing but node beside it', async (t) => {
  const root = t.testdir({})
  const pack = ['pack', '--ignore-scripts', '--json', '--pack-destination', root]
  const { stdout } = await run('npm', pack, { cwd: packageRoot(), maxBuffer: 2 ** 26 })
  const [{ filename, files }] = JSON.parse(stdout) as [{ filename: string; files: { path: string }[] }]
  t.strictSame(
    files.map(({ path }) => path).filter((path) => /\.node$|^build\/|^test\/|^dist\/(test|bench)\//.test(path)),
    [],
    'nothing built, no tests',
  )
  await run('tar', ['-xzf', filename, '-C', root], { cwd: root })
  const home = join(root, 'package')
  symlinkSync(join(packageRoot(), 'node_modules'), join(home, 'node_modules'))
  const only = join(root, 'bin')
  mkdirSync(only)
  symlinkSync(process.execPath, join(only, 'node'))

  const model = join(root, 'model.onnx')
  await writeManifest(await writeModel(tinyExport(model)), unverifiedRecord('test'))
  const image = join(root, 'film.png')
  writeFileSync(image, await encodeGrey16Png(testImage(256, 200), 200, 256))
  const out = join(root, 'out')
  const env = { PATH: only, HOME: root, LIBTORCH: join(root, 'none') }
  const bin = join(home, 'bin', 'mammo-retinanet.js')
  const args = [bin, 'predict', model, image, '--out', out, '--output', 'json,png,csv']
  const ended = await run(join(only, 'node'), args, { cwd: root, env })
  t.match(ended.stdout, /1 images/)
  const prediction = JSON.parse(readFileSync(join(out, 'film.json'), 'utf8')) as Prediction
  t.ok(prediction.detections.length > 0)

  const script = `import { loadDetector } from 'mammo-retinanet'
const detector = await loadDetector(process.argv[1])
const { detections } = await detector.predict(process.argv[2])
await detector.close()
console.log(detections.length)`
  const user = join(root, 'user')
  mkdirSync(join(user, 'node_modules'), { recursive: true })
  symlinkSync(home, join(user, 'node_modules', 'mammo-retinanet'))
  const module = ['--input-type=module', '-e', script, model, image]
  const asLibrary = await run(join(only, 'node'), module, { cwd: user, env })
  t.equal(Number(asLibrary.stdout), prediction.detections.length, 'the same from a program')
})
