// Export against the engine: every ResNet with every semantics, the same detections from the ONNX file in onnxruntime (child process)
// and from the native session, on crops of real mammograms where they are at hand. Needs the addon.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { native, openSession, type Session } from '../../lib/binding/session.js'
import type { ImageBatch, SessionConfig } from '../../lib/binding/types.js'
import { BACKBONES, backboneOf } from '../../lib/config/backbones.js'
import { padMultiple, sessionConfig } from '../../lib/config/detector.js'
import { defaultConfig } from '../../lib/config/load.js'
import { SEMANTICS } from '../../lib/config/schema.js'
import { readImage } from '../../lib/data/image.js'
import { combineSums, pixelSums } from '../../lib/data/statistics.js'
import type { MammoError } from '../../lib/errors.js'
import { type WriteModelOptions, writeModel } from '../../lib/onnx/export.js'
import { compareDetections, compareHeads, mergeParity, runOnnx, splitDetections } from '../../lib/onnx/parity.js'
import { packageRoot } from '../../lib/package-root.js'
import { tinyExport } from '../onnx/tiny-export.js'
import { testImage } from '../onnx/tiny-model.js'

t.setTimeout(1_200_000)

const threads = 2
/** Backbones whose raw head outputs are compared too: one of each block. */
const RAW_OUTPUTS: readonly string[] = ['resnet18', 'resnet50']
const canvas: [number, number] = [256, 384]
const sizes: [number, number][] = [canvas, [230, 300]]

/** Two crops of a film, the second smaller than the canvas; a drawn phantom without the data folder. */
async function crops(): Promise<{ pixels: Uint16Array; source: string }> {
  const folder = process.env['MAMMO_DATA'] ?? join(packageRoot(), '..', 'shared', 'data')
  const film = join(folder, 'cbis-ddsm-fullres', 'Mass-Training_P_00801_LEFT_MLO.jpg')
  const pixels = new Uint16Array(2 * canvas[0] * canvas[1])
  if (!existsSync(film)) {
    for (const [n, size] of sizes.entries()) pixels.set(testImage(...canvas, size), n * canvas[0] * canvas[1])
    return { pixels, source: 'phantom' }
  }
  const image = await readImage(film)
  const corners: [number, number][] = [
    [Math.floor(image.height / 2), Math.floor(image.width / 4)],
    [Math.floor(image.height / 3), Math.floor(image.width / 3)],
  ]
  for (const [n, [top, left]] of corners.entries()) {
    const [height, width] = sizes[n]!
    for (let y = 0; y < height; y++) {
      const from = (top + y) * image.width + left
      pixels.set(image.pixels.subarray(from, from + width), (n * canvas[0] + y) * canvas[1])
    }
  }
  return { pixels, source: 'film' }
}

/** Spreads the scores and moves the boxes of an untrained network, so that thresholds and suppression have work. */
async function spread(session: Session, batch: ImageBatch): Promise<void> {
  const { logits, deltas } = await session.forward(batch)
  for (const [name, values, deviation, bias] of [
    ['head.cls.logits', logits, 1.2, -3.5],
    ['head.box.deltas', deltas, 0.25, 0],
  ] as const) {
    const weight = await session.getTensor(`${name}.weight`)
    const shift = await session.getTensor(`${name}.bias`)
    const mean = values.reduce((a, b) => a + b, 0) / values.length
    const std = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length)
    await session.setTensor(
      `${name}.weight`,
      weight.data.map((v) => (v * deviation) / std),
    )
    await session.setTensor(
      `${name}.bias`,
      shift.data.map((v) => bias + ((v - mean) * deviation) / std),
    )
  }
}

const available = await native()
  .configure(threads)
  .then(
    () => true,
    (error: MammoError) => error.code,
  )
  .catch(() => false)

for (const semantics of SEMANTICS) {
  for (const backbone of BACKBONES.filter((name) => backboneOf(name).family === 'resnet')) {
    t.test(`${semantics} ${backbone}`, { skip: available === true ? false : 'the addon is not built' }, async (t) => {
      const config = defaultConfig(semantics)
      config.model.backbone = backbone
      config.predict.scoreThreshold = 0.05
      const settings: SessionConfig = sessionConfig(config)
      const { pixels, source } = await crops()
      const { mean, std } = combineSums([pixelSums(pixels)], 'crops')
      const batch: ImageBatch = {
        canvas,
        sizes: Int32Array.from(sizes.flat()),
        windows: {
          pixels,
          shapes: Int32Array.from([...canvas, ...canvas]),
          affines: Float64Array.from([1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0]),
          reduce: new Int32Array(2),
          normalise: Float32Array.of(mean, std, mean, std),
          intensity: Float32Array.of(1, 0, 1, 0, 1, 0, 1, 0),
          noiseSeed: new Uint32Array(2),
        },
      }
      const session = await openSession(settings)
      try {
        await spread(session, batch)
        const parameters: WriteModelOptions['parameters'] & Map<string, { shape: number[]; data: Float32Array }> =
          new Map()
        for (const { name } of await session.parameters()) parameters.set(name, await session.getTensor(name))
        const base = tinyExport(
          join(t.testdir(), 'model.onnx'),
          {},
          { mean: [mean], std: [std], padMultiple: padMultiple(config) },
        )
        const options: WriteModelOptions = {
          ...base,
          detector: settings.detector,
          backbone: await native().describeBackbone(settings.detector.model),
          parameters,
        }
        const image = { dims: [2, 1, ...canvas], data: pixels }
        const imageSize = { dims: [2, 2], data: BigInt64Array.from(sizes.flat(), BigInt) }

        let head = ''
        if (RAW_OUTPUTS.includes(backbone)) {
          const heads = await writeModel({ ...options, graph: 'heads' })
          const raw = await session.forward(batch)
          const { outputs } = await runOnnx(heads.path, [{ image }], threads)
          const { ok, worstLogit, worstDelta } = compareHeads(outputs[0]!, settings.detector.model.levels, raw, 2)
          head = `logits within ${worstLogit.toExponential(1)}, deltas within ${worstDelta.toExponential(1)}, `
          t.ok(ok, head)
        }

        const detect = await writeModel(options)
        const found = splitDetections((await runOnnx(detect.path, [{ image, imageSize }], threads)).outputs[0]!, 2)
        const expected = await session.detect(batch)
        const result = mergeParity(
          found.map((set, n) => {
            const [from, to] = [expected.offsets[n]!, expected.offsets[n + 1]!]
            const reference = {
              boxes: expected.boxes.slice(4 * from, 4 * to),
              scores: expected.scores.slice(from, to),
              labels: expected.labels.slice(from, to),
            }
            return { image: `${source} ${n}`, result: compareDetections(reference, set, settings.detector.post) }
          }),
        )
        t.strictSame(result.failures, [], 'the same detections')
        t.ok(result.matched > 20, `${result.matched} detections`)
        t.comment(
          `${semantics} ${backbone}: ${result.matched} detections on ${source}, ${head}scores ${result.worstScore.toExponential(1)}, boxes ${result.worstBoxPixels.toExponential(1)} px, ${result.borderline.length} at a cut`,
        )
      } finally {
        await session.dispose()
      }
    })
  }
}
