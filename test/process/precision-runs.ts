// Trains a tiny detector in fp32 and in bf16 on the same batches and compares the smoothed losses. Training is chaotic: at a rate of 2e-3
// with 2 images per update, 200 updates in fp32 whose rate differs by a millionth end up as far apart (8.7 to 11 %) as fp32 and bf16 (9.3 %).
// At 5e-4 with 2 images bf16 is 7.8 % away and that fp32 0.5 %: bf16 starts the divergence earlier, and 20 updates of 2 images are a noisy mean.
// A long comparison therefore takes a lower rate and more images per update, and measures fp32 against such an fp32 beside it.
import { join } from 'node:path'
import { train } from '../../lib/tasks/train.js'
import { preparedFixture } from '../train/prepared-fixture.js'
import { tinyRun } from './training.js'

export interface PrecisionSetting {
  steps: number
  /** Updates whose mean is compared. */
  window: number
  lr?: number
  batchSize?: number
  /** Also compares fp32 with fp32 at a rate that is larger by a millionth. */
  control?: boolean
}

/** Losses of the updates of one run. */
async function losses(
  home: string,
  data: string,
  precision: 'fp32' | 'bf16',
  { steps, lr = 2e-3, batchSize = 2 }: PrecisionSetting,
  rateFactor = 1,
): Promise<number[]> {
  const config = tinyRun(data, join(home, 'runs'))
  config.train.lr = lr * rateFactor
  Object.assign(config.run, { precision, pictures: 0 })
  const schedule = { ...config.train.schedule, kind: 'cosine' as const, warmupSteps: 10 }
  config.train.phases = [{ ...config.train.phases![0]!, epochs: 1, stepsPerEpoch: steps, schedule, batchSize }]
  const run = train(config, { name: precision })
  const list: number[] = []
  for await (const event of run.events()) if (event.type === 'iteration') list.push(event.loss)
  await run.done
  return list
}

/**
 * The largest relative difference between the means over `window` updates, of bf16 and of the control against fp32, and the first and last
 * of those means in fp32.
 */
export async function precisionDifference(
  home: string,
  setting: PrecisionSetting,
): Promise<{ worst: number; control: number; first: number; last: number }> {
  const { steps, window } = setting
  const data = await preparedFixture(join(home, 'prepared'), { train: 8, val: 2 })
  const [fp32, bf16] = [await losses(home, data, 'fp32', setting), await losses(home, data, 'bf16', setting)]
  const again = setting.control ? await losses(home, data, 'fp32', setting, 1 + 1e-6) : fp32
  if (fp32.length !== steps || bf16.length !== steps) throw new Error(`${fp32.length} and ${bf16.length} updates`)
  if (fp32.every((loss, i) => loss === bf16[i])) throw new Error('the two runs are the same')
  const smooth = (list: number[]) =>
    list.slice(window - 1).map((_, i) => list.slice(i, i + window).reduce((sum, loss) => sum + loss, 0) / window)
  const a = smooth(fp32)
  const apart = (list: number[]) => Math.max(...smooth(list).map((mean, i) => Math.abs(mean - a[i]!) / a[i]!))
  return { worst: apart(bf16), control: apart(again), first: a[0]!, last: a.at(-1)! }
}
