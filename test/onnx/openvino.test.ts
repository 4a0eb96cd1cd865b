// OpenVINO accepts our graphs and finds the same boxes. Needs a Python with the packages openvino and numpy, named by
// MAMMO_OPENVINO_PYTHON; skips without.
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { calibrate } from '../../lib/onnx/calibrate.js'
import { writeModel } from '../../lib/onnx/export.js'
import { compareDetections, splitDetections } from '../../lib/onnx/parity.js'
import { planQuantisation, quantise } from '../../lib/onnx/precision.js'
import { encodeModel, type ModelMessage } from '../../lib/onnx/proto.js'
import { openOnnx } from '../../lib/onnx/runtime.js'
import { tinyExport } from './tiny-export.js'
import { testImage } from './tiny-model.js'

t.setTimeout(300_000)
const python = process.env['MAMMO_OPENVINO_PYTHON']
const skip = python === undefined ? { skip: 'MAMMO_OPENVINO_PYTHON names no Python with openvino' } : {}
const SIDE = 256

const script = `
import json, sys
import numpy, openvino
model = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
side = int(sys.argv[3])
image = numpy.fromfile(sys.argv[2], dtype="<u2").reshape(1, 1, side, side)
found = model({"image": image, "imageSize": numpy.array([[side, side]], dtype=numpy.int64)})
print(json.dumps({name: found[name].tolist() for name in ("boxes", "scores", "labels", "imageIndex")}))
`

t.test('OpenVINO runs fp32 and int8 graphs', skip, async (t) => {
  const folder = t.testdir()
  const { message, path } = await writeModel(tinyExport(join(folder, 'model.onnx')))
  const image = testImage(SIDE, SIDE)
  const raw = join(folder, 'image.raw')
  writeFileSync(raw, new Uint8Array(image.buffer))
  const feeds = {
    image: { dims: [1, 1, SIDE, SIDE], data: image },
    imageSize: { dims: [1, 2], data: BigInt64Array.of(BigInt(SIDE), BigInt(SIDE)) },
  }
  const there = (file: string) => {
    const { stdout, stderr, status } = spawnSync(python!, ['-c', script, file, raw, String(SIDE)], {
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
    })
    t.equal(status, 0, stderr)
    const { boxes, scores, labels } = JSON.parse(stdout) as { boxes: number[][]; scores: number[]; labels: number[] }
    return { boxes: boxes.flat(), scores, labels }
  }
  const session = await openOnnx(path, { threads: 1 })
  const here = splitDetections(await session.run(feeds), 1)[0]!
  await session.close()
  const { nmsIou, maxDetections, scoreThreshold } = tinyExport(path).detector.post
  const result = compareDetections(here, there(path), { nmsIou, maxDetections, scoreThreshold })
  t.strictSame(result.failures, [])
  t.ok(result.matched > 0)

  async function* once() {
    yield feeds
  }
  const options = { percentile: 100, threads: 1, scratch: join(folder, 'scratch.onnx') }
  const ranges = await calibrate(message, once(), options)
  const int8: ModelMessage = quantise(message, planQuantisation(message), ranges, { weightBits: 8 })
  const file = join(folder, 'int8.onnx')
  writeFileSync(file, encodeModel(int8))
  const found = there(file)
  t.ok(found.scores.length > 0)
  t.ok(Math.abs(found.scores[0]! - here.scores[0]!) < 0.1, `${found.scores[0]} and ${here.scores[0]}`)
})
