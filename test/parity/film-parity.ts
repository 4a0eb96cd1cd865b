// Detections of the exported graph against the engine's on real films: an untrained detector whose outputs are spread so that it finds boxes.
// Small crops of many backbones and whole films of every semantics run in the slow tier.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { native, openSession, type Session } from '../../lib/binding/session.js'
import type { DetectorConfig, ImageBatch } from '../../lib/binding/types.js'
import { padMultiple, sessionConfig } from '../../lib/config/detector.js'
import type { Config } from '../../lib/config/schema.js'
import { readImage } from '../../lib/data/image.js'
import { writeModel } from '../../lib/onnx/export.js'
import { compareDetections, type DetectionSet, mergeParity, runOnnx, splitDetections } from '../../lib/onnx/parity.js'
import type { Tensor } from '../../lib/onnx/runtime.js'
import { randomStream } from '../../lib/random.js'
import { dataPath } from '../data-folder.js'
import { tinyExport } from '../onnx/tiny-export.js'
import { disturbNorms, scaleOutputs } from './backbone-parity.js'

export interface Film {
  name: string
  pixels: Uint16Array
  height: number
  width: number
}

const SCORE_FLOOR = 0.2
/** Of the logits and deltas over all anchors: about one anchor in a hundred is above the floor, boxes stay near their anchors. */
const SPREAD = { logitMean: -4, logitDeviation: 1.1, deltaDeviation: 0.2 }
const MEAN = 60
const STD = 50

/** Paths of the films of the data folder; empty without it. */
export function filmPaths(): string[] {
  const folder = dataPath('cbis-ddsm-fullres')
  if (!existsSync(folder)) return []
  const names = readdirSync(folder).filter((name) => name.endsWith('.jpg'))
  return names.sort().map((name) => join(folder, name))
}

/** The whole film, padded with 0 to multiples of `multiple`. */
export async function wholeFilm(path: string, multiple: number): Promise<Film> {
  const { pixels, width, height } = await readImage(path)
  const up = (side: number) => Math.ceil(side / multiple) * multiple
  const film = { name: path.split('/').at(-1)!, height: up(height), width: up(width) }
  const padded = new Uint16Array(film.height * film.width)
  for (let y = 0; y < height; y++) padded.set(pixels.subarray(y * width, (y + 1) * width), y * film.width)
  return { ...film, pixels: padded }
}

/** Crops of the films in turn, at random places of which at least half is not background. */
export async function filmCrops(count: number, side: number): Promise<Film[]> {
  const paths = filmPaths()
  const crops: Film[] = []
  for (const [i, path] of paths.entries()) {
    const { pixels, width, height } = await readImage(path)
    const random = randomStream(i, 'film-crops')
    const share = Math.floor(count / paths.length) + (i < count % paths.length ? 1 : 0)
    for (let found = 0, tries = 0; found < share && tries < 10_000; tries++) {
      const [x, y] = [Math.floor(random.uniform(0, width - side)), Math.floor(random.uniform(0, height - side))]
      const crop = new Uint16Array(side * side)
      for (let row = 0; row < side; row++) {
        const from = (y + row) * width + x
        crop.set(pixels.subarray(from, from + side), row * side)
      }
      if (crop.filter((value) => value > 20).length < crop.length / 2) continue
      crops.push({ name: `${path.split('/').at(-1)} at ${x},${y}`, pixels: crop, height: side, width: side })
      found++
    }
  }
  return crops
}

