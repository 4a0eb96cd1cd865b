// The device's warp against its TypeScript reference: affines, block averages, elastic displacement, on 16-bit noise and ramps.
import t from 'tap'
import { native } from '../../lib/binding/session.js'
import { elasticOf } from '../../lib/geometry/elastic.js'
import { type Window, warpWindow } from '../../lib/geometry/warp.js'
import { randomStream } from '../../lib/random.js'

async function onDevice(window: Window, size: [number, number], canvas: [number, number]): Promise<Float32Array> {
  const { elastic } = window
  const found = await native().runOp('warp', {
    canvas: Int32Array.from(canvas),
    channels: 1,
    sizes: Int32Array.from(size),
    shapes: Int32Array.of(window.height, window.width),
    pixels: window.pixels,
    affines: Float64Array.from(window.affine),
    reduce: Int32Array.of(window.reduce),
    normalise: Float32Array.of(window.mean, window.std),
    intensity: Float32Array.of(...window.intensity, 0),
    noiseSeed: Uint32Array.of(0),
    ...(elastic ? { elastic: Float64Array.of(elastic.amplitude, elastic.spacing, elastic.seed) } : {}),
  })
  return found['input'] as Float32Array
}

t.test('60 random windows: within a twentieth of a grey level', async (t) => {
  let worst = 0
  for (let n = 0; n < 60; n++) {
    const random = randomStream(n, 'warp-native')
    const [width, height] = [40 + random.integer(400), 40 + random.integer(300)]
    const pixels = Uint16Array.from({ length: width * height }, () => random.integer(65536))
    const [angle, scale] = [random.uniform(-0.6, 0.6), random.uniform(0.6, 2.4)]
    const [cos, sin] = [scale * Math.cos(angle), scale * Math.sin(angle)]
    const elastic = n % 4 === 0 ? null : elasticOf(random.uniform(0.5, 40), random.uint32())
    const window: Window = {
      ...{ pixels, width, height, reduce: n % 3 === 2 ? 1 : 0, mean: 0, std: 1, intensity: [1, 0, 1], elastic },
      affine: [cos, -sin, random.uniform(-40, 40), sin, cos, random.uniform(-40, 40)],
    }
    const size: [number, number] = [20 + random.integer(200), 20 + random.integer(300)]
    const canvas: [number, number] = [256, 320]
    const expected = warpWindow(window, size, canvas)
    const found = await onDevice(window, size, canvas)
    for (let i = 0; i < expected.length; i++) worst = Math.max(worst, Math.abs(found[i]! - expected[i]!))
  }
  t.ok(worst < 0.05, `worst ${worst}`)
})

t.test('a 16-bit ramp keeps its values where nothing moves it', async (t) => {
  const [width, height] = [256, 64]
  const pixels = Uint16Array.from({ length: width * height }, (_, i) => 256 * (i % width) + Math.floor(i / width))
  const window: Window = {
    ...{ pixels, width, height, affine: [1, 0, 0, 0, 1, 0], reduce: 0, mean: 0, std: 1, intensity: [1, 0, 1] },
  }
  for (const elastic of [null, { amplitude: 0, spacing: 64, seed: 9 }]) {
    const found = await onDevice({ ...window, elastic }, [height, width], [height, width])
    t.same(Array.from(found), Array.from(pixels))
  }
})
