// Does reduced precision pay on this machine? Times one small training step of the configured network both ways before the run starts.
// It measures and tells; the choice stays the user's.
import type { Session } from '../binding/session.js'
import type { SessionConfig } from '../binding/types.js'

export interface PrecisionGain {
  precision: SessionConfig['precision']
  /** Seconds of a step, the fastest of several. */
  seconds: number
  fp32Seconds: number
  /** fp32Seconds / seconds: above 1 the machine gains. */
  gain: number
}

/** Side of the square input. */
const SIDE = 256
const STEPS = 3

/** `open` is openSession; `clock` gives milliseconds. The sessions are closed again. */
export async function measurePrecision(
  config: SessionConfig,
  open: (config: SessionConfig) => Promise<Pick<Session, 'trainStep' | 'dispose'>>,
  clock: () => number,
): Promise<PrecisionGain> {
  const seconds = await stepSeconds(config, open, clock)
  const fp32Seconds = await stepSeconds({ ...config, precision: 'fp32' }, open, clock)
  return { precision: config.precision, seconds, fp32Seconds, gain: fp32Seconds / seconds }
}

async function stepSeconds(
  config: SessionConfig,
  open: (config: SessionConfig) => Promise<Pick<Session, 'trainStep' | 'dispose'>>,
  clock: () => number,
): Promise<number> {
  const { channels } = config.detector.model
  const session = await open(config)
  try {
    const input = Float32Array.from({ length: channels * SIDE * SIDE }, (_, i) => Math.sin(i))
    const images = { canvas: [SIDE, SIDE] as [number, number], sizes: Int32Array.of(SIDE, SIDE), input }
    const targets = {
      ...{ boxes: Float32Array.of(64, 64, 160, 160), labels: Int32Array.of(0), boxOffsets: Int32Array.of(0, 1) },
      ...{ ignore: new Float32Array(0), ignoreOffsets: Int32Array.of(0, 0) },
    }
    const options = {
      ...{ lr: 0, weightDecay: 0, clipNorm: null, clipNormPerTensor: null, clipValue: null },
      lossScale: 1,
    }
    let best = Number.POSITIVE_INFINITY
    // The first step prepares kernels and memory.
    for (let step = 0; step <= STEPS; step++) {
      const from = clock()
      await session.trainStep(images, targets, { ...options, update: false, skipNonFinite: true })
      if (step > 0) best = Math.min(best, (clock() - from) / 1000)
    }
    return best
  } finally {
    await session.dispose()
  }
}

/** One line for people. */
export function describeGain({ precision, seconds, fp32Seconds, gain }: PrecisionGain): string {
  const ms = (s: number) => `${(1000 * s).toFixed(0)} ms`
  const how = `a step on ${SIDE}x${SIDE} takes ${ms(seconds)} in ${precision}, ${ms(fp32Seconds)} in fp32`
  if (gain >= 1) return `precision: ${how}: ${gain.toFixed(2)} times as fast`
  return `${how}: ${precision} is slower on this machine; run.precision=fp32 is faster and more exact`
}
