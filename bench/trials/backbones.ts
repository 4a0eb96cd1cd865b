// One backbone at one size: a training step or an inference, with the parameters and multiply-adds of body and whole detector. The mammo
// rules (P3 to P7, one grey channel), batch norms frozen as with published weights, random weights, everything trained, batch 1.
import { native, openSession } from '../../lib/binding/session.js'
import { sessionConfig } from '../../lib/config/detector.js'
import { defaultConfig } from '../../lib/config/load.js'
import { timed } from '../statistics.js'
import type { Measurement } from '../trials.js'
import { networkMacs } from './flops.js'
import { lesionTargets, noiseBatch, plainStep, residentBytes } from './model.js'

export interface BackboneSetting {
  backbone: string
  size: number
  work: 'train' | 'infer'
  threads: number
  /** Timed runs after one that is not counted. */
  count: number
}

export async function measure(options: Record<string, unknown>): Promise<Measurement> {
  const { backbone, size, work, threads, count } = options as unknown as BackboneSetting
  await native().configure(threads)
  const config = defaultConfig('mammo', backbone)
  config.model.norm = 'frozen'
  config.run.deterministic = false
  config.train.optimizer = 'sgd'
  const session = await openSession(sessionConfig(config))
  const setting = { height: size, width: size, batch: 1 }
  const batch = noiseBatch(setting)
  const targets = lesionTargets(setting)
  const parameters = await session.parameters()
  const trained = (prefix: string) =>
    parameters
      .filter(({ name, role }) => name.startsWith(prefix) && role !== 'buffer')
      .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)
  const macs = await networkMacs(session.config.detector.model, parameters, size, size)
  const baseBytes = residentBytes('VmRSS')
  const step = { ...plainStep, lr: 1e-5, skipNonFinite: true }
  const run = work === 'train' ? () => session.trainStep(batch, targets, step) : () => session.detect(batch)
  const seconds = await timed(run, 1, count, 0, count)
  await session.dispose()
  const extra = {
    bodyParameters: trained('backbone.'),
    parameters: trained(''),
    bodyMacs: macs.body,
    macs: macs.body + macs.rest,
  }
  return { seconds, peakBytes: residentBytes('VmHWM'), baseBytes, extra }
}
