// Trains a tiny detector in fp32 and in bf16 on the same batches and compares the smoothed losses.
import { join } from 'node:path'
import { train } from '../../lib/tasks/train.js'
import { preparedFixture } from '../train/prepared-fixture.js'
import { tinyRun } from './training.js'

/** Losses of the updates of one run. */
async function losses(home: string, data: string, precision: 'fp32' | 'bf16', steps: number): Promise<number[]> {
  const config = tinyRun(data, join(home, 'runs'))
  Object.assign(config.run, { precision, pictures: 0 })
  const schedule = { ...config.train.schedule, kind: 'cosine' as const, warmupSteps: 10 }
  config.train.phases = [{ ...config.train.phases![0]!, epochs: 1, stepsPerEpoch: steps, schedule }]
  const run = train(config, { name: precision })
  const list: number[] = []
  for await (const event of run.events()) if (event.type === 'iteration') list.push(event.loss)
  await run.done
  return list
}

/** The largest relative difference between the means over `window` updates, and the first and last of those means in fp32. */
export async function precisionDifference(
  home: string,
  steps: number,
  window: number,
): Promise<{ worst: number; first: number; last: number }> {
  const data = await preparedFixture(join(home, 'prepared'), { train: 8, val: 2 })
  const [fp32, bf16] = [await losses(home, data, 'fp32', steps), await losses(home, data, 'bf16', steps)]
  if (fp32.length !== steps || bf16.length !== steps) throw new Error(`${fp32.length} and ${bf16.length} updates`)
  if (fp32.every((loss, i) => loss === bf16[i])) throw new Error('the two runs are the same')
  const smooth = (list: number[]) =>
    list.slice(window - 1).map((_, i) => list.slice(i, i + window).reduce((sum, loss) => sum + loss, 0) / window)
  const [a, b] = [smooth(fp32), smooth(bf16)]
  return { worst: Math.max(...a.map((mean, i) => Math.abs(b[i]! - mean) / mean)), first: a[0]!, last: a.at(-1)! }
}