/** All films (of one size) through both sides; with `twoStep` also through the two-step graph. */
export async function checkFilms(t: Test, name: string, config: Config, films: readonly Film[]): Promise<void> {
  config.predict.scoreThreshold = SCORE_FLOOR
  const settings = sessionConfig(config)
  const { detector } = settings
  const session = await openSession(settings)
  try {
    const batches = films.map(batchOf)
    await disturbNorms(session)
    await scaleOutputs(session, filmCentre(films[0]!))
    await spreadOutputs(session)
    const expected: DetectionSet[] = []
    for (const batch of batches) expected.push(await session.detect(batch))
    const parameters = new Map<string, { shape: number[]; data: Float32Array }>()
    for (const { name: key } of await session.parameters()) parameters.set(key, await session.getTensor(key))
    const feeds = films.map(({ pixels, height, width }): Record<string, Tensor> => {
      const imageSize: Tensor = { dims: [1, 2], data: BigInt64Array.of(BigInt(height), BigInt(width)) }
      return { image: { dims: [1, 1, height, width], data: pixels }, imageSize }
    })
    for (const twoStep of detector.model.headNorm.box === 'none' ? [false, true] : [false]) {
      const input = { padMultiple: padMultiple(config), mean: [MEAN], std: [STD] }
      const written = await writeModel({
        ...tinyExport(join(t.testdir(), 'model.onnx'), {}, input),
        ...{ detector, parameters, twoStep, classes: config.data.classes },
        backbone: await native().describeBackbone(detector.model),
      })
      const { outputs } = await runOnnx(written.path, feeds, 1)
      const parity = mergeParity(
        await Promise.all(
          films.map(async ({ name: image }, i) => {
            const [found] = splitDetections(outputs[i]!, 1) as [DetectionSet]
            const cuts = { ...detector.post, scoreThreshold: SCORE_FLOOR }
            const plain = compareDetections(expected[i]!, found, cuts)
            if (plain.ok) return { image, result: plain }
            const pool = await beforeNms(session, detector, batches[i]!)
            return { image, result: compareDetections(expected[i]!, found, cuts, pool) }
          }),
        ),
      )
      const text = `${name}${twoStep ? ', two steps' : ''}: ${parity.matched} detections on ${films.length} images, scores within ${parity.worstScore.toExponential(1)}, boxes within ${parity.worstBoxPixels.toFixed(4)} px (${parity.worstBoxRatio.toFixed(2)} of the tolerance), ${parity.borderline.length} borderline`
      t.ok(parity.ok, text, { failures: parity.failures.slice(0, 5) })
      t.ok(parity.matched >= 2 * films.length, `${name}: enough detections to compare`)
      t.ok(parity.borderline.length < parity.matched / 50, `${name}: few are borderline`)
    }
  } finally {
    await session.dispose()
  }
}

function batchOf({ pixels, height, width }: Film): ImageBatch {
  return {
    canvas: [height, width],
    sizes: Int32Array.of(height, width),
    windows: {
      pixels,
      shapes: Int32Array.of(height, width),
      affines: Float64Array.of(1, 0, 0, 0, 1, 0),
      reduce: Int32Array.of(0),
      normalise: Float32Array.of(MEAN, STD),
      intensity: Float32Array.of(1, 0, 1, 0),
      noiseSeed: Uint32Array.of(0),
    },
  }
}

/** At most 512 x 512 pixels from the middle, to measure the outputs on. */
function filmCentre({ name, pixels, height, width }: Film): ImageBatch {
  const side = Math.min(512, height, width)
  const [top, left] = [(height - side) >> 1, (width - side) >> 1]
  const centre = new Uint16Array(side * side)
  for (let y = 0; y < side; y++) {
    const from = (top + y) * width + left
    centre.set(pixels.subarray(from, from + side), y * side)
  }
  return batchOf({ name, pixels: centre, height: side, width: side })
}

/** From deviation 1 and mean 0 to SPREAD. */
async function spreadOutputs(session: Session): Promise<void> {
  const change = async (name: string, factor: number, shift: number) => {
    const { data } = await session.getTensor(name)
    await session.setTensor(
      name,
      data.map((value) => factor * value + shift),
    )
  }
  await change('head.cls.logits.weight', SPREAD.logitDeviation, 0)
  await change('head.cls.logits.bias', SPREAD.logitDeviation, SPREAD.logitMean)
  await change('head.box.deltas.weight', SPREAD.deltaDeviation, 0)
  await change('head.box.deltas.bias', SPREAD.deltaDeviation, 0)
}

/** All boxes above the score floor, nothing suppressed, no limit per level. */
async function beforeNms(session: Session, { post }: DetectorConfig, batch: ImageBatch): Promise<DetectionSet> {
  await session.update({ post: { ...post, topkPerLevel: null, nmsIou: 1, maxDetections: 1_000_000 } })
  const found = await session.detect(batch)
  await session.update({ post })
  return found
}
